"""The application in one process, without Ray: the real API over the real replicas, with knobs for what goes wrong.

Jobs are invented: they count to their total and are done. Everything else does what it does in a cluster.
"""

import asyncio
import io
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import torch
import uvicorn
from fastapi import APIRouter, FastAPI, Form, Header, Request, UploadFile
from fastapi.responses import Response
from starlette.middleware.base import RequestResponseEndpoint

from deployments.api import studio
from deployments.api.application import create_app
from deployments.api.errors import Overloaded, Problem, Refusal
from deployments.api.gate import Anybody, Gate, Scope
from deployments.api.options import Limits
from deployments.catalogue import Catalogue
from deployments.messages import Abilities, Edited, EditJob, FoundFace, Previewed, PreviewJob, Progress, Refused, Source
from deployments.replicas.edits import EditReplica
from deployments.replicas.faces import FaceReplica
from deployments.replicas.sources import Sources
from deployments.replicas.transport import encode_png
from drig.diffusion.network import Rig, RigConfig
from drig.editing import Editor
from drig.faces.buffers import render_buffers
from drig.faces.estimators import load_estimator
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.identities import BASE, Identities, IdentityInfo
from drig.pictures import to_picture

SMALL = RigConfig(
    size=64,
    base_channels=32,
    channel_mult=(1, 1),
    blocks_per_level=1,
    attention_size=0,
    patch=4,
    encoder_blocks=(1, 1, 1, 1),
)


def photo_of_a_head(seed: int) -> bytes:
    """A PNG file: some bald person in front of a grey wall."""
    head, generator = OpenHead.load(), torch.Generator().manual_seed(seed)
    codes = neutral_codes(head)
    codes = codes.replace(shape=torch.randn(codes.shape.shape, generator=generator))
    buffers = render_buffers(head, codes, 256)
    return encode_png(to_picture(buffers.rendered[0] + 0.5 * (1 - buffers.alpha[0])))


def save_random_rig(path: Path) -> Path:
    """Weights of a rig that is untrained, but not at its initial values: those would ignore the buffers."""
    head = OpenHead.load()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)  # PyTorch's initial values come from the global generator
        rig = Rig(SMALL)
        for parameter in rig.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    Editor(rig, head, load_estimator("fit", head)).save(path)
    return path


class Company:
    """What is slow to set up, once for many tests: a registry with a base rig, and replicas that have loaded it."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.weights = weights
        self.identities = Identities(f"sqlite:///{folder}/mlflow.db")
        self.identities.register_base(weights)
        self.sources = Sources(2**26, 900)
        self.edits = EditReplica(self.identities.tracking_uri, "cpu")
        self.faces = FaceReplica(self.identities.tracking_uri, lambda token: self.sources.face(token))

    def forget_everybody(self) -> None:
        """For the next test: nobody but the base."""
        for info in self.identities.list():
            if info.name != BASE:
                self.identities.delete(info.name)


@dataclass
class Rehearsal:
    """One run of the application: its knobs, and what it was asked. Implements Backend."""

    company: Company
    busy: int = 0
    """So many previews and edits are turned away with 503."""
    key: str | None = None
    """Without this key, 401."""
    upload_mib: float = 24
    step_seconds: float = 0.0
    """How much longer a step of an edit or of a job takes."""
    requests: list[tuple[str, Any]] = field(default_factory=list)
    """(path, JSON body or None) of everything under /v1."""
    pictures: list[bytes] = field(default_factory=list)
    """The edits that were finished."""
    open_streams: int = 0
    previews: list[int] = field(default_factory=lambda: [0, 0])
    """How many previews are rendered now, and the most there were at once."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    consents: list[str] = field(default_factory=list)
    """Who said that somebody agrees."""

    def __post_init__(self) -> None:
        self.catalogue = Catalogue(self.company.identities)
        self.catalogue.refresh()

    def bodies(self, path: str) -> list[Any]:
        """The JSON bodies that were sent there."""
        return [body for asked, body in self.requests if asked == path]

    def forget_sources(self) -> None:
        """As 15 minutes later."""
        self.company.sources = Sources(2**26, 900)

    async def read(self, photo: bytes, *, size: int, aligned: bool) -> FoundFace | Refused:
        return await self.company.faces.read(photo, size, aligned)

    async def keep(self, source: Source) -> str:
        return await self.company.sources.keep(source)

    async def source(self, token: str) -> Source | None:
        return await self.company.sources.source(token)

    async def forget(self, token: str) -> bool:
        return await self.company.sources.forget(token)

    async def picture(self, token: str, kind: str, size: int) -> bytes | Refused:
        return await self.company.faces.picture(token, kind, size)

    async def preview(self, job: PreviewJob) -> Previewed | Refused:
        self._turn_away()
        tokens = (job.source,) if job.target is None else (job.source, job.target)
        if await self.company.sources.touch(tokens):
            return Refused(404, "upload the photo again")
        self.previews[0] += 1
        self.previews[1] = max(self.previews)
        try:
            return await self.company.faces.preview(job)
        finally:
            self.previews[0] -= 1

    async def edit(self, identity: IdentityInfo, job: EditJob) -> Edited | Refused:
        self._turn_away()
        return self._finished(await self.company.edits.edit(identity, job))

    async def edit_in_steps(self, identity: IdentityInfo, job: EditJob) -> AsyncIterator[Progress | Edited | Refused]:
        self._turn_away()
        self.open_streams += 1
        answers = self.company.edits.edit_in_steps(identity, job)
        try:
            async for answer in answers:
                await asyncio.sleep(self.step_seconds)
                yield answer if isinstance(answer, Progress) else self._finished(answer)
        finally:
            self.open_streams -= 1

    async def abilities(self) -> Abilities:
        return await self.company.faces.abilities()

    def _turn_away(self) -> None:
        if self.busy:
            self.busy -= 1
            raise Overloaded

    def _finished(self, answer: Edited | Refused) -> Edited | Refused:
        if isinstance(answer, Edited):
            self.pictures.append(answer.png)
        return answer

    def may(self, scope: Scope) -> Callable[..., Anybody]:
        """See Gate."""

        def caller(authorization: Annotated[str | None, Header()] = None) -> Anybody:
            if self.key is not None and authorization != f"Bearer {self.key}":
                raise Refusal(401, Problem(what="this server asks for an API key", do="ask its owner for one"))
            return Anybody()

        return caller


@contextmanager
def rehearsing(rehearsal: Rehearsal, port: int = 0) -> Iterator[str]:
    """The server on this machine; gives its URL."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        server = uvicorn.Server(uvicorn.Config(_app(rehearsal), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _app(rehearsal: Rehearsal) -> FastAPI:
    catalogue = rehearsal.catalogue
    limits = Limits(upload_mib=rehearsal.upload_mib, pixels=89_000_000, frames=600)
    routers = [studio.router(), _people(rehearsal), _jobs(rehearsal)]
    gate = Gate(may=rehearsal.may)
    app = create_app(rehearsal, catalogue, limits, gate=gate, auth=rehearsal.key is not None, routers=routers)

    @app.middleware("http")
    async def remember(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.url.path.startswith("/v1"):
            is_json = request.headers.get("content-type") == "application/json"
            rehearsal.requests.append((request.url.path, await request.json() if is_json else None))
        return await call_next(request)

    return app


def _people(rehearsal: Rehearsal) -> APIRouter:
    """Makes a model of anybody at once: it is the base rig under another name."""
    router, identities, catalogue = APIRouter(), rehearsal.company.identities, rehearsal.catalogue

    @router.post("/v1/identities", status_code=202)
    def create(
        photos: list[UploadFile],
        name: Annotated[str, Form()],
        consent_by: Annotated[str, Form()],
        consent: Annotated[bool, Form()],
        note: Annotated[str, Form()] = "",
    ) -> dict[str, Any]:
        if name in {info.name for info in catalogue.list()}:
            raise Refusal(409, Problem(what=f"{name} exists already", do="choose another name, or delete it first"))
        if not consent:
            raise Refusal(422, Problem(what="nobody says that this person agrees", do="send consent=true"))
        rehearsal.consents.append(consent_by)

        def finish(job: dict[str, Any]) -> None:
            identities.register(name, rehearsal.company.weights, album_report={"photos": len(photos)})
            catalogue.refresh()
            job["report"] = {
                "advice": [
                    {"level": "warning", "text": "Most photos have the same light: add some taken elsewhere."},
                    {"level": "note", "text": "The head is turned to the right in few photos."},
                ],
                "photos": len(photos),
                "rejects": [{"photo": "beach.jpg", "reason": "no face found"}],
                "before_psnr": 18.2,
                "after_psnr": 24.9,
            }

        return _start(rehearsal, "identity", 40, "steps", finish)

    @router.delete("/v1/identities/{name}")
    def delete(name: str) -> dict[str, Any]:
        identities.delete(name)
        catalogue.forget(name)
        return {"name": name, "removed": ["weights, version 1", "album of 3 photos", "cached deltas"], "remains": []}

    return router


def _jobs(rehearsal: Rehearsal) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/videos", status_code=202)
    async def video(
        source_token: Annotated[str, Form()], driving: UploadFile, modes: Annotated[list[str], Form()]
    ) -> dict[str, Any]:
        source = await rehearsal.source(source_token)
        if source is None:
            raise Refusal(404, Problem(what="no source has this token"))

        def finish(job: dict[str, Any]) -> None:
            rehearsal.results[job["id"]] = _mp4(source.face.image)
            job["result"] = f"/v1/jobs/{job['id']}/result"

        return _start(rehearsal, "video", 24, "frames", finish)

    @router.get("/v1/jobs")
    def jobs() -> dict[str, Any]:
        return {"jobs": list(rehearsal.jobs.values())}

    @router.get("/v1/jobs/{id}")
    def job(id: str) -> dict[str, Any]:
        return _job(rehearsal, id)

    @router.delete("/v1/jobs/{id}", status_code=204)
    def cancel(id: str) -> None:
        _job(rehearsal, id)["state"] = "cancelled"

    @router.get("/v1/jobs/{id}/result")
    def result(id: str) -> Response:
        return Response(rehearsal.results[id], media_type="video/mp4")

    return router


def _job(rehearsal: Rehearsal, id: str) -> dict[str, Any]:
    if id not in rehearsal.jobs:
        raise Refusal(404, Problem(what=f"no job has the id {id!r}"))
    return rehearsal.jobs[id]


def _start(rehearsal: Rehearsal, kind: str, total: int, unit: str, finish: Any) -> dict[str, Any]:
    id = f"{kind}-{len(rehearsal.jobs)}"
    job: dict[str, Any] = {
        "id": id,
        "kind": kind,
        "state": "waiting",
        "done": 0,
        "total": total,
        "unit": unit,
        "message": "",
        "created": "2026-11-27T12:00:00Z",
        "seconds_left": None,
        "result": None,
        "problems": [],
        "report": None,
    }
    rehearsal.jobs[id] = job

    def work() -> None:
        job["state"] = "running"
        while job["done"] < total and job["state"] == "running":
            time.sleep(rehearsal.step_seconds)
            job["done"] += 1
            job["seconds_left"] = round((total - job["done"]) * rehearsal.step_seconds, 1)
        if job["state"] == "running":
            finish(job)
            job["state"] = "done"

    threading.Thread(target=work, daemon=True).start()
    return job


def _mp4(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as video:
        stream = video.add_stream("libx264", rate=12)
        stream.width = stream.height = len(image)
        stream.pix_fmt = "yuv420p"
        for i in range(24):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(image, i % 5, 1), format="rgb24")))
        video.mux(stream.encode())
    return file.getvalue()
