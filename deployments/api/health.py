"""GET /healthz."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from drig import __version__


class Health(BaseModel):
    """The answer of GET /healthz."""

    status: Literal["ok"] = "ok"
    version: str


def router() -> APIRouter:
    """Routes for those who watch the service."""
    router = APIRouter()

    @router.get("/healthz")
    async def get_health() -> Health:
        """Whether this ingress answers; it does while edits run."""
        return Health(version=__version__)

    return router
