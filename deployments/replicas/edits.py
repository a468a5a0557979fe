"""Where edits happen: loads the editor of an identity and samples in a thread of its own.

A plain class: `deployments.app` adds Ray Serve's cache of editors and its replicas around it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from deployments.messages import Edited, EditJob, Progress, Refused, VideoJob, VideoProgress
from deployments.replicas.sampling import Sampling
from deployments.replicas.videos import edit_video
from drig.errors import DrigError
from drig.identities import BASE, Identities, IdentityInfo, UnknownIdentity

if TYPE_CHECKING:
    from drig.editing import Edit, Editor

BASES = 2
"""Base rigs kept in memory, shared by the people who are deltas over them: while one base replaces another, two."""


class Loaded:
    """Gives an editor, in the thread that samples, until its person is deleted."""

    def __init__(self, load: "Callable[[], Editor]") -> None:
        self._load: Callable[[], Editor] | None = load

    def __call__(self) -> "Editor":
        if self._load is None:
            raise UnknownIdentity("this identity was deleted")
        return self._load()

    def let_go(self) -> None:
        """Keep nothing of the person."""
        self._load = None


class EditReplica:
    """Edits with any identity of a registry.

    Args:
        tracking_uri: the MLflow store of the identities.
        device: where the rigs run, "cpu" or "cuda".
        rigs: whole rigs, of people who are no deltas, that stay in memory.
        batch: the most edits that are sampled together.
    """

    def __init__(self, tracking_uri: str, device: str, *, rigs: int = 4, batch: int = 1) -> None:
        # One thread: PyTorch blocks, so the event loop must not run it; two edits at once would only share the cores.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edit")
        self._sampling = Sampling(self._thread, batch)
        self._identities = Identities(tracking_uri)
        self._device = device
        self._loaded: WeakValueDictionary[str, Loaded] = WeakValueDictionary()  # what Serve's cache holds
        self._told: dict[str, IdentityInfo] = {}  # of those that were asked for, by the key that Serve knows them by
        self._bases: dict[str, Path] = {}  # base rigs by the hash of their tensors
        self._load_base = lru_cache(BASES)(self._load_whole)
        self._load_rig = lru_cache(rigs)(self._load_whole)
        # Ready means ready: no request waits for imports, for the base, or for a store that is not there.
        import drig.pasting
        import drig.previews  # noqa: F401

        self._load_base(self._weights(self._identities.ensure_base()))

    async def load_editor(self, identity: str) -> "Loaded":
        """What gives the editor of "name@version", in the thread that samples.

        A version never changes, so neither does what a cache holds under this key. Of a delta it holds the editor, of a
        whole rig only where it is: these are few, and this replica's own cache knows how many.
        """
        loaded = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, identity)
        self._loaded[identity] = loaded
        return loaded

    async def check_health(self) -> None:
        """Ray Serve asks this every few seconds: a time to let go of those who were deleted meanwhile."""
        await asyncio.to_thread(self._let_go)

    async def video(self, identity: IdentityInfo, job: VideoJob) -> AsyncGenerator[VideoProgress | Refused | bytes]:
        """How far a video is, again and again, and at last the MP4."""
        key = f"{identity.name}@{identity.version}"
        self._told[key] = identity
        try:
            editor = await self.load_editor(key)
        except DrigError as error:
            yield Refused(404 if isinstance(error, UnknownIdentity) else 500, str(error))
            return
        async with aclosing(edit_video(editor, job, self._thread)) as news:
            async for one in news:
                yield one

    async def edit(self, identity: IdentityInfo, job: EditJob) -> Edited | Refused:
        """Run one edit. What a user can mend is answered as Refused, anything else raises."""
        return await self._edit(identity, job, None)

    async def edit_in_steps(self, identity: IdentityInfo, job: EditJob) -> AsyncIterator[Progress | Edited | Refused]:
        """Run one edit; every step's picture, then the answer of `edit`. Closed, it stops at the next step."""
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Progress]()

        def tell(progress: Progress) -> None:
            loop.call_soon_threadsafe(told.put_nowait, progress)

        edit = asyncio.ensure_future(self._edit(identity, job, tell))
        try:
            while True:
                news = asyncio.ensure_future(told.get())
                await asyncio.wait((edit, news), return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    break
                yield news.result()
            yield edit.result()
        finally:
            edit.cancel()

    async def _edit(
        self, identity: IdentityInfo, job: EditJob, tell: Callable[[Progress], None] | None
    ) -> Edited | Refused:
        key, arrived, cancelled = f"{identity.name}@{identity.version}", time.perf_counter(), Event()
        self._told[key] = identity
        try:
            editor = await self.load_editor(key)
            loaded = time.perf_counter()
            try:
                edit, timings = await self._sampling.run(editor, job, cancelled, tell)
            except DrigError as error:
                return Refused(422, str(error))
            answer = await asyncio.to_thread(_answer, editor(), edit, job)
        except UnknownIdentity as error:  # deleted since the ingress looked it up
            return Refused(404, str(error))
        except DrigError as error:
            return await self._gone(identity) or Refused(500, f"the weights of {key} cannot be used: {error}")
        except asyncio.CancelledError:
            cancelled.set()
            raise
        pictures, buffers = answer
        return Edited(pictures, edit.warnings, buffers, {"load": loaded - arrived, **timings})

    async def _gone(self, identity: IdentityInfo) -> Refused | None:
        """The answer where files are missing because the identity was deleted since the ingress looked it up."""
        try:
            await asyncio.to_thread(self._identities.get, identity.name, identity.version)
        except UnknownIdentity as error:
            return Refused(404, str(error))
        except Exception:  # the registry is away: nothing is known of a deletion
            return None
        return None

    def _load(self, identity: str) -> "Loaded":
        info = self._told[identity]
        weights = self._weights(info)
        if info.base is not None and info.name != BASE:
            if info.base not in self._bases:
                found = self._identities.fetch_base(info.name, info.version)
                assert found is not None
                self._bases[info.base] = found
            person = self._load_base(self._bases[info.base]).personalised(weights)
            return Loaded(lambda: person)
        load = self._load_base if info.name == BASE else self._load_rig
        load(weights)  # what is wrong with it is told now
        return Loaded(lambda: load(weights))

    def _let_go(self) -> None:
        for key, loaded in list(self._loaded.items()):
            name, _, version = key.rpartition("@")
            try:
                self._identities.get(name, int(version))
            except UnknownIdentity:
                loaded.let_go()
                self._told.pop(key, None)
                self._load_rig.cache_clear()  # one of these may be theirs; the others are loaded again
            except Exception:  # the registry is away: nothing is known of a deletion
                return

    def _weights(self, info: IdentityInfo) -> Path:
        """The registry is not asked: an identity that the ingress knows is served also while it is away."""
        weights = self._identities.fetch_known(info)
        if info.name == BASE and info.base is not None:
            self._bases[info.base] = weights
        return weights

    def _load_whole(self, weights: Path) -> "Editor":
        return _import_editor().load(weights, device=self._device)


def _import_editor() -> "type[Editor]":
    from drig.editing import Editor  # brings PyTorch: the ingress imports this module and should not pay for it

    return Editor


def _answer(editor: "Editor", edit: "Edit", job: EditJob) -> tuple[bytes, dict[str, bytes]]:
    """The picture, as large as it was asked for or back in its photo, and those of its buffers."""
    from deployments.replicas.transport import encode_png, unpack
    from drig.data.photos import read_photo
    from drig.pasting import paste_back
    from drig.pictures import buffer_pictures
    from drig.previews import BUFFERS, resized

    picture: Any = edit.image
    if job.photo is not None:
        head = editor.head_mask(unpack(job.source).codes, edit.codes)
        picture = paste_back(read_photo(job.photo), picture, job.source.to_portrait, len(job.source.image), head)
    elif job.size is not None:
        picture = resized(picture, job.size)
    layers = dict(zip(BUFFERS, buffer_pictures(edit.buffers), strict=True)) if job.buffers else {}
    return encode_png(picture), {layer: encode_png(layers[layer]) for layer in layers}
