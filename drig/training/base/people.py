"""Synthetic people -> buffer stores of two sizes, in any number of processes, one person at a time.

Everything is a function of the person's number: rendering goes on where it stopped, and a training may read what is
there so far.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from drig.data.records import encode, records_of
from drig.data.store import BufferStoreWriter
from drig.data.synthetic import render_portrait, sample_person, sample_shot
from drig.faces.buffers import render_buffers
from drig.faces.estimators import Estimator, estimate, load_estimator
from drig.faces.open_head import OpenHead
from drig.faces.portraits import DETAIL, trusted_portrait
from drig.randomness import numpy_generator
from drig.training.base.detection import DetectorErrors

SEED = 5_000_003
"""Of the people: neither the evaluation's nor the quickstart's."""
PHOTOS = 4
"""Portraits of each person."""
DRAWN = 256
"""Side at which they are rendered, pixels."""
SIZES = (128, 64)
"""Of the stores."""
_AHEAD, _SHARD = 64, 256  # people that wait to be written; faces that a killed run loses

Encoded = list[tuple[int, str, bytes]]
"""Size, key and record."""


def store_of(folder: Path, size: int) -> Path:
    return folder / f"buffers{size}"


def render(folder: Path, people: range, workers: int, on_person: Callable[[], object] | None = None) -> None:
    """Write the stores of these people; those that are there already are kept."""
    with ExitStack() as stack:
        writers = {
            size: stack.enter_context(
                BufferStoreWriter(store_of(folder, size), size=size, head="open", estimator="fit", shard=_SHARD)
            )
            for size in SIZES
        }
        done = set.intersection(*(writer.done for writer in writers.values()))
        todo = [index for index in people if _key(index, PHOTOS - 1) not in done]
        pool = stack.enter_context(ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)))
        for records in _in_order(pool, todo):
            for size, key, record in records:
                writers[size].put_encoded(key, record)
            if on_person:
                on_person()


def render_person(index: int) -> Encoded:
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
    keys, records = [_key(index, photo) for photo in range(PHOTOS)], Encoded()
    for size in SIZES:
        images = np.stack([trusted_portrait(m.image, size).image for m in made])  # (N, S, S, 3)
        with torch.no_grad():
            buffers = render_buffers(head, codes, size)
        records += [(size, r.key, encode(r)) for r in records_of(keys, images, landmarks, codes, buffers)]
    return records


def _key(index: int, photo: int) -> str:
    return f"person_{index:06d}/{photo:02d}"


@cache
def _tools() -> tuple[OpenHead, Estimator, DetectorErrors]:
    head = OpenHead.load()
    return head, load_estimator("fit", head), DetectorErrors.load()


def _in_order(pool: ProcessPoolExecutor, todo: list[int]) -> Iterator[Encoded]:
    """Each person's records, the people in their order, few of them ahead of whoever takes them."""
    waiting = [pool.submit(render_person, index) for index in todo[:_AHEAD]]
    for index in [*todo[_AHEAD:], *[None] * _AHEAD]:
        if not waiting:
            return
        yield waiting.pop(0).result()
        if index is not None:
            waiting.append(pool.submit(render_person, index))
