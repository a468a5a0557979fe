"""GET /healthz and /readyz, for those who watch the service."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from deployments.api.backend import Backend
from deployments.api.errors import Overloaded, documented
from deployments.catalogue import Catalogue
from drig import __version__


class Health(BaseModel):
    """The answer of GET /healthz."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """The answer of GET /readyz where edits can be made."""

    status: Literal["ready"] = "ready"
    identities: int
    registry_away: float
    """Seconds for which the registry has not answered; known identities are edited with all the same."""


def router(backend: Backend, catalogue: Catalogue) -> APIRouter:
    """Routes without a caller."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def get_health() -> Health:
        """Whether this ingress answers; it does while edits run."""
        return Health(version=__version__)

    @router.get("/readyz", responses=documented(503))
    async def get_readiness() -> Readiness:
        """Whether edits can be made: 503 until the registry has told whose, and somebody is there to do them."""
        if catalogue.problem is not None:
            raise Overloaded(catalogue.problem)
        await backend.abilities()
        return Readiness(identities=len(catalogue.list()), registry_away=round(catalogue.stale_seconds, 1))

    return router
