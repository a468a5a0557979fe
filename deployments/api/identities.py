"""GET /v1/identities: whose models there are."""

from datetime import datetime

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from drig.identities import Identities


class IdentityEntry(BaseModel):
    """One line of GET /v1/identities; only what those who may edit need to know."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    version: int
    created: datetime
    photos: int | None
    size: int


class IdentityList(BaseModel):
    """The answer of GET /v1/identities."""

    identities: list[IdentityEntry]


def router(identities: Identities) -> APIRouter:
    """Routes of the registry."""
    router = APIRouter()

    @router.get("/v1/identities")
    async def get_identities() -> IdentityList:
        """The identities that can be edited with, the base rig first."""
        listed = await run_in_threadpool(identities.list)
        return IdentityList(identities=[IdentityEntry.model_validate(info) for info in listed])

    return router
