"""The API over a registry of two identities and a backend that remembers what it was asked for."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

from deployments.api.application import create_app
from deployments.api.backend import Backend
from deployments.api.jobs import JobsBackend
from deployments.api.options import Limits
from deployments.catalogue import Catalogue
from deployments.job_book import JobRecord, Kind, UnknownJob
from deployments.messages import Abilities, Edited, EditJob, FoundFace, Previewed, PreviewJob, Progress, Refused, Source
from drig.forgetting import Forgotten
from drig.identities import Identities, IdentityInfo

LIMITS = Limits(upload_mib=1, album_mib=2, pixels=1_000_000, frames=100)
FACE = FoundFace(
    image=np.full((256, 256, 3), 7, np.uint8),
    landmarks=np.linspace(-1, 1, 136, dtype=np.float32).reshape(68, 2),
    codes={"light": np.arange(27, dtype=np.float32).reshape(1, 9, 3)},
    head="open",
    faces_found=2,
    warnings=("2 faces in the photo; the largest was taken",),
    to_portrait=np.eye(2, 3),
    corners=((0.0, 0.0), (256.0, 0.0), (256.0, 256.0), (0.0, 256.0)),
    photo_size=(400, 300),
    pose=(10.0, -5.0, 1.0),
    actions={"jawOpen": 0.5, "eyeBlinkLeft": 0.01},
)
DONE = Edited(b"png", (), {}, {"queue": 0.5, "load": 0.0, "render": 0.125, "sample": 2.0})


@dataclass
class FakeBackend:
    """Implements Backend: sources in a dict, every photo with FACE in it, edits as told."""

    answer: Edited | Refused | Exception = DONE
    read_answer: FoundFace | Refused = FACE
    seconds: float = 0.0
    """That an edit takes."""
    photos: list[tuple[bytes, int, bool]] = field(default_factory=list)
    """What was read: photo, size, aligned."""
    sources: dict[str, Source] = field(default_factory=dict)
    identity: IdentityInfo | None = None
    job: EditJob | None = None
    preview_job: PreviewJob | None = None
    stopped: bool = False
    """Whether an edit was cancelled, or closed on the way."""

    async def read(self, photo: bytes, *, size: int, aligned: bool) -> FoundFace | Refused:
        self.photos.append((photo, size, aligned))
        if isinstance(self.read_answer, Refused):
            return self.read_answer
        return replace(self.read_answer, photo_size=(len(photo), 1))  # so that faces can be told apart

    async def keep(self, source: Source) -> str:
        token = f"token-{len(self.sources)}"
        self.sources[token] = source
        return token

    async def source(self, token: str, *, photo: bool = True) -> Source | None:
        found = self.sources.get(token)
        return found if found is None or photo else Source(found.face, b"")

    async def forget(self, token: str) -> bool:
        return self.sources.pop(token, None) is not None

    async def picture(self, token: str, kind: str, size: int) -> bytes | Refused:
        return f"{kind} {size}".encode() if token in self.sources else Refused(404, "unknown")

    async def preview(self, job: PreviewJob) -> Previewed | Refused:
        self.preview_job = job
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, Refused) else Previewed(b"seen", (1.0, -2.5, 3.25), 0.0123)

    async def edit(self, identity: IdentityInfo, job: EditJob) -> Edited | Refused:
        self.identity, self.job = identity, job
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.stopped = True
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def edit_in_steps(self, identity: IdentityInfo, job: EditJob) -> AsyncIterator[Progress | Edited | Refused]:
        self.identity, self.job = identity, job
        try:
            if isinstance(self.answer, Refused):
                yield self.answer
                return
            for step in range(1, 3):
                await asyncio.sleep(self.seconds / 2)
                yield Progress(step, 2, f"step {step}".encode())
            if isinstance(self.answer, Exception):
                raise self.answer
            yield self.answer
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped = True
            raise

    async def abilities(self) -> Abilities:
        return Abilities("open", ("jawOpen", "eyeBlinkLeft"))


@dataclass
class FakeJobs:
    """Implements JobsBackend: a book in memory, in which nothing happens."""

    jobs: dict[str, JobRecord] = field(default_factory=dict)
    files: dict[str, Mapping[str, bytes]] = field(default_factory=dict)

    async def add(self, kind: Kind, owner: str, request: Mapping[str, Any], files: Mapping[str, bytes]) -> JobRecord:
        job = JobRecord(id=f"job-{len(self.jobs)}", kind=kind, owner=owner, created=1e9, request=request)
        self.jobs[job.id], self.files[job.id] = job, files
        return job

    async def get(self, job_id: str, owner: str | None) -> JobRecord:
        job = self.jobs.get(job_id)
        if job is None or owner not in (None, job.owner):
            raise UnknownJob(f"there is no job {job_id!r}")
        return job

    async def list(self, owner: str | None) -> list[JobRecord]:
        return [job for job in self.jobs.values() if owner in (None, job.owner)]

    async def result(self, job_id: str, owner: str | None) -> bytes:
        if (await self.get(job_id, owner)).result is None:
            raise UnknownJob(f"the job {job_id!r} has no result")
        return b"an mp4"

    async def remove(self, job_id: str, owner: str | None) -> None:
        await self.get(job_id, owner)
        del self.jobs[job_id]

    async def remove_of(self, identity: str) -> None:
        self.jobs = {job.id: job for job in self.jobs.values() if job.request.get("identity") != identity}

    async def is_made(self, identity: str) -> bool:
        return any(job.kind == "identity" and job.request["identity"] == identity for job in self.jobs.values())


def nobody(name: str) -> Forgotten:
    """Forgets in the tests of other things."""
    raise AssertionError(name)


def app_of(backend: Backend, catalogue: Catalogue, *, jobs: JobsBackend | None = None, **options: Any) -> FastAPI:
    """The API, for the tests of a part of it."""
    return create_app(backend, jobs or FakeJobs(), catalogue, LIMITS, **{"forget": nobody, **options})


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    folder = tmp_path_factory.mktemp("registry")
    registry = Identities(f"sqlite:///{folder}/mlflow.db")
    weights = folder / "weights.safetensors"
    save_file({"w": np.zeros(1, np.float32)}, weights, metadata={"config": json.dumps({"size": 64})})
    registry.register_base(weights)
    registry.register("ada", weights, album_report={"photos": 12})
    return registry


@pytest.fixture(scope="session")
def catalogue(identities: Identities) -> Catalogue:
    known = Catalogue(identities)
    known.refresh()
    return known


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def client(catalogue: Catalogue, backend: FakeBackend, jobs: FakeJobs) -> Iterator[TestClient]:
    with TestClient(app_of(backend, catalogue, jobs=jobs)) as client:
        yield client
