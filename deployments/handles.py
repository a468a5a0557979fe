"""The API's backend in Ray Serve: every call goes to a deployment by its handle.

What is asked for changes nothing, so that a replica that dies is no error: its requests are given to another one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.api.errors import RETRY_AFTER_SECONDS, Overloaded
from deployments.job_book import JobRecord, Kind
from deployments.messages import (
    Abilities,
    Edited,
    EditJob,
    FoundFace,
    Previewed,
    PreviewJob,
    Progress,
    Refused,
    Source,
    VideoJob,
    VideoProgress,
    identity_key,
)
from deployments.replicas.edits import EditReplica
from deployments.replicas.faces import FaceReplica
from deployments.replicas.jobs import Jobs
from deployments.replicas.sources import Sources
from drig.errors import DrigError
from drig.identities import Identities, IdentityInfo

ATTEMPTS = 4
"""Replicas that a request may lose before it is given up."""


class Handles:
    """Implements Backend."""

    def __init__(
        self,
        edits: DeploymentHandle[EditReplica],
        faces: DeploymentHandle[FaceReplica],
        sources: DeploymentHandle[Sources],
    ) -> None:
        self._edits, self._faces, self._sources = edits, faces, sources
        self._abilities: Abilities | None = None

    async def read(self, photo: bytes, *, size: int, aligned: bool) -> FoundFace | Refused:
        """See Backend."""
        found: FoundFace | Refused = await _ask(lambda: self._faces.read.remote(photo, size, aligned))
        return found

    async def keep(self, source: Source) -> str:
        """See Backend."""
        token: str = await _ask(lambda: self._sources.keep.remote(source))
        return token

    async def source(self, token: str, *, photo: bool = True) -> Source | None:
        """See Backend."""
        found: Source | None = await _ask(lambda: self._sources.source.remote(token, photo))
        return found

    async def forget(self, token: str) -> bool:
        """See Backend."""
        known: bool = await _ask(lambda: self._sources.forget.remote(token))
        return known

    async def picture(self, token: str, kind: str, size: int) -> bytes | Refused:
        """See Backend."""
        found: bytes | Refused
        found = await self._of_sources((token,), lambda: self._faces.picture.remote(token, kind, size))
        return found

    async def preview(self, job: PreviewJob) -> Previewed | Refused:
        """See Backend."""
        tokens = (job.source,) if job.target is None else (job.source, job.target)
        seen: Previewed | Refused = await self._of_sources(tokens, lambda: self._faces.preview.remote(job))
        return seen

    async def edit(self, identity: IdentityInfo, job: EditJob) -> Edited | Refused:
        """See Backend."""
        edits = self._edits.options(multiplexed_model_id=identity_key(identity))
        answer: Edited | Refused = await _ask(lambda: edits.edit.remote(identity, job))
        return answer

    async def edit_in_steps(self, identity: IdentityInfo, job: EditJob) -> AsyncIterator[Progress | Edited | Refused]:
        """See Backend. Where a replica is lost, the steps begin again."""
        edits = self._edits.options(multiplexed_model_id=identity_key(identity), stream=True)
        for attempt in range(1, ATTEMPTS + 1):
            answers: Any = edits.edit_in_steps.remote(identity, job)
            try:
                async for answer in answers:
                    yield answer
                return
            except (BackPressureError, DeploymentUnavailableError) as error:
                raise Overloaded from error
            except RayActorError as error:
                if attempt == ATTEMPTS:
                    raise Overloaded("those who edit were lost again and again") from error
            finally:
                answers.cancel()

    async def abilities(self) -> Abilities:
        """See Backend."""
        if self._abilities is None:
            self._abilities = await _ask(lambda: self._faces.abilities.remote())
        return self._abilities

    async def _of_sources(self, tokens: tuple[str, ...], ask: Callable[[], Any]) -> Any:
        """What a face replica makes of sources, which it may remember longer than they are there."""
        unknown, answer = await asyncio.gather(_ask(lambda: self._sources.touch.remote(tokens)), _ask(ask))
        if unknown:
            return Refused(404, f"no source has the token {unknown[0]!r}; upload the photo again: POST /v1/sources")
        return answer


class JobHandles:
    """Implements JobsBackend."""

    def __init__(self, jobs: DeploymentHandle[Jobs]) -> None:
        self._jobs = jobs

    async def add(self, kind: Kind, owner: str, request: Mapping[str, Any], files: Mapping[str, bytes]) -> JobRecord:
        """See JobsBackend. Asked once: a replica that dies may have noted the job."""
        job: JobRecord = await _ask(lambda: self._jobs.add.remote(kind, owner, request, files), attempts=1)
        return job

    async def get(self, job_id: str, owner: str | None) -> JobRecord:
        """See JobsBackend."""
        job: JobRecord = await _ask(lambda: self._jobs.get.remote(job_id, owner))
        return job

    async def list(self, owner: str | None) -> list[JobRecord]:
        """See JobsBackend."""
        jobs: list[JobRecord] = await _ask(lambda: self._jobs.list.remote(owner))
        return jobs

    async def result(self, job_id: str, owner: str | None) -> bytes:
        """See JobsBackend."""
        content: bytes = await _ask(lambda: self._jobs.result.remote(job_id, owner))
        return content

    async def remove(self, job_id: str, owner: str | None) -> None:
        """See JobsBackend."""
        await _ask(lambda: self._jobs.remove.remote(job_id, owner))

    async def remove_of(self, identity: str) -> None:
        """See JobsBackend."""
        await _ask(lambda: self._jobs.remove_of.remote(identity))

    async def is_made(self, identity: str) -> bool:
        """See JobsBackend."""
        made: bool = await _ask(lambda: self._jobs.is_made.remote(identity))
        return made


class VideoHandles:
    """Edits videos for jobs, as their `Frames`."""

    def __init__(self, edits: DeploymentHandle[EditReplica], identities: Identities) -> None:
        self._edits, self._identities = edits, identities

    async def __call__(self, name: str, version: int, job: VideoJob) -> AsyncIterator[VideoProgress | Refused | bytes]:
        """Where a replica is lost, the video begins again."""
        identity = await asyncio.to_thread(self._identities.get, name, version)
        edits = self._edits.options(multiplexed_model_id=identity_key(identity), stream=True)
        for attempt in range(1, ATTEMPTS + 1):
            news: Any = edits.video.remote(identity, job)
            try:
                async for one in news:
                    yield one
                return
            except BackPressureError:
                await asyncio.sleep(RETRY_AFTER_SECONDS)  # a job can wait
            except (RayActorError, DeploymentUnavailableError):
                if attempt == ATTEMPTS:
                    raise
            finally:
                news.cancel()


async def _ask(ask: Callable[[], Any], attempts: int = ATTEMPTS) -> Any:
    """The answer of one of several replicas. Raises Overloaded where too many wait already, or all are lost."""
    for attempt in range(1, attempts + 1):
        response = ask()
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()  # or the replica works on for nobody
            raise
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise Overloaded from error
        except RayActorError as error:
            if attempt == attempts:
                raise Overloaded("those who do this were lost") from error
        except RayTaskError as error:
            if isinstance(error.cause, DrigError):
                raise error.cause from None  # without the replica's traceback in its text
            raise
    raise AssertionError("unreachable")
