"""One progress bar on the driver's terminal for work that happens in many processes, on many machines.

Workers put absolute positions on a board, an actor, and the driver draws their sum. Positions instead of increments:
what a restarted worker repeats is not counted twice, and a bar may go back where work was lost.
"""

import io
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from tqdm import tqdm

from drig import logs
from drig.tracking import Run

POLL_S = 0.5
LOG_S = 5.0


class Positions:
    """Positions by name (a photo, a run, an identity), and facts to show beside their sum (a loss, a count)."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._facts: dict[str, str] = {}

    def put(self, positions: Mapping[str, int], facts: Mapping[str, str]) -> None:
        self._positions.update(positions)
        self._facts.update(facts)

    def read(self) -> tuple[int, dict[str, str]]:
        """The sum of all positions, and the facts."""
        return sum(self._positions.values()), self._facts


class Board:
    """Positions that every process of the cluster can put and read. Picklable; it ends when no copy is left."""

    def __init__(self) -> None:
        self._actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Positions).remote()

    def put(self, positions: Mapping[str, int], facts: Mapping[str, str] | None = None) -> None:
        """Note where the named pieces of work are; does not wait."""
        self._actor.put.remote(positions, facts or {})

    def read(self) -> tuple[int, dict[str, str]]:
        """The sum of all positions, and the facts. Raises RayError while the board is being restarted."""
        total, facts = ray.get(self._actor.read.remote(), timeout=10.0)
        return total, facts


class TrackedCounts:
    """Counts of work on a bar and in MLflow: done, photos a second, seconds left, and what else is counted.

    Args:
        before: pieces that earlier runs of the same work have done; MLflow's curves go on there.
    """

    def __init__(self, drawn: Any, run: Run, *, before: int) -> None:
        self._bar, self._run, self._before = drawn, run, before
        self._started = self._logged = time.monotonic()

    def put(self, done: int, **counts: int) -> None:
        """So much of the bar's total is done, at least one piece."""
        self._bar.set_postfix(counts, refresh=False)
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        if now - self._logged >= LOG_S or done == self._bar.total:
            seconds = now - self._started
            metrics = {
                "done": self._before + done,
                f"{self._bar.unit}s_per_second": done / seconds,
                "seconds_left": seconds / done * (self._bar.total - done),
                **counts,
            }
            self._run.log_metrics(metrics, samples=self._before + done)
            self._logged = now


def bar(*, total: int, unit: str, title: str) -> Any:
    """A tqdm bar on stderr; logs of a job keep every redraw, so that there it is a line every 10 seconds."""
    if logs.wanted():
        return EventBar(total=total, unit=unit, desc=title, mininterval=10.0, file=io.StringIO())
    terminal = sys.stderr.isatty()
    return tqdm(total=total, unit=unit, desc=title, mininterval=0.1 if terminal else 10.0, dynamic_ncols=terminal)


class EventBar(tqdm):  # type: ignore[type-arg]
    """A bar whose redraws are events, for logs that hold nothing else."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        rate = self.format_dict["rate"]
        per_second = None if rate is None else round(rate, 3)
        facts = str(self.postfix or "") or None
        logs.event("progress", work=self.desc, done=self.n, total=self.total, per_second=per_second, facts=facts)


@contextmanager
def board_bar(board: Board, *, total: int, unit: str, title: str) -> Iterator[None]:
    """Draws the board until the block ends: position, rate, time left and facts."""
    stop = threading.Event()
    with bar(total=total, unit=unit, title=title) as drawn:
        thread = threading.Thread(target=_redraw, args=(board, drawn, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _redraw(board: Board, bar: Any, stop: threading.Event) -> None:
    bar.set_postfix_str("starting workers")
    finished = started = False
    while not finished:
        finished = stop.wait(POLL_S)  # and then once more, so that the bar ends on the last position
        try:
            position, facts = board.read()
        except ray.exceptions.RayError:
            continue  # the board is being restarted, or Ray is ending; the bar is a convenience, the work is not
        if position and not started:
            started = True
            bar.unpause()  # the rate is that of the work, not of the start-up before it
        if started:
            bar.set_postfix(facts, refresh=False)
            bar.update(position - bar.n)
