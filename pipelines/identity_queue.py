"""Who is next, when many workers share many identities and any of them may die."""

import heapq
from collections import Counter
from collections.abc import Mapping


class IdentityQueue:
    """Gives every identity to one worker, those of higher priority first, then in their order.

    An identity whose worker died is given out again, before others of its priority; it goes on from its checkpoint.
    """

    def __init__(self, priorities: Mapping[str, float], attempts: int) -> None:
        self._places = {name: (-priority, i, name) for i, (name, priority) in enumerate(priorities.items())}
        self._waiting = list(self._places.values())
        heapq.heapify(self._waiting)
        self._attempts = attempts
        self._deaths: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self) -> str | None:
        """The next identity; None when none waits."""
        return heapq.heappop(self._waiting)[-1] if self._waiting else None

    def died(self, name: str, *, blame: bool = True) -> bool:
        """The worker of this identity died. Whether it waits again: one that ended `attempts` workers is given up.

        blame: False where it is known not to be the identity's fault.
        """
        self._deaths[name] += blame
        again = self._deaths[name] < self._attempts
        if again:
            heapq.heappush(self._waiting, self._places[name])
        return again
