"""Synthetic people on a cluster: one Ray task a person. Light to import, since every worker does."""

from pathlib import Path

import ray
import torch

from drig.data.synthetic import write_people
from pipelines import progress

PHOTO_SIZE = 256
"""Side of the portraits, pixels: faces are found at full detail and shrunk to the rig's size afterwards."""


def render_people(folder: Path, people: int, photos: int, seed: int) -> Path:
    """Synthetic people, one Ray task each; those that are there already are kept."""
    render = ray.remote(num_cpus=1)(_render_person)
    with progress.bar(total=people * photos, unit="portrait", title=folder.name) as bar:
        # The first compiles the loops for all: four workers at once on two cores take three times as long.
        bar.update(ray.get(render.remote(folder, 0, photos, seed)))
        pending = [render.remote(folder, person, photos, seed) for person in range(1, people)]
        while pending:
            done, pending = ray.wait(pending)
            bar.update(sum(ray.get(done)))
    return folder


def _render_person(folder: Path, person: int, photos: int, seed: int) -> int:
    torch.set_num_threads(1)
    return len(list(write_people(folder, people=range(person, person + 1), photos=photos, size=PHOTO_SIZE, seed=seed)))
