"""What is kept of uploaded photos, how much and for how long."""

import asyncio

import numpy as np

from deployments.messages import Source
from deployments.replicas.sources import Shelf, Sources, face_bytes
from tests.deployments.replicas.faces import found_face


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_shelf_keeps_so_many_bytes_and_drops_what_was_used_least_recently() -> None:
    shelf: Shelf[str] = Shelf(10, 60, Clock())
    for name in "abc":
        shelf.put(name, name.upper(), 4)
        assert shelf.get("a") == "A"  # and is used last
    assert (shelf.get("b"), shelf.get("c"), shelf.bytes, len(shelf)) == (None, "C", 8, 2)


def test_a_shelf_keeps_nothing_longer_than_told_after_its_last_use() -> None:
    clock = Clock()
    shelf: Shelf[str] = Shelf(10, 60, clock)
    shelf.put("a", "A", 1)
    shelf.put("b", "B", 1)
    clock.now = 50
    assert shelf.get("a") == "A"
    clock.now = 70
    assert (shelf.get("b"), shelf.get("a"), shelf.bytes) == (None, "A", 1)
    clock.now = 131
    assert (shelf.get("a"), len(shelf), shelf.bytes) == (None, 0, 0)


def test_what_is_put_again_replaces_itself_and_the_newest_always_stays() -> None:
    shelf: Shelf[str] = Shelf(10, 60, Clock())
    shelf.put("a", "old", 9)
    shelf.put("a", "new", 99)
    assert (shelf.get("a"), shelf.bytes) == ("new", 99)
    shelf.put("b", "B", 1)
    assert (shelf.get("a"), shelf.bytes) == (None, 1)
    assert shelf.remove("b")
    assert not shelf.remove("b")


def test_sources_by_tokens_that_nobody_can_guess() -> None:
    async def use() -> None:
        sources, source = Sources(10_000_000, 60), Source(found_face(), b"photo")
        first, second = await sources.keep(source), await sources.keep(source)
        assert first != second
        assert len(first) >= 32
        assert await sources.source(first) is source
        bare = await sources.source(first, photo=False)
        assert bare is not None
        assert (bare.face, bare.photo) == (source.face, b"")
        assert await sources.face(first) is source.face
        assert await sources.touch((first, "guess", second)) == ("guess",)
        assert await sources.forget(first)
        assert not await sources.forget(first)
        assert await sources.source(first) is None
        assert await sources.source(second) is source

    asyncio.run(use())


def test_many_uploads_take_a_bounded_memory() -> None:
    async def use() -> int:
        face = found_face(size=64)
        sources = Sources(3 * (face_bytes(face) + 1000), 60)
        tokens = [await sources.keep(Source(face, bytes(1000))) for _ in range(10)]
        return len(tokens) - len(await sources.touch(tuple(tokens)))

    assert asyncio.run(use()) == 3
    assert face_bytes(found_face(size=64)) > np.zeros((64, 64, 3), np.uint8).nbytes
