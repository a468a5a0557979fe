"""The application in one process, without Ray: the real API over the real replicas, with knobs for what goes wrong.

Jobs are invented: they count to their total and are done. Everything else does what it does in a cluster.
"""

import asyncio
import io
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from PIL import Image
from starlette.middleware.base import RequestResponseEndpoint

from deployments.access.callers import keyed_gate
from deployments.access.door import Door
from deployments.access.keys import KeyRing
from deployments.access.rates import Rates
from deployments.access.uploads import UploadLimits
from deployments.api import studio
from deployments.api.application import create_app
from deployments.api.errors import Overloaded
from deployments.api.options import Limits
from deployments.catalogue import Catalogue
from deployments.job_book import JobRecord, Kind, UnknownJob
from deployments.messages import Abilities, Edited, EditJob, FoundFace, Previewed, PreviewJob, Progress, Refused, Source
from deployments.replicas.edits import EditReplica
from deployments.replicas.faces import FaceReplica
from deployments.replicas.sources import Sources
from drig.forgetting import forget
from drig.identities import BASE, CONSENT_AT, CONSENT_BY, Identities, IdentityInfo


class Company:
    """What is slow to set up, once for many tests: a registry with a base rig, and replicas that have loaded it."""

    def __init__(self, folder: Path, base: Path, person: Path) -> None:
        self.person = person  # the weights that everybody gets
        self.identities = Identities(f"sqlite:///{folder}/mlflow.db")
        self.identities.register_base(base)
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
    """One run of the application: its knobs, and what it was asked. Implements Backend and JobsBackend."""

    company: Company
    busy: int = 0
    """So many previews and edits are turned away with 503."""
    keys: str | None = None
    """The file of the API keys. None = everything is allowed from this machine."""
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
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)

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

    async def source(self, token: str, *, photo: bool = True) -> Source | None:
        return await self.company.sources.source(token, photo)

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

    async def add(self, kind: Kind, owner: str, request: Mapping[str, Any], files: Mapping[str, bytes]) -> JobRecord:
        job = JobRecord(
            id=f"{kind}-{len(self.requests)}",
            kind=kind,
            owner=owner,
            created=time.time(),
            request=request,
            total=24,
            unit="frames" if kind == "video" else "steps",
        )
        self.jobs[job.id] = job
        finish = self._film if kind == "video" else self._personalise
        threading.Thread(target=self._work, args=(job.id, files, finish), daemon=True).start()
        return job

    def _work(self, id: str, files: Mapping[str, bytes], finish: Callable[..., dict[str, Any]]) -> None:
        for done in range(1, self.jobs[id].total + 1):
            time.sleep(self.step_seconds)
            if id not in self.jobs:
                return
            left = (self.jobs[id].total - done) * self.step_seconds
            self.jobs[id] = replace(self.jobs[id], state="running", done=done, seconds_left=left)
        self.jobs[id] = replace(self.jobs[id], **finish(self.jobs[id], files), state="done", seconds_left=None)

    def _film(self, job: JobRecord, files: Mapping[str, bytes]) -> dict[str, Any]:
        self.results[job.id] = mp4_of(
            np.asarray(Image.open(io.BytesIO(files["source"])).convert("RGB").resize((256, 256)))
        )
        return {"result": "result.mp4"}

    def _personalise(self, job: JobRecord, files: Mapping[str, bytes]) -> dict[str, Any]:
        """A rig that was trained before."""
        consent = {CONSENT_BY: job.request["consent_by"], CONSENT_AT: "2026-11-27T12:00:00+00:00"}
        report = {"photos": len(files)}
        name = job.request["identity"]
        self.company.identities.register(name, self.company.person, album_report=report, tags=consent)
        self.catalogue.refresh()
        advice = ["Most photos have the same light: add some taken elsewhere."]
        rejects = [{"photo": "beach.jpg", "reason": "no face found"}]
        return {"report": report | {"advice": advice, "rejects": rejects, "before_psnr": 18.2, "after_psnr": 24.9}}

    async def get(self, job_id: str, owner: str | None) -> JobRecord:
        if job_id not in self.jobs:
            raise UnknownJob(f"there is no job {job_id!r}")
        return self.jobs[job_id]

    async def list(self, owner: str | None) -> list[JobRecord]:
        return list(reversed(self.jobs.values()))

    async def result(self, job_id: str, owner: str | None) -> bytes:
        return self.results[job_id]

    async def remove(self, job_id: str, owner: str | None) -> None:
        await self.get(job_id, owner)
        del self.jobs[job_id]

    async def remove_of(self, identity: str) -> None:
        self.jobs = {id: job for id, job in self.jobs.items() if job.request["identity"] != identity}

    async def is_made(self, identity: str) -> bool:
        made = [job for job in self.jobs.values() if job.request["identity"] == identity]
        return any(not job.is_over for job in made)


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
    limits = Limits(upload_mib=rehearsal.upload_mib, album_mib=256, pixels=89_000_000, frames=600)
    app = create_app(
        rehearsal,
        rehearsal,
        rehearsal.catalogue,
        limits,
        forget=partial(forget, rehearsal.company.identities),
        gate=keyed_gate(UploadLimits(pixels=limits.pixels, frames=limits.frames), None),
        auth=rehearsal.keys is not None,
        routers=[studio.router()],
    )
    app.add_middleware(Door, keys=None if rehearsal.keys is None else KeyRing(rehearsal.keys), rates=Rates())

    @app.middleware("http")
    async def remember(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.url.path.startswith("/v1"):
            is_json = request.headers.get("content-type") == "application/json"
            rehearsal.requests.append((request.url.path, await request.json() if is_json else None))
        return await call_next(request)

    return app


def mp4_of(image: np.ndarray) -> bytes:
    """A video of a picture that trembles."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as video:
        stream = video.add_stream("libx264", rate=12)
        stream.width = stream.height = len(image)
        stream.pix_fmt = "yuv420p"
        for i in range(24):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(image, i % 5, 1), format="rgb24")))
        video.mux(stream.encode())
    return file.getvalue()
