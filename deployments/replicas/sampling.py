"""Edits that wait for the one thread that samples; those that can share a batch leave together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING

from deployments.messages import EditJob, Progress
from drig.errors import DrigError

if TYPE_CHECKING:
    from torch import Tensor

    from drig.editing import Edit, Editor, Plan


class Cancelled(Exception):
    """Nobody waits for this edit any more."""


@dataclass(eq=False)
class _Waiting:
    person: str
    editor: "Callable[[], Editor]"
    job: EditJob
    cancelled: Event
    tell: Callable[[Progress], None] | None
    since: float = field(default_factory=time.perf_counter)
    done: "Future[tuple[Edit, dict[str, float]]]" = field(default_factory=Future)


class Sampling:
    """A queue in front of a thread.

    Args:
        thread: of one worker: editors of deltas share a rig, which is one person's at a time.
        most: the most edits in one batch. 1 = each on its own.
        mixed: whether a batch may be of several people; False = of one.
    """

    def __init__(self, thread: ThreadPoolExecutor, most: int, *, mixed: bool) -> None:
        self._thread, self._most, self._mixed = thread, most, mixed
        self._waiting: deque[_Waiting] = deque()
        self._lock = Lock()

    async def run(
        self,
        person: str,
        editor: "Callable[[], Editor]",
        job: EditJob,
        cancelled: Event,
        tell: Callable[[Progress], None] | None,
    ) -> "tuple[Edit, dict[str, float]]":
        """The edit, and how many seconds it waited (queue), rendered and sampled. Raises DrigError, and Cancelled.

        person: whose editor it is.
        """
        waiting = _Waiting(person, editor, job, cancelled, tell)
        with self._lock:
            self._waiting.append(waiting)
        self._thread.submit(self._next)
        return await asyncio.wrap_future(waiting.done)

    def _next(self) -> None:
        """Do what has waited longest, and with it what can go along; nothing if it went along with others already."""
        with self._lock:
            batch = self._take()
        if not batch:
            return
        try:
            self._sample(batch)
        except BaseException as error:  # a defect: everybody is told, and the next batch is tried
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(error)

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        for waiting in list(self._waiting):
            if len(batch) == self._most:
                break
            if not batch or self._alike(batch[0], waiting):
                self._waiting.remove(waiting)
                batch.append(waiting)
        return batch

    def _alike(self, one: _Waiting, other: _Waiting) -> bool:
        """Whether the two may be sampled in one batch, as far as can be told before they are planned."""
        same = (one.job.steps, one.job.sampler) == (other.job.steps, other.job.sampler)
        return same and (self._mixed or one.person == other.person)

    def _sample(self, batch: Sequence[_Waiting]) -> None:
        from drig.editing import edit_together

        started = time.perf_counter()
        planned = [(waiting, plan) for waiting in batch if (plan := _plan(waiting)) is not None]
        while planned:
            together, planned = _of_one_rig(planned)
            group, plans = [waiting for waiting, _ in together], [plan for _, plan in together]
            steps, sampler = group[0].job.steps, group[0].job.sampler
            rendered = time.perf_counter()
            try:
                edits = edit_together(plans, steps=steps, sampler=sampler, on_step=partial(_tell, group))
            except (Cancelled, DrigError) as error:
                for waiting in group:
                    waiting.done.set_exception(error)
                continue
            sampled = time.perf_counter()
            for waiting, edit in zip(group, edits, strict=True):
                timings = {
                    "queue": started - waiting.since,
                    "render": rendered - started,
                    "sample": sampled - rendered,
                }
                waiting.done.set_result((edit, timings))


def _plan(waiting: _Waiting) -> "Plan | None":
    """The edit, ready to be sampled; None where nobody waits any more, or it cannot be, which is told."""
    from deployments.replicas.transport import unpack
    from drig.faces.controls import Controls

    if waiting.cancelled.is_set():
        waiting.done.set_exception(Cancelled())
        return None
    job = waiting.job
    try:
        editor = waiting.editor()
        if job.source.head != editor.head.name:
            raise DrigError(
                f"this identity was trained with the head {editor.head.name!r}, and photos are read here with "
                f"{job.source.head!r}, the base rig's; serve it with a base of its own head"
            )
        target = None if job.target is None else unpack(job.target)
        controls = Controls(**job.controls)
        return editor.plan(unpack(job.source), target, modes=job.modes, controls=controls, seed=job.seed)
    except Exception as error:
        waiting.done.set_exception(error)
        return None


def _of_one_rig(
    planned: "Sequence[tuple[_Waiting, Plan]]",
) -> "tuple[list[tuple[_Waiting, Plan]], list[tuple[_Waiting, Plan]]]":
    """Those that can be one batch with the first, and the others."""
    first = planned[0][1].editor
    together: list[tuple[_Waiting, Plan]] = []
    others: list[tuple[_Waiting, Plan]] = []
    for waiting, plan in planned:
        (together if plan.editor.samples_with(first) else others).append((waiting, plan))
    return together, others


def _tell(group: Sequence[_Waiting], step: int, steps: int, images: "Tensor") -> None:
    """Stops a batch that nobody waits for, and shows those who want to see what they get so far."""
    if all(waiting.cancelled.is_set() for waiting in group):
        raise Cancelled
    from deployments.replicas.transport import encode_png
    from drig.data.photos import to_photo
    from drig.previews import resized

    for i, waiting in enumerate(group):
        if waiting.tell is not None:
            picture = to_photo(images[i])
            size = waiting.job.size or len(picture)
            waiting.tell(Progress(step, steps, encode_png(resized(picture, size))))
