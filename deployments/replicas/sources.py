"""Uploaded photos and the faces in them, by token: in memory alone, a bounded number of bytes, for a bounded time."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from deployments.messages import FoundFace, Source

Item = TypeVar("Item")


@dataclass
class _Kept(Generic[Item]):
    item: Item
    size: int
    used: float


class Shelf(Generic[Item]):
    """Items by name; the least recently used make room, and none stays longer than `seconds` after its last use."""

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._seconds, self._clock = most_bytes, seconds, clock
        self._kept: OrderedDict[str, _Kept[Item]] = OrderedDict()  # least recently used first
        self.bytes = 0

    def put(self, name: str, item: Item, size: int) -> None:
        """Keep an item of so many bytes."""
        self.remove(name)
        self._kept[name] = _Kept(item, size, self._clock())
        self.bytes += size
        self._sweep()

    def get(self, name: str) -> Item | None:
        """An item, which counts as a use."""
        self._sweep()
        kept = self._kept.get(name)
        if kept is None:
            return None
        kept.used = self._clock()
        self._kept.move_to_end(name)
        return kept.item

    def remove(self, name: str) -> bool:
        """Drop an item; whether there was one."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            self.bytes -= kept.size
        return kept is not None

    def __len__(self) -> int:
        return len(self._kept)

    def _sweep(self) -> None:
        """Drops what is too old, and then the oldest while they are too many; the newest always stays."""
        oldest = self._clock() - self._seconds
        while self._kept:
            name, kept = next(iter(self._kept.items()))
            if kept.used >= oldest and (self.bytes <= self._most_bytes or len(self._kept) == 1):
                return
            self.remove(name)


class Sources:
    """The sources of all ingresses and replicas. If it dies its tokens are unknown, and clients upload again."""

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._shelf: Shelf[Source] = Shelf(most_bytes, seconds)

    async def keep(self, source: Source) -> str:
        """Keep a source; its token, which nobody can guess."""
        token = secrets.token_urlsafe(24)
        self._shelf.put(token, source, len(source.photo) + face_bytes(source.face))
        return token

    async def source(self, token: str, photo: bool = True) -> Source | None:
        """A source, now kept for longer; with or without its photo."""
        found = self._shelf.get(token)
        return found if found is None or photo else Source(found.face, b"")

    async def face(self, token: str) -> FoundFace | None:
        """The face of a source, now kept for longer."""
        found = self._shelf.get(token)
        return None if found is None else found.face

    async def touch(self, tokens: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the tokens that are unknown; the others are now kept for longer."""
        return tuple(token for token in tokens if self._shelf.get(token) is None)

    async def forget(self, token: str) -> bool:
        """Drop a source; whether there was one."""
        return self._shelf.remove(token)


def face_bytes(face: FoundFace) -> int:
    """What a face takes in memory, roughly."""
    return face.image.nbytes + face.landmarks.nbytes + sum(array.nbytes for array in face.codes.values())
