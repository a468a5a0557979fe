"""/v1/identities: whose models there are, how one is made of an album, and how one is forgotten."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from deployments.access.uploads import without_metadata
from deployments.api.errors import Problem, Refusal, documented
from deployments.api.fields import Fields
from deployments.api.gate import Caller, Gate
from deployments.api.jobs import Job, JobsBackend, described
from deployments.api.photos import LARGE_UPLOADS
from deployments.catalogue import Catalogue
from drig import logs
from drig.forgetting import Forgotten
from drig.identities import BASE, CONSENT_AT, CONSENT_BY, IdentityInfo, check_name

MOST_PHOTOS = 100
VIDEO = "album.mp4"


class Consent(BaseModel):
    """Somebody's word that the person has agreed."""

    by: str
    at: datetime


class IdentityEntry(BaseModel):
    """One identity; only what those who may edit need to know."""

    name: str
    version: int
    created: datetime
    photos: int | None
    size: int
    consent: Consent | None
    """None = nobody has vouched for it here."""


class IdentityList(BaseModel):
    """The answer of GET /v1/identities."""

    identities: list[IdentityEntry]


class ForgottenIdentity(BaseModel):
    """What became of a deleted identity."""

    name: str
    removed: list[str]
    remains: list[str]
    """What a search for the same content found afterwards; empty = nothing of theirs is left."""


class IdentityForm(Fields):
    """The multipart form of a new identity."""

    name: str
    """1 to 64 letters, digits, - and _, the first a letter or a digit."""
    photos: list[UploadFile]
    """10 to 20 photos of the person in different light and poses, or one MP4."""
    consent: Literal["true"]
    """`true`: the person has agreed to being edited."""
    consent_by: str = Field(min_length=1, max_length=200)
    """Who says so; kept with the identity, with the time."""
    replace: bool = False
    """Make a new version of an identity that is there."""
    force: bool = False
    """Train although the album doctor finds faults."""


def router(
    catalogue: Catalogue,
    jobs: JobsBackend,
    gate: Gate,
    forget: Callable[[str], Forgotten],
    *,
    limit: int,
) -> APIRouter:
    """Routes of identities; `limit` is the most bytes of an album, `forget` removes somebody and searches."""
    router, in_memory = APIRouter(tags=["identities"]), asyncio.Semaphore(LARGE_UPLOADS)
    edits = Annotated[Caller, Depends(gate.may("edit"))]

    @router.get("/v1/identities", responses=documented(503))
    async def get_identities(caller: edits) -> IdentityList:
        """The identities that can be edited with, the base rig first."""
        return IdentityList(identities=[_entry(info) for info in catalogue.list() if caller.sees(info.name)])

    @router.get("/v1/identities/{name}", responses=documented(404, 503))
    async def get_identity(name: str, caller: edits) -> IdentityEntry:
        """One of them."""
        caller.require_identity(name)
        return _entry(await catalogue.get(name))

    @router.post("/v1/identities", status_code=202, max_body_size=limit, responses=documented(409, 413, 415, 422, 503))
    async def post_identity(
        form: Annotated[IdentityForm, Form()], caller: Annotated[Caller, Depends(gate.may("personalise"))]
    ) -> Job:
        """Begin to make an identity of an album: it is checked, trained on and registered; its photos are deleted."""
        check_name(form.name)
        caller.require_identity(form.name)
        await _require_free(catalogue, jobs, form)
        async with in_memory:
            files = await _album(form, gate)
            request = {
                "identity": form.name,
                "consent_by": form.consent_by,
                "force": form.force,
                "album": VIDEO if VIDEO in files else None,
                "names": {name: upload.filename for name, upload in zip(files, form.photos, strict=True)},
            }
            logs.event("identity_asked_for", identity=form.name, key=caller.id, photos=len(files))
            return described(await jobs.add("identity", caller.id, request, files))

    @router.delete("/v1/identities/{name}", responses=documented(404, 422, 503))
    async def delete_identity(name: str, caller: Annotated[Caller, Depends(gate.may("delete"))]) -> ForgottenIdentity:
        """Forget a person: all versions, weights, pictures, jobs and training files; then search for what remains."""
        caller.require_identity(name)
        if name == BASE:
            raise Refusal(422, Problem(what="the base rig is nobody's identity", do="use `drig identities` for it"))
        await jobs.remove_of(name)
        forgotten = await run_in_threadpool(forget, name)
        catalogue.forget(name)
        logs.event("identity_forgotten", identity=name, key=caller.id, remains=len(forgotten.remains))
        return ForgottenIdentity(name=name, removed=list(forgotten.removed), remains=list(forgotten.remains))

    return router


async def _require_free(catalogue: Catalogue, jobs: JobsBackend, form: IdentityForm) -> None:
    """Raises a Refusal where the name is taken."""
    if form.name == BASE:
        raise Refusal(422, Problem(what=f"the name {BASE!r} is kept for the base rig", do="choose another name"))
    if await jobs.is_made(form.name):
        raise Refusal(409, Problem(what=f"{form.name!r} is being made already", do="GET /v1/jobs says how far it is"))
    if not form.replace and form.name in {info.name for info in catalogue.list()}:
        what = f"there is an identity {form.name!r} already"
        raise Refusal(409, Problem(what=what, do="choose another name, or send replace=true for a new version of it"))


async def _album(form: IdentityForm, gate: Gate) -> dict[str, bytes]:
    """The uploads by the names that they are kept under, photos without their metadata. Raises Refusal, DrigError."""
    if len(form.photos) > MOST_PHOTOS:
        what = f"{len(form.photos)} photos"
        raise Refusal(413, Problem(what=what, allowed=f"{MOST_PHOTOS}", do="choose the best 20"))
    files: dict[str, bytes] = {}
    for i, upload in enumerate(form.photos):
        content, what = await upload.read(), f"photos.{i} ({upload.filename})"
        if content[4:8] == b"ftyp" and len(form.photos) == 1:
            await run_in_threadpool(gate.check_video, what, content)
            return {VIDEO: content}
        await run_in_threadpool(gate.check_photo, what, content)
        files[f"{i:03}.jpg"] = await run_in_threadpool(without_metadata, what, content)
    return files


def _entry(info: IdentityInfo) -> IdentityEntry:
    by: Any = info.tags.get(CONSENT_BY)
    consent = None if by is None else Consent(by=by, at=datetime.fromisoformat(info.tags[CONSENT_AT]))
    return IdentityEntry(
        name=info.name,
        version=info.version,
        created=info.created,
        photos=info.photos,
        size=info.size,
        consent=consent,
    )
