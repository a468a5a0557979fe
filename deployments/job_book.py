"""What is known of the long jobs: a folder for each, with its record and files, so that a restart forgets none.

    <work>/<id>/job.json    the record
    <work>/<id>/input/      what was uploaded
    <work>/<id>/training/   what is needed to go on after a restart
    <work>/<id>/result.*    what came of it

Uploads and training go as soon as the job has ended, the rest after a day, or when its owner removes the job.
"""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from drig import storage
from drig.errors import DrigError, MissingFile

Kind = Literal["video", "identity"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
RECORD, INPUT, TRAINING = "job.json", "input", "training"
KEEP_S = 24 * 3600.0
"""How long ended jobs and their results are kept."""
MOST_WAITING = 100
"""Jobs that may wait or run at a time; beyond that new ones are refused."""


class UnknownJob(DrigError):
    """There is no job of that id, or it is somebody else's, which is not told apart."""


class TooManyJobs(DrigError):
    """So many wait already."""


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job. Nothing in it shows a face."""

    id: str
    kind: Kind
    owner: str
    """Id of the key that asked; empty = this machine."""
    created: float
    """Unix time."""
    request: Mapping[str, Any]
    """What was asked for, beside the files."""
    state: State = "waiting"
    ended: float | None = None
    done: int = 0
    total: int = 0
    unit: str = ""
    message: str = ""
    """What it is doing, for people."""
    problem: str = ""
    """Why it failed."""
    report: Mapping[str, Any] | None = None
    result: str | None = None
    """Name of the result's file."""
    seconds_left: float | None = None

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class JobBook:
    """The jobs of a folder, local or s3://. Used by one process at a time."""

    def __init__(self, work: str) -> None:
        self.work = work
        self._jobs: dict[str, JobRecord] = {}
        if storage.exists(work):
            for file in storage.list_files(work):
                if file.endswith(f"/{RECORD}"):
                    record = JobRecord(**json.loads(storage.read_bytes(file)))
                    self._jobs[record.id] = record

    def unfinished(self) -> list[JobRecord]:
        """The oldest first."""
        return sorted((job for job in self._jobs.values() if not job.is_over), key=lambda job: job.created)

    def add(self, kind: Kind, owner: str, request: Mapping[str, Any], files: Mapping[str, bytes]) -> JobRecord:
        """Note a new job; its files first, so that a record is never without them. Raises TooManyJobs."""
        self.forget_old()
        if len(self.unfinished()) >= MOST_WAITING:
            raise TooManyJobs(f"{MOST_WAITING} jobs wait already; try again when some are done")
        job = JobRecord(id=secrets.token_urlsafe(12), kind=kind, owner=owner, created=time.time(), request=request)
        for name, content in files.items():
            storage.write_bytes(storage.join(self.input(job.id), name), content)
        return self._keep(job)

    def get(self, job_id: str, owner: str | None) -> JobRecord:
        """A job of this owner; None = of anybody. Raises UnknownJob."""
        job = self._jobs.get(job_id)
        if job is None or owner not in (None, job.owner):
            raise UnknownJob(f"there is no job {job_id!r}; GET /v1/jobs lists yours. Ended ones are kept for a day.")
        return job

    def list(self, owner: str | None) -> list[JobRecord]:
        """Those of this owner, the newest first; None = everybody's."""
        theirs = [job for job in self._jobs.values() if owner in (None, job.owner)]
        return sorted(theirs, key=lambda job: job.created, reverse=True)

    def update(self, job_id: str, **changes: Any) -> JobRecord:
        """Change a record. Positions are kept in memory alone: a restarted job counts again."""
        job = replace(self._jobs[job_id], **changes)
        if set(changes) & {"state", "report", "result", "problem"}:
            return self._keep(job)
        self._jobs[job_id] = job
        return job

    def end(self, job_id: str, state: State, **changes: Any) -> JobRecord:
        """The job is over: its uploads go, and all else that shows the person, but for the result."""
        job = self.update(job_id, state=state, ended=time.time(), seconds_left=None, **changes)
        for folder in (self.input(job_id), self.training(job_id)):
            storage.remove(folder)
        return job

    def put_result(self, job_id: str, name: str, content: bytes) -> None:
        storage.write_bytes(storage.join(self.work, job_id, name), content)
        self.update(job_id, result=name)

    def result(self, job: JobRecord) -> bytes:
        """The content of a job's result. Raises UnknownJob where it has none."""
        try:
            assert job.result is not None
            return storage.read_bytes(storage.join(self.work, job.id, job.result))
        except (AssertionError, MissingFile):
            raise UnknownJob(f"the job {job.id!r} has no result; it is {job.state}") from None

    def remove(self, job_id: str) -> None:
        """Forget a job, with its files."""
        self._jobs.pop(job_id, None)
        storage.remove(storage.join(self.work, job_id))

    def forget_old(self) -> None:
        """Remove the jobs that ended long ago."""
        for job in list(self._jobs.values()):
            if job.ended is not None and time.time() - job.ended > KEEP_S:
                self.remove(job.id)

    def input(self, job_id: str) -> str:
        """The folder of a job's uploads."""
        return storage.join(self.work, job_id, INPUT)

    def files(self, job_id: str) -> dict[str, bytes]:
        """A job's uploads by name."""
        return {Path(file).name: storage.read_bytes(file) for file in storage.list_files(self.input(job_id))}

    def training(self, job_id: str) -> str:
        """The folder of what a job works on."""
        return storage.join(self.work, job_id, TRAINING)

    def _keep(self, job: JobRecord) -> JobRecord:
        storage.write_bytes(storage.join(self.work, job.id, RECORD), json.dumps(asdict(job)).encode())
        self._jobs[job.id] = job
        return job
