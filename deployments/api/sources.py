"""/v1/sources: upload a photo once, then preview and edit it many times."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel, Field

from deployments.api.backend import Backend
from deployments.api.bodies import FORM, require_form
from deployments.api.errors import documented, refusal
from deployments.api.fields import Fields
from deployments.api.gate import Gate
from deployments.api.photos import PORTRAIT_SIZE, kept, read, unknown_token
from deployments.catalogue import Catalogue
from deployments.messages import FoundFace, Refused, Source

EXPIRES_IN = 900
"""Seconds after the last use of a source until it is forgotten."""
WEAK = 0.05
"""Facial actions up to here are not told."""
Kind = Literal["portrait", "landmarks", "mesh", "rendered", "normal", "albedo"]


class SourceForm(Fields):
    """The form of POST /v1/sources."""

    photo: UploadFile
    """The photo; the largest face in it is found and cropped."""
    aligned: bool = False
    """The photo is an FFHQ crop already."""


class Pose(BaseModel):
    """Degrees, signed as in controls."""

    yaw: float
    pitch: float
    roll: float


class SourceEntry(BaseModel):
    """What was found in a photo."""

    token: str
    expires_in: int
    """Seconds from now, if it is not used until then."""
    size: int
    """Side of the portrait in pixels."""
    faces_found: int
    crop: list[tuple[float, float]]
    """Corners of the portrait in the photo, in pixels from its top-left corner: tl, tr, br, bl."""
    photo_size: tuple[int, int]
    """Width and height of the upright photo in pixels."""
    landmarks: list[tuple[float, float]] = Field(min_length=68, max_length=68)
    """The 68 iBUG points, 0 to 1 over the portrait."""
    pose: Pose
    light: list[tuple[float, float, float]] = Field(min_length=9, max_length=9)
    """Spherical-harmonics coefficients, as `light_sh` takes them."""
    expression: dict[str, float]
    """Facial actions that can be seen, by name."""
    warnings: list[str]


def entry(token: str, face: FoundFace) -> SourceEntry:
    """What the API tells of a source."""
    yaw, pitch, roll = (round(angle, 2) for angle in face.pose)
    return SourceEntry(
        token=token,
        expires_in=EXPIRES_IN,
        size=len(face.image),
        faces_found=face.faces_found,
        crop=[(round(x, 2), round(y, 2)) for x, y in face.corners],
        photo_size=face.photo_size,
        landmarks=[(round(x, 5), round(y, 5)) for x, y in ((face.landmarks + 1) / 2).tolist()],
        pose=Pose(yaw=yaw, pitch=pitch, roll=roll),
        light=face.codes["light"][0].tolist(),
        expression={name: round(value, 4) for name, value in face.actions.items() if value > WEAK},
        warnings=list(face.warnings),
    )


def router(backend: Backend, catalogue: Catalogue, gate: Gate, *, limit: int) -> APIRouter:
    """Routes of sources; `limit` is the most bytes of a request."""
    allowed = [Depends(gate.may("edit"))]
    router = APIRouter(dependencies=allowed, tags=["sources"])

    @router.post(
        "/v1/sources",
        status_code=201,
        max_body_size=limit,
        dependencies=[Depends(require_form)],
        responses=documented(413, 415, 422, 503),
    )
    async def post_source(form: Annotated[SourceForm, Form(media_type=FORM)]) -> SourceEntry:
        """Find the face in a photo and keep it, in memory only, for previews and edits."""
        photo = await form.photo.read()
        face = await read(backend, gate, "photo", photo, size=catalogue.largest, aligned=form.aligned)
        return entry(await backend.keep(Source(face, photo)), face)

    @router.get("/v1/sources/{token}", responses=documented(404, 503))
    async def get_source(token: str) -> SourceEntry:
        """What was found in the photo."""
        return entry(token, (await kept(backend, token, photo=False)).face)

    @router.delete("/v1/sources/{token}", status_code=204, responses=documented(404, 503))
    async def delete_source(token: str) -> None:
        """Forget the photo now."""
        if not await backend.forget(token):
            raise unknown_token(token)

    @router.get(
        "/v1/sources/{token}/pictures/{kind}",
        response_class=Response,
        responses=documented(404, 422, 503) | {200: {"content": {"image/png": {}}}},
    )
    async def get_picture(token: str, kind: Kind) -> Response:
        """A picture, 256 px, of what was found: the portrait, its landmarks, the head's mesh, its buffers."""
        picture = await backend.picture(token, kind, PORTRAIT_SIZE)
        if isinstance(picture, Refused):
            raise unknown_token(token) if picture.status == 404 else refusal(picture)
        return Response(picture, media_type="image/png")

    return router
