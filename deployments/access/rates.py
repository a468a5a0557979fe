"""How often a key may ask: a sliding minute for each key, by the library `limits`.

Counted in the memory of one ingress: with several, each allows its share of the whole.
"""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from deployments.access.keys import Key
from drig.errors import DrigError

SMALL_ONES = 20
"""So many small requests count as one: a hand that drags a light asks for ten previews a second."""


class TooMany(DrigError):
    """A key asked too often; `retry_after` says in how many seconds it may again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rates:
    """Counts requests by key.

    Args:
        share: of each key's rate that is allowed here, 1 / number of ingresses.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._share = share

    def count(self, key: Key, *, small: bool = False) -> None:
        """Count a request. Raises TooMany for one that is over the key's limit; it is not counted then."""
        if not key.per_minute:
            return
        allowed = max(1, math.ceil(key.per_minute * self._share))
        item = RateLimitItemPerMinute(allowed * SMALL_ONES)
        if not self._limiter.hit(item, key.id, cost=1 if small else SMALL_ONES):
            again = max(1, math.ceil(self._limiter.get_window_stats(item, key.id).reset_time - time.time()))
            raise TooMany(f"the key {key.name!r} may ask {allowed} times a minute here; wait {again} seconds", again)
