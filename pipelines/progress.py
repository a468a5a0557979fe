"""One progress bar on the driver's terminal for work that happens in many processes, on many machines.

Workers put absolute positions on a board, an actor, and the driver draws their sum. Positions instead of increments:
what a restarted worker repeats is not counted twice, and a bar may go back where work was lost.
"""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import ray
from tqdm import tqdm

if TYPE_CHECKING:
    from ray.actor import ActorHandle

POLL_S = 0.5


class Board:
    """Positions by name (a photo, a run, an identity), and facts to show beside their sum (a loss, a count)."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._facts: dict[str, str] = {}

    def put(self, positions: Mapping[str, int], facts: Mapping[str, str] | None = None) -> None:
        self._positions.update(positions)
        self._facts.update(facts or {})

    def read(self) -> tuple[int, dict[str, str]]:
        """The sum of all positions, and the facts."""
        return sum(self._positions.values()), self._facts


BoardHandle: TypeAlias = "ActorHandle[Board]"


def start_board() -> BoardHandle:
    """A board of its own, reachable from every worker that is given the handle. It ends when no handle is left."""
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Board)
    board: BoardHandle = actor.remote()
    return board


@contextmanager
def progress_bar(board: BoardHandle, *, total: int, unit: str, title: str) -> Iterator[None]:
    """Draws the board on stderr until the block ends: position, rate, time left and facts."""
    terminal = sys.stderr.isatty()
    stop = threading.Event()
    # Logs of a job keep every redraw: a line every 10 seconds is enough there.
    with tqdm(total=total, unit=unit, desc=title, mininterval=0.1 if terminal else 10.0, dynamic_ncols=terminal) as bar:
        thread = threading.Thread(target=_redraw, args=(board, bar, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _redraw(board: Any, bar: Any, stop: threading.Event) -> None:
    bar.set_postfix_str("starting workers")
    finished = started = False
    while not finished:
        finished = stop.wait(POLL_S)  # and then once more, so that the bar ends on the last position
        try:
            position, facts = ray.get(board.read.remote(), timeout=10.0)
        except ray.exceptions.RayError:
            continue  # the board is being restarted, or Ray is ending; the bar is a convenience, the work is not
        if position and not started:
            started = True
            bar.unpause()  # the rate is that of the work, not of the start-up before it
        if started:
            bar.set_postfix(facts, refresh=False)
            bar.update(position - bar.n)
