"""What needs a head but no rig: finding the face in a photo, previews, and pictures of what was found.

A plain class: `deployments.app` makes replicas of it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from deployments.messages import Abilities, FoundFace, Previewed, PreviewJob, Refused, identity_key
from deployments.replicas.sources import Shelf, face_bytes
from drig.errors import DrigError
from drig.identities import Identities, IdentityInfo, UnknownIdentity

Result = TypeVar("Result")
KEPT_BYTES, KEPT_SECONDS = 64 * 1024 * 1024, 120.0
"""Faces that a replica remembers, some 300, and what people look like: not for long, they may be deleted."""


class FaceReplica:
    """Reads photos and renders heads.

    Args:
        tracking_uri: the MLflow store of the identities.
        fetch: token -> the face of a source, None if there is none.
    """

    def __init__(self, tracking_uri: str, fetch: Callable[[str], Awaitable[FoundFace | None]]) -> None:
        # The event loop stays free, and a preview does not wait while a face is looked for.
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading")
        self._rendering = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rendering")
        self._fetch = fetch
        self._identities = Identities(tracking_uri)
        self._faces: Shelf[Any] = Shelf(KEPT_BYTES, KEPT_SECONDS)
        self._knowledge: Shelf[tuple[Any, bool]] = Shelf(KEPT_BYTES, KEPT_SECONDS)
        self._met: Shelf[tuple[Any, Any]] = Shelf(KEPT_BYTES, KEPT_SECONDS)
        self._reader = _reader_of(self._identities)
        self._warm_up()

    async def abilities(self) -> Abilities:
        """What edits can name."""
        return Abilities(self._reader.head.name, tuple(self._reader.head.expression_names))

    async def read(self, photo: bytes, size: int, aligned: bool) -> FoundFace | Refused:
        """The face in a photo. What a user can mend is answered as Refused, anything else raises."""
        return await self._run(self._reading, self._read, photo, size, aligned)

    async def picture(self, token: str, kind: str, size: int) -> bytes | Refused:
        """A PNG of what was found in a source."""
        face = await self._face(token)
        if face is None:
            return Refused(404, f"no source has the token {token!r}")
        return await self._run(self._rendering, self._draw, face, kind, size)

    async def preview(self, job: PreviewJob) -> Previewed | Refused:
        """The buffers of an edit."""
        faces = []
        for token in (job.source, job.target):
            faces.append(None if token is None else await self._face(token))
            if token is not None and faces[-1] is None:
                return Refused(404, f"no source has the token {token!r}; upload the photo again: POST /v1/sources")
        return await self._run(self._rendering, self._render, job, *faces)

    async def _face(self, token: str) -> Any:
        face = self._faces.get(token)
        if face is None:
            from deployments.replicas.transport import unpack

            found = await self._fetch(token)
            if found is not None:
                face = unpack(found)
                self._faces.put(token, face, face_bytes(found))
        return face

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result | Refused:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
        except UnknownIdentity as error:  # deleted since the ingress looked it up
            return Refused(404, str(error))
        except DrigError as error:
            return Refused(422, str(error))

    def _read(self, photo: bytes, size: int, aligned: bool) -> FoundFace:
        from deployments.replicas.transport import pack
        from drig.data.photos import read_photo

        picture = read_photo(photo)
        return pack(self._reader.read(picture, size, aligned=aligned), picture, self._reader.head)

    def _draw(self, face: Any, kind: str, size: int) -> bytes:
        from deployments.replicas.transport import encode_png
        from drig.previews import found_picture

        return encode_png(found_picture(self._reader.head, face, kind, size))

    def _render(self, job: PreviewJob, source: Any, target: Any) -> Previewed:
        from deployments.replicas.transport import encode_png
        from drig.editing import edited_codes
        from drig.faces.controls import Controls, head_angles
        from drig.previews import preview

        started = time.perf_counter()
        head = self._reader.head
        likeness, source = self._meet(job, source)
        target = target and self._read_again(job, target, likeness)
        codes = edited_codes(source, target, job.modes, Controls(**job.controls), head.expression_names)
        png = encode_png(preview(head, source, codes, job.layer, job.size, likeness=likeness))
        yaw, pitch, roll = head_angles(codes)[0].tolist()
        return Previewed(png, (yaw, pitch, roll), time.perf_counter() - started)

    def _meet(self, job: PreviewJob, source: Any) -> tuple[Any, Any]:
        """Whom the edit shows, and the source as the editor sees it (`Editor.meeting`)."""
        key = f"{identity_key(job.identity)} {job.source}"
        kept = self._met.get(key)
        if kept is None:
            known, follows_skin = self._identity(job.identity)
            if known.known or not follows_skin:
                kept = known, self._reader.reread(source, known)
                self._met.put(key, kept, kept[1].codes.nbytes)
            else:
                likeness, (face,) = self._reader.acquainted([source], detail=True)
                kept = likeness, face
                self._met.put(key, kept, likeness.nbytes + face.codes.nbytes)
        return kept

    def _read_again(self, job: PreviewJob, target: Any, likeness: Any) -> Any:
        """The target as who edits the source sees it."""
        key = f"{identity_key(job.identity)} {job.source} {job.target}"
        kept = self._met.get(key)
        if kept is None:
            kept = likeness, self._reader.reread(target, likeness)
            self._met.put(key, kept, kept[1].codes.nbytes)
        return kept[1]

    def _identity(self, identity: IdentityInfo) -> tuple[Any, bool]:
        """Likeness, and whether the rig follows a skin. A version never changes, and neither does its weights file."""
        from drig.diffusion.weights import read_extra
        from drig.faces.likeness import FOLLOWS_SKIN, Likeness

        key = identity_key(identity)
        kept = self._knowledge.get(key)
        if kept is None:
            metadata, tensors = read_extra(self._identities.fetch_known(identity))
            kept = (Likeness.of_tensors(tensors), bool(metadata.get(FOLLOWS_SKIN)))
            self._knowledge.put(key, kept, kept[0].nbytes)
        return kept

    def _warm_up(self) -> None:
        """No request waits for a compiler, nor for the detectors' models."""
        from drig.faces.head import neutral_codes
        from drig.faces.portraits import Portrait
        from drig.previews import FOUND, found_picture
        from drig.reading import Face

        head, blank = self._reader.head, np.zeros((256, 256, 3), np.uint8)
        face = Face(Portrait(blank, np.zeros((68, 2), np.float32), 1), neutral_codes(head), ())
        for kind in FOUND:
            found_picture(head, face, kind, len(blank))
        self._reader.detector.detect(found_picture(head, face, "rendered", len(blank)))
        self._reader.detector.detect(blank)  # where nothing is found the second detector looks, too


def _reader_of(identities: Identities) -> Any:
    """A reader with the head and the estimator that the base rig was trained with."""
    from drig.diffusion.weights import read_extra
    from drig.faces.estimators import load_estimator
    from drig.faces.head import load_head
    from drig.reading import FaceReader

    metadata, _ = read_extra(identities.fetch_known(identities.ensure_base()))
    head = load_head(metadata["head"])
    return FaceReader(head, load_estimator(metadata["estimator"], head))
