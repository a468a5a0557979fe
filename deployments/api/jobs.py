"""/v1/jobs: how far long work is, what came of it, and its end."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from deployments.api.errors import Overloaded, Problem, documented
from deployments.api.gate import Caller, Gate
from deployments.catalogue import Catalogue
from deployments.job_book import JobRecord, Kind, State
from drig.identities import UnknownIdentity


class JobsBackend(Protocol):
    """Who keeps and runs jobs; `deployments.handles` answers with Ray Serve. `owner` None = anybody's."""

    async def add(self, kind: Kind, owner: str, request: Mapping[str, Any], files: Mapping[str, bytes]) -> JobRecord:
        """Begin a job. Raises TooManyJobs."""
        ...

    async def get(self, job_id: str, owner: str | None) -> JobRecord:
        """Raises UnknownJob."""
        ...

    async def list(self, owner: str | None) -> list[JobRecord]:
        """The newest first."""
        ...

    async def result(self, job_id: str, owner: str | None) -> bytes:
        """Raises UnknownJob, also where there is no result."""
        ...

    async def remove(self, job_id: str, owner: str | None) -> None:
        """End it, and forget it with all its files. Raises UnknownJob."""
        ...

    async def remove_of(self, identity: str) -> None:
        """The same with all jobs about an identity."""
        ...

    async def is_made(self, identity: str) -> bool:
        """Whether a job that makes this identity waits or runs."""
        ...


class Rejected(BaseModel):
    """A photo that could not be used."""

    photo: str
    reason: str


class AlbumReport(BaseModel):
    """What became of an album."""

    photos: int
    """That were used."""
    advice: list[str]
    """What the album doctor says, in words."""
    rejects: list[Rejected]
    before_psnr: float | None = None
    """How near the base rig comes to the face of photos that were not trained on, dB; left out where the album has too
    few."""
    after_psnr: float | None = None
    """The same of the new identity."""


class Job(BaseModel):
    """Long work."""

    id: str
    kind: Literal["video", "identity"]
    state: State
    identity: str
    """Who it is about."""
    done: int
    total: int
    """0 = not known yet."""
    unit: str
    message: str
    """What it is doing, for people."""
    created: datetime
    seconds_left: float | None
    result: str | None
    """Where to get what came of it."""
    problems: list[Problem]
    report: AlbumReport | None


class JobList(BaseModel):
    """The answer of GET /v1/jobs."""

    jobs: list[Job]


def described(record: JobRecord) -> Job:
    """A job as the API tells it."""
    report = None
    if record.report is not None:
        report = AlbumReport.model_validate({name: record.report.get(name) for name in AlbumReport.model_fields})
    return Job(
        id=record.id,
        kind=record.kind,
        state=record.state,
        identity=str(record.request.get("identity", "")),
        done=record.done,
        total=record.total,
        unit=record.unit,
        message=record.message,
        created=datetime.fromtimestamp(record.created, UTC),
        seconds_left=record.seconds_left,
        result=f"/v1/jobs/{record.id}/result" if record.result else None,
        problems=[Problem(what=record.problem)] if record.problem else [],
        report=report,
    )


def router(jobs: JobsBackend, catalogue: Catalogue, gate: Gate) -> APIRouter:
    """Routes of jobs; every key sees its own, an admin's all."""
    router = APIRouter(tags=["jobs"])
    asks = Annotated[Caller, Depends(gate.may(None))]

    @router.get("/v1/jobs")
    async def get_jobs(caller: asks) -> JobList:
        """Your jobs, the newest first. Ended ones are kept for a day."""
        return JobList(jobs=[described(record) for record in await jobs.list(caller.owner)])

    @router.get("/v1/jobs/{job_id}", responses=documented(404))
    async def get_job(job_id: str, caller: asks) -> Job:
        """How far a job is."""
        job = described(await jobs.get(job_id, caller.owner))
        if job.kind == "identity" and job.state == "done":  # who asks will use it: do not wait for the next look
            with suppress(UnknownIdentity, Overloaded):
                await catalogue.get(job.identity)
        return job

    @router.get(
        "/v1/jobs/{job_id}/result",
        response_class=Response,
        responses=documented(404) | {200: {"content": {"video/mp4": {}}}},
    )
    async def get_result(job_id: str, caller: asks) -> Response:
        """The video that a job made."""
        job = await jobs.get(job_id, caller.owner)
        content = await jobs.result(job_id, caller.owner)
        edit = job.request["edit"]
        content = await gate.mark(content, "video/mp4", {"changed": sorted({*edit["modes"], *edit["controls"]})})
        return Response(content, media_type="video/mp4", headers={"Cache-Control": "no-store"})

    @router.delete("/v1/jobs/{job_id}", status_code=204, responses=documented(404))
    async def delete_job(job_id: str, caller: asks) -> None:
        """End a job if it runs, and remove it with what was uploaded for it and what came of it."""
        await jobs.remove(job_id, caller.owner)

    return router
