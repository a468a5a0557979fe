"""Where edits happen: loads the editor of an identity and runs one edit after another in a thread of its own.

A plain class: `deployments.app` adds Ray Serve's cache of editors and its replicas around it.
"""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deployments.messages import Edited, EditJob, Refused
from drig.errors import DrigError, PhotoRejected
from drig.identities import BASE, Identities, UnknownIdentity

if TYPE_CHECKING:
    from torch import Tensor

    from drig.editing import Editor, Face


class Cancelled(Exception):
    """Nobody waits for this edit any more."""


BASES = 2
"""Base rigs kept in memory, shared by the people who are deltas over them: while one base replaces another, two."""


class EditReplica:
    """Edits with any identity of a registry.

    Args:
        tracking_uri: the MLflow store of the identities.
        device: where the rigs run, "cpu" or "cuda".
    """

    def __init__(self, tracking_uri: str, device: str) -> None:
        # One thread: PyTorch blocks, so the event loop must not run it; two edits at once would only share the cores.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edit")
        self._identities = Identities(tracking_uri)
        self._device = device
        self._load_base = lru_cache(BASES)(self._load_whole)
        # Ready means ready: no request waits for imports, or for a store that is not there.
        _import_editor()
        self._identities.ensure_base()

    async def load_editor(self, identity: str) -> "Editor":
        """The editor of "name@version". A version never changes, so neither does what a cache holds under this key."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load, identity)

    async def edit(self, identity: str, job: EditJob) -> Edited | Refused:
        """Run one edit with "name@version". What a user can mend is answered as Refused, anything else raises."""
        cancelled = Event()
        try:
            editor = await self.load_editor(identity)
            return await asyncio.get_running_loop().run_in_executor(self._thread, _run, editor, job, cancelled)
        except UnknownIdentity as error:  # deleted since the ingress looked it up
            return Refused(404, str(error))
        except DrigError as error:
            return Refused(500, f"the weights of {identity} cannot be used: {error}")
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def _load(self, identity: str) -> "Editor":
        name, _, version = identity.partition("@")
        weights = self._identities.fetch(name, int(version))
        base = self._identities.fetch_base(name, int(version))
        if base is not None:
            return self._load_base(base).personalised(weights)
        return self._load_base(weights) if name == BASE else self._load_whole(weights)

    def _load_whole(self, weights: Path) -> "Editor":
        return _import_editor().load(weights, device=self._device)


def _import_editor() -> "type[Editor]":
    from drig.editing import Editor  # brings PyTorch: the ingress imports this module and should not pay for it

    return Editor


def _run(editor: "Editor", job: EditJob, cancelled: Event) -> Edited | Refused:
    from drig.faces.controls import Controls

    def stop_if_cancelled(step: int, steps: int, image: "Tensor") -> None:
        if cancelled.is_set():
            raise Cancelled

    try:
        controls = Controls(**job.controls)
        source = _read(editor, job.source, "source", job.aligned)
        target = None if job.target is None else _read(editor, job.target, "target", job.aligned)
        edit = editor.edit(
            source,
            target,
            modes=job.modes,
            controls=controls,
            steps=job.steps,
            sampler=job.sampler,
            seed=job.seed,
            on_step=stop_if_cancelled,
        )
    except DrigError as error:
        return Refused(422, str(error))
    return Edited(encode_png(edit.image), edit.warnings)


def _read(editor: "Editor", photo: bytes, field: str, aligned: bool) -> "Face":
    from drig.data.photos import read_photo

    try:
        return editor.read(read_photo(photo), aligned=aligned)
    except PhotoRejected as error:
        raise PhotoRejected(f"{field}: {error.reason}") from error


def encode_png(image: np.ndarray) -> bytes:
    """(S, S, 3) uint8 RGB -> the PNG that this API answers with; equal pictures give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
