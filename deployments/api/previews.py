"""POST /v1/previews: what an edit would follow, while a hand still moves."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends
from fastapi.responses import Response
from pydantic import Field

from deployments.api.backend import Backend
from deployments.api.errors import documented, refusal
from deployments.api.fields import ControlFields, Fields, Modes
from deployments.api.gate import Caller, Gate
from deployments.catalogue import Catalogue
from deployments.messages import PreviewJob, Refused
from drig.identities import BASE

Layer = Literal["rendered", "normal", "albedo", "mesh"]
SMALLEST, LARGEST = 64, 512
"""Sides of previews in pixels."""


class PreviewBody(Fields):
    """The JSON body of POST /v1/previews."""

    source_token: str
    """The source to edit, from POST /v1/sources."""
    target_token: str | None = None
    """A source to take `modes` from."""
    identity: str = BASE
    """Whose shape the head has; `base` leaves the photo's own."""
    modes: Modes = ()
    """What to take from the target: light, exp, pose."""
    controls: ControlFields = ControlFields()
    """Explicit numbers, applied after the target."""
    layer: Layer = "rendered"
    """What to see: one of the buffers, or the mesh over the portrait."""
    size: int = Field(default=256, ge=SMALLEST, le=LARGEST)
    """Side of the picture in pixels."""


def router(backend: Backend, catalogue: Catalogue, gate: Gate, *, limit: int) -> APIRouter:
    """Routes of previews; `limit` is the most bytes of a request."""
    router = APIRouter(tags=["previews"])
    headers: dict[str, Any] = {
        "X-Drig-Milliseconds": {"schema": {"type": "number"}},
        "X-Drig-Pose": {"schema": {"type": "string"}},
    }

    @router.post(
        "/v1/previews",
        max_body_size=limit,
        response_class=Response,
        responses=documented(404, 413, 422, 503) | {200: {"content": {"image/png": {}}, "headers": headers}},
    )
    async def post_preview(
        body: Annotated[PreviewBody, Body()], caller: Annotated[Caller, Depends(gate.may("edit"))]
    ) -> Response:
        """The buffers of an edit, in milliseconds and without the network. Answers with a PNG."""
        caller.require_identity(body.identity)
        job = PreviewJob(
            source=body.source_token,
            target=body.target_token,
            identity=await catalogue.get(body.identity),
            modes=body.modes,
            controls=body.controls.given(),
            layer=body.layer,
            size=body.size,
        )
        seen = await backend.preview(job)
        if isinstance(seen, Refused):
            raise refusal(seen)
        told = {
            "X-Drig-Milliseconds": f"{1000 * seen.seconds:.1f}",
            "X-Drig-Pose": ",".join(f"{angle:.2f}" for angle in seen.pose),
        }
        return Response(seen.png, media_type="image/png", headers=told)

    return router
