"""Synthetic people -> buffer stores of two sizes, in any number of processes, one person at a time.

Each portrait is there three times: with the buffers of a photo of somebody unknown, of somebody of whom one other photo
is known, and of whom an album is (`drig.faces.likeness`): a base rig meets all three. Everything is a function of the
person's number: rendering goes on where it stopped, and a training may read what is there so far.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from drig.data.records import Record, encode, records_of
from drig.data.store import BufferStoreWriter
from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.faces.codes import FaceCodes
from drig.faces.estimators import estimate, to_pictures
from drig.faces.fit import Fit
from drig.faces.likeness import NOBODY, Likeness
from drig.faces.open_head import OpenHead
from drig.faces.portraits import DETAIL, trusted_portrait
from drig.faces.regressor import Regressor
from drig.faces.unwrapping import unwrap
from drig.randomness import numpy_generator
from drig.training.base.detection import DetectorErrors, Floats

SEED = 5_000_003
"""Of the people: neither the evaluation's nor the quickstart's."""
PHOTOS = 8
"""Portraits of each person: what an album might have."""
KNOWLEDGE = ("unknown", "one", "others")
"""What the buffers of a portrait know of the person beside it: nothing, one other photo, all others."""
RECORDS = len(KNOWLEDGE) * PHOTOS
"""Of each person in a store."""
DRAWN = 256
"""Side at which they are rendered, pixels."""
SIZES = (128, 64)
"""Of the stores that there may be."""
_AHEAD, _SHARD = 64, 256  # people that wait to be written; faces that a killed run loses

Encoded = list[tuple[int, str, bytes]]
"""Size, key and record."""
Reading = tuple[Likeness, FaceCodes]
"""Of one photo."""


def store_of(folder: Path, size: int) -> Path:
    return folder / f"buffers{size}"


def render(
    folder: Path,
    people: range,
    workers: int,
    *,
    sizes: Sequence[int] = SIZES,
    on_person: Callable[[], object] | None = None,
) -> None:
    """Write these people to the stores of these sizes; those that are there already are kept."""
    with ExitStack() as stack:
        writers = {
            size: stack.enter_context(
                BufferStoreWriter(store_of(folder, size), size=size, head="open", estimator="fit", shard=_SHARD)
            )
            for size in sizes
        }
        done = set.intersection(*(writer.done for writer in writers.values()))
        todo = [index for index in people if _key(index, PHOTOS - 1, KNOWLEDGE[-1]) not in done]
        pool = stack.enter_context(ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)))
        for records in _in_order(pool, todo, sizes):
            for size, key, record in records:
                writers[size].put_encoded(key, record)
            if on_person:
                on_person()


def render_person(index: int, sizes: Sequence[int]) -> Encoded:
    """The records of one person's portraits, at each size, with what the estimator makes of them."""
    head, estimator, errors = _tools()
    person = sample_person(head, SEED, index)
    made = [render_portrait(head, person, sample_shot(person, photo), DRAWN) for photo in range(PHOTOS)]
    read = []
    for photo, portrait in enumerate(made):
        rng = numpy_generator(SEED, "detection", index, photo)
        found = errors.detect(portrait.landmarks, portrait.codes.pose[0, :3], rng)
        read.append(replace(trusted_portrait(portrait.image, DETAIL), landmarks=found))
    codes, landmarks = estimate(estimator, read), np.stack([portrait.landmarks for portrait in read])
    images = {size: np.stack([trusted_portrait(m.image, size).image for m in made]) for size in sizes}
    readings = _readings(head, estimator, codes, np.stack([portrait.seen for portrait in read]))
    records = Encoded()
    for knowledge, reading in zip(KNOWLEDGE, readings, strict=True):
        for photo, (likeness, own) in enumerate(reading):
            for size in sizes:
                key, image = _key(index, photo, knowledge), images[size][photo]
                record = _record(head, likeness, key, own, image, landmarks[photo])
                records.append((size, key, encode(record)))
    return records


def _readings(head: OpenHead, estimator: Fit, codes: FaceCodes, photos: NDArray[np.uint8]) -> list[list[Reading]]:
    """For each of KNOWLEDGE what is known of the person in each of N photos (N, D, D, 3), and how each is then read.

    As an editor does: who knows an album reads a photo again by it; what one photo shows is too little for that.
    """
    count = len(photos)
    single = [Likeness.of_skins(head, codes[i : i + 1], photos[i : i + 1])[0] for i in range(count)]
    one = single[1:] + single[:1]
    likeness, unwrapped = Likeness.of_skins(head, codes, photos)
    shaped = likeness.shaped(likeness.own(head, codes))
    again, _ = estimator.refit(to_pictures(photos), shaped, unwrapped.detail_of_others())
    others = unwrap(head, again, photos).detail_of_others()
    return [
        [(NOBODY, codes[i]) for i in range(count)],
        [(one[i], one[i].own(head, codes[i])) for i in range(count)],
        [(replace(likeness, skin_detail=others[i : i + 1]), again[i]) for i in range(count)],
    ]


@torch.no_grad()
def _record(
    head: OpenHead, likeness: Likeness, key: str, codes: FaceCodes, image: NDArray[np.uint8], landmarks: Floats
) -> Record:
    """Of a portrait (S, S, 3) with the buffers of somebody of that likeness, whose codes these are."""
    buffers = likeness.buffers(head, codes, codes, len(image))
    return records_of([key], image[None], landmarks[None], codes, buffers)[0]


def _key(index: int, photo: int, knowledge: str) -> str:
    return f"person_{index:06d}/{photo:02d}/{knowledge}"


def shows_detail(key: str) -> bool:
    """Whether the buffers of the record with that key show the detail of the person's skin."""
    return not key.endswith(f"/{KNOWLEDGE[0]}")


@cache
def _tools() -> tuple[OpenHead, Fit, DetectorErrors]:
    head = OpenHead.load()
    return head, Fit(head, Regressor.load()), DetectorErrors.load()


def _in_order(pool: ProcessPoolExecutor, todo: list[int], sizes: Sequence[int]) -> Iterator[Encoded]:
    """Each person's records, the people in their order, few of them ahead of whoever takes them."""
    waiting = [pool.submit(render_person, index, sizes) for index in todo[:_AHEAD]]
    for index in [*todo[_AHEAD:], *[None] * _AHEAD]:
        if not waiting:
            return
        yield waiting.pop(0).result()
        if index is not None:
            waiting.append(pool.submit(render_person, index, sizes))
