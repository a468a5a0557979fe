"""Where long jobs live: one replica that keeps their book, starts them, follows them and ends them.

People are trained as Ray tasks of their own, so that one can be ended at once and none is in this process; frames of
videos are edited by the replicas that edit photos, between these.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from deployments.job_book import JobBook, JobRecord
from deployments.messages import Refused, VideoJob, VideoProgress
from drig import logs, storage
from drig.errors import DrigError, PhotoRejected
from drig.tracking import URI_VARIABLE

if TYPE_CHECKING:
    from pipelines.identity_training import IdentityResult
    from pipelines.progress import Board

LOOK_S = 0.5
"""How often a training is looked at."""
TRAININGS, VIDEOS = 1, 1
"""Jobs of a kind that run at the same time; the others wait."""
HOLDOUT = 2
"""Photos of an album that are kept from training, to tell how good it is."""

Frames = Callable[[str, int, VideoJob], AsyncIterator[VideoProgress | Refused | bytes]]
"""Edits a video with a version of an identity: how far it is, and at last the MP4."""


class Jobs:
    """Keeps and runs jobs.

    Args:
        work: folder or s3:// prefix for them. What it holds of an earlier process goes on.
        tracking_uri: the MLflow store of the identities.
        edit_video: what edits videos.
        options: of `PersonalizeConfig`, for the identities that are made here; `training` is among them.
    """

    def __init__(self, work: str, tracking_uri: str, edit_video: Frames, options: Mapping[str, Any]) -> None:
        self._book = JobBook(work)
        self._tracking_uri, self._edit_video, self._options = tracking_uri, edit_video, dict(options)
        self._turns = {"identity": asyncio.Semaphore(TRAININGS), "video": asyncio.Semaphore(VIDEOS)}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: set[str] = set()

    def resume(self) -> None:
        """Go on with what an earlier process has left; wants a running event loop."""
        for job in self._book.unfinished():
            self._start(job)

    async def add(self, kind: str, owner: str, request: Mapping[str, Any], files: Mapping[str, bytes]) -> JobRecord:
        """Begin a job, with what was uploaded for it. Raises TooManyJobs."""
        job = await asyncio.to_thread(self._book.add, kind, owner, request, files)  # type: ignore[arg-type]
        self._start(job)
        return job

    async def get(self, job_id: str, owner: str | None) -> JobRecord:
        return self._book.get(job_id, owner)

    async def list(self, owner: str | None) -> list[JobRecord]:
        return self._book.list(owner)

    async def result(self, job_id: str, owner: str | None) -> bytes:
        """What came of a job. Raises UnknownJob, also where that is nothing."""
        return await asyncio.to_thread(self._book.result, self._book.get(job_id, owner))

    async def remove(self, job_id: str, owner: str | None) -> None:
        """End a job that runs, and forget it with all its files."""
        self._book.get(job_id, owner)
        await self._end(job_id)
        await asyncio.to_thread(self._book.remove, job_id)

    async def remove_of(self, identity: str) -> None:
        """The same with every job that is about an identity."""
        for job in self._book.list(None):
            if job.request.get("identity") == identity:
                await self.remove(job.id, None)

    async def is_made(self, identity: str) -> bool:
        """Whether a job that makes this identity waits or runs."""
        return any(j.kind == "identity" and j.request["identity"] == identity for j in self._book.unfinished())

    def _start(self, job: JobRecord) -> None:
        self._tasks[job.id] = asyncio.get_running_loop().create_task(self._run(job))

    async def _end(self, job_id: str) -> None:
        task = self._tasks.get(job_id)
        if task is not None:
            self._ended.add(job_id)
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, job: JobRecord) -> None:
        """One job from its turn to its end, whatever that is."""
        work = self._make_identity if job.kind == "identity" else self._make_video
        try:
            async with self._turns[job.kind]:
                self._book.update(job.id, state="running", message="starting")
                await work(job)
        except asyncio.CancelledError:
            if job.id in self._ended:  # otherwise this process ends, and the next one goes on
                self._book.end(job.id, "cancelled", message="")
            raise
        except PhotoRejected as error:
            self._fail(job, error.reason)
        except DrigError as error:
            self._fail(job, str(error))
        except Exception as error:
            logs.event("job_broke", job=job.id, kind=job.kind, reason=f"{type(error).__name__}: {error}")
            self._fail(job, "this failed on the server; see its log. Trying again may help.")
        finally:
            self._tasks.pop(job.id, None)

    def _fail(self, job: JobRecord, problem: str) -> None:
        self._book.end(job.id, "failed", problem=problem, message="")

    async def _make_video(self, job: JobRecord) -> None:
        files = await asyncio.to_thread(self._book.files, job.id)
        identity, request = str(job.request["identity"]), dict(job.request["edit"])
        started = time.monotonic()
        video = VideoJob(
            source=files.pop("source"),
            driving=files.pop("driving", None),
            targets=tuple(files[name] for name in sorted(files)),
            **request,
        )
        async for news in self._edit_video(identity, int(job.request["version"]), video):
            if isinstance(news, Refused):
                raise DrigError(news.message)
            if isinstance(news, bytes):
                await asyncio.to_thread(self._book.put_result, job.id, "result.mp4", news)
                self._book.end(job.id, "done", message="")
                return
            left = (time.monotonic() - started) / max(1, news.done) * (news.total - news.done)
            self._book.update(
                job.id, done=news.done, total=news.total, unit="frame", message=news.what, seconds_left=left
            )

    async def _make_identity(self, job: JobRecord) -> None:
        from pipelines.progress import Board  # brings Ray Data's relatives, which jobs without training do without

        board = Board()
        places = self._book.input(job.id), self._book.training(job.id)
        store = {"env_vars": {URI_VARIABLE: self._tracking_uri}}
        task = _personalise.options(runtime_env=store).remote(*places, self._options, dict(job.request), board)
        try:
            result = await self._follow(job, task, board)
        except asyncio.CancelledError:
            ray.cancel(task, force=True)
            raise
        if result.error:
            raise DrigError(result.error)
        self._book.end(job.id, "done", message="", report=_report(result, job.request["names"]))

    async def _follow(self, job: JobRecord, task: Any, board: "Board") -> "IdentityResult":
        """Wait for a training, and note how far it is."""
        total = self._options["training"].total
        waiting, started = asyncio.ensure_future(_result(task)), 0.0
        while not waiting.done():
            await asyncio.wait([waiting], timeout=LOOK_S)
            try:
                done, _ = await asyncio.to_thread(board.read)
            except ray.exceptions.RayError:
                continue  # the board is being restarted
            if not done:
                self._book.update(job.id, total=total, unit="sample", message="looking at the photos")
                continue
            started = started or time.monotonic()
            left = (time.monotonic() - started) / done * (total - done)
            self._book.update(
                job.id, done=done, total=total, unit="sample", message="learning the face", seconds_left=left
            )
        return waiting.result()


async def _result(task: Any) -> "IdentityResult":
    result: IdentityResult = await task
    return result


@ray.remote(num_cpus=0, max_retries=2)
def _personalise(
    album: str, place: str, options: dict[str, Any], request: dict[str, Any], board: "Board"
) -> "IdentityResult":
    """Train one person; the work is done by an actor of the fleet, which has a processor of its own."""
    from pipelines.personalize import PersonalizeConfig, personalize

    name = request["identity"]
    if request["album"]:
        album = storage.join(album, request["album"])
    this_one = {
        "albums": (f"{name}={album}",),
        "storage": place,
        "workers": 1,
        "holdout": HOLDOUT,
        "consent_by": request["consent_by"],
        "force": request["force"],
    }
    (result,) = personalize(PersonalizeConfig(**options | this_one), board=board)
    return result


def _report(result: "IdentityResult", names: Mapping[str, str]) -> dict[str, Any]:
    """What the one who uploaded an album is told of it, by the names that the files had there."""
    return {
        "photos": result.album["photos"],
        "advice": list(result.album["warnings"]),
        "rejects": [
            {"photo": names.get(Path(key).name, key), "reason": why} for key, why in result.album["rejects"].items()
        ],
        **result.measures(),
    }
