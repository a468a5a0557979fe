"""What the ingress knows of the registry: the live version of every identity, also while the registry is away.

A thread lists the registry again and again, and who is in use is asked for again after seconds: a new version is live
within seconds, however long the list is. While the registry does not answer, what was known last goes on being served.
A name that is not known is asked for once.
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deployments.api.errors import Overloaded
from drig import logs
from drig.errors import DrigError
from drig.identities import BASE, Identities, IdentityInfo, UnknownIdentity

EVERY = 2.0
"""Seconds between two lists of the registry, at least."""
SHARE = 0.05
"""Most of the time that may be spent listing: 300 identities take 0.15 s, thousands take seconds."""
FRESH = 2.0
"""Seconds after which an identity that is in use is asked for again; one question takes milliseconds."""
BRIEFLY = 0.5
"""Seconds that a request waits for that answer, before it takes what is known."""
PATIENCE = 10.0
"""Seconds that a request waits for the registry's word on a name that is not known."""
ASKERS = 4
"""Names that are asked for at the same time."""


@dataclass(frozen=True)
class _Entry:
    info: IdentityInfo
    seen: float
    """When the registry was asked, on the monotonic clock."""


class Catalogue:
    """Live versions of the identities of a registry, kept fresh by a thread of its own between `start` and `close`."""

    def __init__(
        self, identities: Identities, *, every: float = EVERY, fresh: float = FRESH, patience: float = PATIENCE
    ) -> None:
        self._identities = identities
        self._every, self._fresh, self._patience = every, fresh, patience
        # Threads of its own: those that wait for a registry that hangs are not those that read uploads.
        self._asking = ThreadPoolExecutor(ASKERS, thread_name_prefix="asking")
        self._asked = 0  # of known names, at the moment
        self._known: dict[str, _Entry] = {}
        self._forgotten: dict[str, float] = {}  # when, of those that a list which is on its way may still hold
        self._away_since: float | None = None
        self._read = False
        self._changed = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look at the registry now, and from then on every few seconds. Never fails: see `problem`."""
        self.refresh()
        self._thread = threading.Thread(target=self._keep_fresh, name="catalogue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._asking.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            self._thread.join()

    @property
    def problem(self) -> str | None:
        """Why no edits can be made: nothing is known yet. None = they can."""
        if not self._read:
            return "the registry of identities has not answered yet"
        return None if BASE in self._known else "the registry has no base rig yet"

    @property
    def stale_seconds(self) -> float:
        """For how long the registry has been away; 0 = it answers."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    @property
    def largest(self) -> int:
        """The largest side of the known identities' portraits in pixels."""
        return max((entry.info.size for entry in self._known.values()), default=0)

    async def get(self, name: str) -> IdentityInfo:
        """The live version. Raises UnknownIdentity, and Overloaded for an unknown name while the registry is away."""
        known = self._known.get(name)
        if known is None:
            return await self._ask_in_time(name, self._patience)
        fresh = time.monotonic() - known.seen < self._fresh
        if fresh or self._away_since is not None or self._asked >= ASKERS:
            return known.info
        self._asked += 1
        try:
            return await self._ask_in_time(name, BRIEFLY)
        except Overloaded:
            return known.info
        finally:
            self._asked -= 1

    def list(self) -> Sequence[IdentityInfo]:
        """The live version of every identity, the base rig first, then by name."""
        if not self._read:
            raise _away()
        infos = [entry.info for entry in self._known.values()]
        return sorted(infos, key=lambda info: (info.name != BASE, info.name))

    def forget(self, name: str) -> None:
        """An identity was deleted: know it no longer."""
        with self._changed:
            self._forgotten[name] = time.monotonic()
            self._known = {other: entry for other, entry in self._known.items() if other != name}

    def refresh(self) -> None:
        """List the registry; what is known stays where it does not answer."""
        started = time.monotonic()
        try:
            listed = {info.name: _Entry(info, started) for info in self._identities.list()}
        except Exception as error:  # of MLflow, its database or the network, which have no common class
            self._is_away(error)
            return
        with self._changed:  # what was learnt while it was listed is newer
            self._forgotten = {name: when for name, when in self._forgotten.items() if when >= started}
            learnt = {name: entry for name, entry in self._known.items() if entry.seen >= started}
            listed = {name: entry for name, entry in listed.items() if name not in self._forgotten}
            self._known, self._read = listed | learnt, True
        if self._away_since is not None:
            print("the registry of identities answers again", file=sys.stderr, flush=True)
            logs.event("registry_back", seconds=round(self.stale_seconds, 1), identities=len(listed))
            self._away_since = None

    async def _ask_in_time(self, name: str, seconds: float) -> IdentityInfo:
        asking = asyncio.get_running_loop().run_in_executor(self._asking, self._ask, name)
        try:
            return await asyncio.wait_for(asking, seconds)
        except TimeoutError:
            raise _away(name) from None

    def _ask(self, name: str) -> IdentityInfo:
        if self._away_since is not None:
            raise _away(name)
        started = time.monotonic()
        try:
            info = self._identities.get(name)
        except UnknownIdentity:
            self.forget(name)
            raise
        except DrigError:  # a name that no identity can have
            raise
        except Exception as error:
            self._is_away(error)
            raise _away(name) from error
        with self._changed:
            self._known = {**self._known, name: _Entry(info, started)}
        return info

    def _is_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            reason = " ".join(str(error).split())
            known = f"{len(self._known)} identities are served as they were known last"
            print(f"the registry of identities does not answer, {known}: {reason}", file=sys.stderr, flush=True)
            logs.event("registry_away", level=logging.WARNING, reason=reason, identities=len(self._known))

    def _keep_fresh(self) -> None:
        pause = self._every
        while not self._stop.wait(pause):
            started = time.monotonic()
            self.refresh()
            pause = max(self._every, (time.monotonic() - started) / SHARE)


def _away(name: str | None = None) -> Overloaded:
    whose = "" if name is None else f", and {name!r} is not among the identities that are known here"
    return Overloaded(f"the registry of identities does not answer{whose}")
