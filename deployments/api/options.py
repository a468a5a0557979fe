"""GET /v1/options: everything that a request can name, so that a page or a client need not know it."""

from typing import get_args

from fastapi import APIRouter
from pydantic import BaseModel

from deployments.api.backend import Backend
from deployments.api.errors import documented
from deployments.api.fields import Mode, Sampler
from deployments.api.previews import Layer
from drig.faces.expressions import EXPRESSIONS


class Limits(BaseModel):
    """What is refused beyond."""

    upload_mib: float
    """A request's bytes, but for albums and videos."""
    album_mib: float
    """Those of an album or a video."""
    pixels: int
    """A photo's."""
    frames: int
    """A video's."""

    def mib_of(self, path: str) -> float:
        """What a request to a path may have."""
        return self.album_mib if path in ("/v1/identities", "/v1/videos") else self.upload_mib


class Options(BaseModel):
    """The answer of GET /v1/options."""

    modes: list[str]
    samplers: list[str]
    moods: dict[str, dict[str, float]]
    """Name -> the facial actions that `mood` sets, 0 to 1; those it does not name are at rest."""
    actions: list[str]
    layers: list[str]
    limits: Limits
    auth: bool
    """Whether requests need an API key."""


def router(backend: Backend, limits: Limits, *, auth: bool) -> APIRouter:
    """Routes that tell what there is."""
    router = APIRouter(tags=["options"])

    @router.get("/v1/options", responses=documented(503))
    async def get_options() -> Options:
        """What requests can name, and how large they may be."""
        return Options(
            modes=list(get_args(Mode)),
            samplers=list(get_args(Sampler)),
            moods={mood: dict(actions) for mood, actions in EXPRESSIONS.items()},
            actions=list((await backend.abilities()).actions),
            layers=list(get_args(Layer)),
            limits=limits,
            auth=auth,
        )

    return router
