"""GET /v1/identities: whose models there are."""

from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from deployments.api.errors import documented
from deployments.api.gate import Gate
from deployments.catalogue import Catalogue


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


def router(catalogue: Catalogue, gate: Gate) -> APIRouter:
    """Routes of the registry."""
    router = APIRouter(tags=["identities"], dependencies=[Depends(gate.may("edit"))])

    @router.get("/v1/identities", responses=documented(503))
    async def get_identities() -> IdentityList:
        """The identities that can be edited with, the base rig first."""
        return IdentityList(identities=[IdentityEntry.model_validate(info) for info in catalogue.list()])

    return router
