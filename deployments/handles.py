"""The API's backend in Ray Serve: every call goes to a deployment by its handle.

What is asked for changes nothing, so that a replica that dies is no error: its requests are given to another one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.api.errors import Overloaded
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
    identity_key,
)
from deployments.replicas.edits import EditReplica
from deployments.replicas.faces import FaceReplica
from deployments.replicas.sources import Sources
from drig.identities import IdentityInfo

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


async def _ask(ask: Callable[[], Any]) -> Any:
    """The answer of one of several replicas. Raises Overloaded where too many wait already, or all are lost."""
    for attempt in range(1, ATTEMPTS + 1):
        response = ask()
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()  # or the replica works on for nobody
            raise
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise Overloaded from error
        except RayActorError as error:
            if attempt == ATTEMPTS:
                raise Overloaded("those who do this were lost again and again") from error
    raise AssertionError("unreachable")
