"""A photo that kills whoever reads it: found by who was at what when they died, and rejected, so that the rest goes on.

Decoders and detectors are native code, where a damaged file can end the process instead of raising. Ray then starts
another process with the same photos, again and again.
"""

from collections import Counter
from typing import Any

import ray

from drig.faces.portraits import Portrait
from pipelines.face_mappers import Batch, PortraitFinder

TOGETHER = 2
"""Processes that may die on a group of photos before they are read one at a time."""
REASON = "the process that reads it dies; the file is damaged in a way that its decoder does not survive"


class Begun:
    """What was begun and not ended, and how often."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()

    def begin(self, work: str) -> int:
        """How often it was begun before without an end."""
        before = self._times[work]
        self._times[work] += 1
        return before

    def end(self, work: str) -> None:
        del self._times[work]


class CarefulFinder(PortraitFinder):
    """A `PortraitFinder` in one of Ray's processes, which tells an actor (`Begun`) what it is at."""

    def __init__(self, begun: Any, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._begun = begun
        self._one_at_a_time = False

    def __call__(self, batch: Batch) -> Batch:
        group = f"group of {batch['source'][0]}"
        self._one_at_a_time = ray.get(self._begun.begin.remote(group)) >= TOGETHER
        found = super().__call__(batch)
        self._begun.end.remote(group)
        return found

    def _find(self, source: str) -> tuple[Portrait, str, bool]:
        if not self._one_at_a_time:
            return super()._find(source)
        if ray.get(self._begun.begin.remote(source)):
            return self.nothing(REASON)
        found = super()._find(source)
        self._begun.end.remote(source)
        return found
