"""Who works on which identity, when many workers share many identities and any of them may die."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What came of one identity: a report, or the reason why there is none."""

    name: str
    report: dict[str, Any] = field(default_factory=dict)
    error: str = ""


class IdentityQueue:
    """Gives every identity to one worker, and to a restarted worker its own back, which goes on from its checkpoint.

    An identity whose worker died `attempts` times is given up, so that one that kills its workers does not stop the
    others. Runs as an actor; workers are told apart by their rank, which a restart keeps.
    """

    def __init__(self, names: Sequence[str], attempts: int) -> None:
        self._waiting = deque(names)
        self._attempts = attempts
        self._taken: dict[int, str] = {}
        self._starts: Counter[str] = Counter()
        self._outcomes: list[Outcome] = []

    def take(self, rank: int) -> str | None:
        """The next identity for this worker; None when there is none left."""
        name = self._taken.pop(rank, None)
        if name is not None and self._starts[name] >= self._attempts:
            self._outcomes.append(Outcome(name, error=f"its worker died {self._attempts} times"))
            name = None
        if name is None and self._waiting:
            name = self._waiting.popleft()
        if name is not None:
            self._taken[rank] = name
            self._starts[name] += 1
        return name

    def finish(self, rank: int, outcome: Outcome) -> None:
        del self._taken[rank]
        self._outcomes.append(outcome)

    def outcomes(self) -> list[Outcome]:
        """What is finished so far, in that order."""
        return self._outcomes
