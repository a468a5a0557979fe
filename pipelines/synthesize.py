"""Synthetic people, one Ray task each: portraits with everything that physical buffers lack, and their true codes.

    python pipelines/synthesize.py --out runs/population --people 64 --photos 6

The same command goes on where it stopped. Light to import, since every worker does.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import ray
import torch
from ray.exceptions import RayTaskError

from drig import config as configs
from drig.data.synthetic import write_people
from drig.errors import DrigError
from pipelines import progress
from pipelines.cluster import ClusterConfig, ray_cluster
from pipelines.run_folder import absolute

PHOTO_SIZE = 256
"""Side of the portraits, pixels: faces are found at full detail and shrunk to the rig's size afterwards."""
SHEET_PEOPLE, SHEET_PHOTOS = 8, 8
"""Of the contact sheet."""


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """Synthetic people to practise on: portraits with everything that physical buffers lack."""

    out: Path
    """Folder for out/person_0000/00.png and the ground truth beside it (00.safetensors), on every node."""
    people: int = 8
    """How many people."""
    photos: int = 8
    """Portraits of each person, differing in pose, expression, light, camera, clothes and background."""
    size: int = PHOTO_SIZE
    """Side in pixels."""
    seed: int = 0
    """The same seed gives the same people."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        for name, least in (("people", 1), ("photos", 1), ("size", 32)):
            if getattr(self, name) < least:
                raise DrigError(f"--{name} is {getattr(self, name)}; give {least} or more")


def synthesize(config: SynthConfig) -> None:
    """Render the people and a sheet of samples."""
    from drig.data.photos import read_photo, save_png
    from drig.pictures import contact_sheet

    with ray_cluster(config.cluster):
        folder = render_people(
            Path(absolute(str(config.out))), config.people, config.photos, config.seed, size=config.size
        )
    people = islice(sorted(folder.glob("person_*")), SHEET_PEOPLE)
    rows = [[read_photo(path) for path in islice(sorted(person.glob("*.png")), SHEET_PHOTOS)] for person in people]
    sheet = folder.with_name(f"{folder.name}.png")  # not within: it is no portrait to learn from
    save_png(sheet, contact_sheet(rows, cell=128))
    print(f"{config.people * config.photos} portraits in {folder}; samples: {sheet}")


def render_people(folder: Path, people: int, photos: int, seed: int, *, size: int = PHOTO_SIZE) -> Path:
    """Synthetic people, one Ray task each; those that are there already are kept. Raises DrigError for other people."""
    render = ray.remote(num_cpus=1)(_render_person)
    with progress.bar(total=people * photos, unit="portrait", title=folder.name) as bar:
        try:
            # The first compiles the loops for all: four workers at once on two cores take three times as long.
            bar.update(ray.get(render.remote(folder, 0, photos, seed, size)))
            pending = [render.remote(folder, person, photos, seed, size) for person in range(1, people)]
            while pending:
                done, pending = ray.wait(pending)
                bar.update(sum(ray.get(done)))
        except RayTaskError as error:
            raise error.cause from error  # what a task raised, without the worker's traceback in its text
    return folder


def _render_person(folder: Path, person: int, photos: int, seed: int, size: int) -> int:
    torch.set_num_threads(1)
    return len(list(write_people(folder, people=range(person, person + 1), photos=photos, size=size, seed=seed)))


def main(argv: Sequence[str] | None = None, *, prog: str = "synthesize") -> int:
    """The command line; returns the exit code."""
    return configs.run(SynthConfig, synthesize, argv, prog=prog, description=SynthConfig.__doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
