"""Who works on which identity, when many workers share many identities and any of them may die."""

from collections import Counter, deque
from collections.abc import Sequence


class IdentityQueue:
    """Gives every identity to one worker, and to a restarted worker its own back, which goes on from its checkpoint.

    An identity whose worker died `attempts` times is given up, so that one that kills its workers does not stop the
    others. Runs as an actor; workers are told apart by their rank, which a restart keeps. Results are opaque here.
    """

    def __init__(self, names: Sequence[str], attempts: int) -> None:
        self._waiting = deque(names)
        self._attempts = attempts
        self._taken: dict[int, str] = {}
        self._deaths: Counter[str] = Counter()
        self._results: dict[str, bytes] = {}

    def take(self, rank: int) -> str | None:
        """The next identity for this worker; None when there is none left."""
        if rank in self._taken and self._deaths[self._taken[rank]] >= self._attempts:
            del self._taken[rank]
        if rank not in self._taken and self._waiting:
            self._taken[rank] = self._waiting.popleft()
        return self._taken.get(rank)

    def died(self, rank: int) -> None:
        """The worker of this rank died, and with it the group: the others were ended, through no fault of theirs."""
        if rank in self._taken:
            self._deaths[self._taken[rank]] += 1

    def finish(self, rank: int, result: bytes) -> None:
        """The worker is done with what it took."""
        self._results[self._taken.pop(rank)] = result

    def results(self) -> dict[str, bytes]:
        """What was finished, by identity."""
        return self._results
