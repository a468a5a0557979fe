"""Synthetic people on disk: `person_0007/03.png`, and beside it `03.safetensors` with the truth.

The truth's tensors are the fields of FaceCodes, each without its batch dimension, and `landmarks` (68, 2) in image NDC;
its metadata say which head model gives the codes their meaning, and how the portrait can be made again.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from drig import storage
from drig.data.photos import save_png
from drig.data.synthetic.people import sample_person
from drig.data.synthetic.render import render_portrait
from drig.data.synthetic.shots import sample_shot
from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.open_head import OpenHead

_VERSION = 1
"""Of the pictures: raised whenever the same seed would give others."""


def write_people(
    out: Path, *, people: range, photos: int, size: int, seed: int, head: OpenHead | None = None
) -> Iterator[Path]:
    """Renders `photos` portraits of each of `people` into `out`, and yields each picture's path once it is there.

    Every portrait is a function of (seed, person, photo, size) alone, so several processes may share the work. What is
    already there is kept; portraits of another seed or size are a DrigError. Nothing is ever half written.
    """
    head = head or OpenHead.load()
    for index in people:
        person = None
        for photo in range(photos):
            picture = Path(out) / f"person_{index:04d}" / f"{photo:02d}.png"
            recipe = {
                "version": _VERSION,
                "seed": seed,
                "person": index,
                "photo": photo,
                "size": size,
                "head": head.name,
            }
            if not _is_made(picture, recipe):
                person = person or sample_person(head, seed, index)
                portrait = render_portrait(head, person, sample_shot(person, photo), size)
                truth = {name: value[0].contiguous() for name, value in portrait.codes.as_dict().items()}
                truth["landmarks"] = torch.from_numpy(np.ascontiguousarray(portrait.landmarks))
                storage.write_bytes(_truth_path(picture), save(truth, {"recipe": json.dumps(recipe)}))
                save_png(picture, portrait.image)  # last: where the picture is, everything is
            yield picture


def read_truth(picture: Path) -> tuple[FaceCodes, Tensor]:
    """The codes (one face) and landmarks (68, 2) of a written portrait. DrigError if there are none beside it."""
    tensors, _ = _open_truth(picture)
    landmarks = tensors.pop("landmarks")
    return FaceCodes.from_dict({name: value[None] for name, value in tensors.items()}), landmarks


def _truth_path(picture: Path) -> Path:
    return picture.with_suffix(".safetensors")


def _open_truth(picture: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(_truth_path(picture), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["recipe"])  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DrigError(
            f"{picture} has no readable {_truth_path(picture).name} beside it ({error}); delete both and render again"
        ) from None


def _is_made(picture: Path, recipe: dict[str, Any]) -> bool:
    if not picture.exists():
        return False
    _, made = _open_truth(picture)
    if made != recipe:
        different = [
            f"{name} {made.get(name)} instead of {value}" for name, value in recipe.items() if made.get(name) != value
        ]
        raise DrigError(f"{picture} was made with {', '.join(different)}; give another folder, or delete this one")
    return True
