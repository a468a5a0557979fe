"""Where edits happen: loads the editor of an identity and samples in a thread of its own.

A plain class: `deployments.app` adds Ray Serve's cache of editors and its replicas around it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from deployments.messages import Edited, EditJob, Progress, Refused, VideoJob, VideoProgress, identity_key
from deployments.replicas.sampling import Sampling
from deployments.replicas.videos import edit_video
from drig import logs
from drig.errors import DrigError
from drig.identities import BASE, Identities, IdentityInfo, UnknownIdentity
from drig.tracking import store_errors

if TYPE_CHECKING:
    from drig.editing import Edit, Editor

BASES = 2
"""Base rigs kept in memory, shared by the people who are deltas over them: while one base replaces another, two."""


SWEEP_SECONDS = 30.0
"""Between two looks for identities that were deleted."""


class Loaded:
    """An identity's editor as a cache keeps it, which cannot be told to drop it: emptied where the identity is gone."""

    def __init__(self, info: IdentityInfo, editor: "Callable[[], Editor]") -> None:
        self.info = info
        self._editor = editor

    def __call__(self) -> "Editor":
        """The editor, in the thread that samples."""
        return self._editor()

    def forget(self) -> None:
        """From now on raise UnknownIdentity."""

        def gone() -> "Editor":
            raise UnknownIdentity(f"{self.info.name} was deleted")

        self._editor = gone


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
        # On a CPU (benchmarks/serving.py batch) eight edits of one person take half the time together, two of different
        # people more than apart.
        self._sampling = Sampling(self._thread, batch, mixed=device != "cpu")
        self._identities = Identities(tracking_uri)
        self._device = device
        self._told: dict[str, IdentityInfo] = {}  # of those that were asked for, by the key that Serve knows them by
        self._loaded: WeakSet[Loaded] = WeakSet()  # by whatever cache
        self._sweeper: asyncio.Task[None] | None = None
        self._bases: dict[str, Path] = {}  # base rigs by the hash of their tensors
        self._load_base = lru_cache(BASES)(self._load_whole)
        self._load_rig = lru_cache(rigs)(self._load_whole)
        # Ready means ready: no request waits for imports, for the base, or for a store that is not there.
        import drig.pasting
        import drig.previews  # noqa: F401

        self._load_base(self._weights(self._identities.ensure_base()))

    async def load_editor(self, key: str) -> "Loaded":
        """What gives the editor of an identity by its `identity_key`: it never changes, so that Serve may cache it.

        Of a delta it holds the editor, of a whole rig only where it is: these are few, and this replica's own cache
        knows how many.
        """
        info = self._told[key]
        weights, base = await asyncio.to_thread(self._fetch, info)  # from afar maybe: others are sampled meanwhile
        editor = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, info, weights, base)
        loaded = Loaded(info, editor)
        self._loaded.add(loaded)
        return loaded

    async def video(self, identity: IdentityInfo, job: VideoJob) -> AsyncGenerator[VideoProgress | Refused | bytes]:
        """How far a video is, again and again, and at last the MP4."""
        key = identity_key(identity)
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
        key, arrived, cancelled = identity_key(identity), time.perf_counter(), Event()
        self._told[key] = identity
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._keep_sweeping())
        try:
            editor = await self.load_editor(key)
            loaded = time.perf_counter()
            try:
                edit, timings = await self._sampling.run(key, editor, job, cancelled, tell)
            except UnknownIdentity:
                raise
            except DrigError as error:
                return Refused(422, str(error))
            answer = await asyncio.to_thread(_answer, editor(), edit, job)
        except UnknownIdentity as error:  # deleted since the ingress looked it up
            return Refused(404, str(error))
        except DrigError as error:
            who = f"{identity.name}@{identity.version}"
            try:
                return await self._gone(identity) or Refused(500, f"the weights of {who} cannot be used: {error}")
            except Exception:  # of MLflow, its database or the network, which have no common class
                return Refused(503, f"the registry does not answer, and the weights of {who} are not here yet")
        except asyncio.CancelledError:
            cancelled.set()
            raise
        pictures, buffers = answer
        return Edited(pictures, edit.warnings, buffers, {"load": loaded - arrived, **timings})

    async def forget_deleted(self) -> None:
        """Let go of what is in memory, and on this machine's disk, of identities that were deleted."""
        live = {identity_key(info) for info in await asyncio.to_thread(self._identities.list)}
        for key, info in list(self._told.items()):
            if key in live or await self._gone(info) is None:
                continue
            for loaded in list(self._loaded):
                if loaded.info == info:
                    loaded.forget()
            del self._told[key]
            self._identities.drop_known(info)
            self._load_rig.cache_clear()  # whose rigs these are is not known; the others' are loaded again
            logs.event("identity_forgotten", identity=info.name, version=info.version)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.forget_deleted()
            except Exception as error:  # the registry is away: the next time will do
                logs.event("not_swept", level=logging.WARNING, reason=" ".join(str(error).split()))

    async def _gone(self, identity: IdentityInfo) -> Refused | None:
        """The answer where an identity was deleted since the ingress looked it up, also if its name was given anew.

        Raises what the registry's client does where the registry is away: then nothing is known of a deletion.
        """
        try:
            found = await asyncio.to_thread(self._identities.get, identity.name, identity.version)
        except UnknownIdentity as error:
            return Refused(404, str(error))
        return None if found.sha256 == identity.sha256 else Refused(404, f"{identity.name} is somebody else now")

    def _fetch(self, info: IdentityInfo) -> tuple[Path, Path | None]:
        """The weights of an identity, and those of the base where it is a delta."""
        weights = self._weights(info)
        if info.base is None or info.name == BASE:
            return weights, None
        if info.base not in self._bases:
            with store_errors(self._identities.tracking_uri):
                found = self._identities.fetch_base(info.name, info.version)
            assert found is not None
            self._bases[info.base] = found
        return weights, self._bases[info.base]

    def _load(self, info: IdentityInfo, weights: Path, base: Path | None) -> "Callable[[], Editor]":
        if base is not None:
            person = self._load_base(base).personalised(weights)
            return lambda: person
        load = self._load_base if info.name == BASE else self._load_rig
        load(weights)  # what is wrong with it is told now
        return lambda: load(weights)

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
