"""POST /v1/edits: a photo in, the edited portrait out."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BeforeValidator, Field

from deployments.api.errors import Problem, documented, problems
from deployments.api.fields import ControlFields, Mode, Sampler, split
from deployments.messages import Edited, EditJob, Refused
from drig.identities import BASE, Identities, IdentityInfo

Edit = Callable[[IdentityInfo, EditJob], Awaitable[Edited | Refused]]
"""Runs an edit with one version of an identity; raises Overloaded when too many wait already."""


class EditForm(ControlFields):
    """The multipart form of POST /v1/edits."""

    source: UploadFile
    """The photo to edit; the largest face in it is found and cropped."""
    target: UploadFile | None = None
    """A photo to take `modes` from."""
    identity: str = BASE
    """Whose model edits, from /v1/identities; `base` knows nobody."""
    modes: Annotated[tuple[Mode, ...], BeforeValidator(split)] = ()
    """What to take from the target, repeated or as `light,exp`."""
    steps: int = Field(default=20, ge=1, le=1000)
    """Steps of the sampler; more take longer."""
    sampler: Sampler = "ddim"
    """How noise is removed: `ddim` as in the paper, `unipc` or `dpmpp` in fewer steps, `heun` in two calls a step."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the start noise: the same request gives the same picture."""
    aligned: bool = False
    """The photos are FFHQ crops already."""

    def controls(self) -> dict[str, Any]:
        """The arguments of `Controls` that were given."""
        return self.model_dump(include=set(ControlFields.model_fields), exclude_none=True)


def router(identities: Identities, edit: Edit, *, limit: int) -> APIRouter:
    """Routes that edit; `limit` is the most bytes of a request."""
    router = APIRouter()

    # The limit counts bytes as they arrive, before any field is parsed or any picture decoded.
    @router.post(
        "/v1/edits",
        max_body_size=limit,
        response_class=Response,
        responses=documented(404, 413, 422, 503) | {200: {"content": {"image/png": {}}}},
    )
    async def post_edit(form: Annotated[EditForm, Form()]) -> Response:
        """Edit the portrait in `source`: take `modes` from `target`, or set numbers, or both. Answers with a PNG."""
        identity = await run_in_threadpool(identities.get, form.identity)
        job = EditJob(
            source=await form.source.read(),
            target=await form.target.read() if form.target else None,
            modes=form.modes,
            controls=form.controls(),
            steps=form.steps,
            sampler=form.sampler,
            seed=form.seed,
            aligned=form.aligned,
        )
        result = await edit(identity, job)
        if isinstance(result, Refused):
            return problems(result.status, Problem(what=result.message))
        headers = {
            "X-Drig-Identity": identity.name,
            "X-Drig-Identity-Version": str(identity.version),
            "X-Drig-Seed": str(job.seed),
            "X-Drig-Warnings": json.dumps(result.warnings),  # ASCII, as a header has to be
        }
        return Response(result.png, media_type="image/png", headers=headers)

    return router
