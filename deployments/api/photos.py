"""Photos that requests bring: as a file, or as the token of a source that was uploaded before."""

from dataclasses import dataclass

from fastapi import UploadFile

from deployments.api.backend import Backend
from deployments.api.errors import Problem, Refusal, refusal
from deployments.api.gate import Gate
from deployments.messages import FoundFace, Refused, Source

LARGE_UPLOADS = 2
"""Albums and videos that an ingress holds in memory at a time; the others wait on its disk."""
PORTRAIT_SIZE = 256
"""Side of the portraits that are read, or that of a larger rig: smaller rigs reduce them."""


@dataclass(frozen=True)
class Given:
    """A photo argument as it came: at most one of the two."""

    field: str
    """`source` or `target`, for messages."""
    photo: bytes | None
    token: str | None


async def given(field: str, upload: UploadFile | None, token: str | None) -> Given:
    """A form's photo argument."""
    return Given(field, None if upload is None else await upload.read(), token)


def require_source(source: Given) -> None:
    """Raises a Refusal unless it is there."""
    if source.photo is None and source.token is None:
        raise Refusal(
            422,
            Problem(what="source is missing", allowed="source or source_token", do="send a photo, or a source's token"),
        )


async def find(
    backend: Backend, gate: Gate, photo: Given, *, size: int, aligned: bool, with_photo: bool = True
) -> Source | None:
    """The face of a photo argument, read now or before; None where none was given. Raises Refusal.

    with_photo: whether the photo itself is needed too.
    """
    if photo.photo is not None and photo.token is not None:
        what = f"{photo.field} and {photo.field}_token are both given"
        raise Refusal(422, Problem(what=what, do="give one of the two"))
    if photo.token is not None:
        return await kept(backend, photo.token, photo=with_photo)
    if photo.photo is None:
        return None
    return Source(await read(backend, gate, photo.field, photo.photo, size=size, aligned=aligned), photo.photo)


async def read(backend: Backend, gate: Gate, field: str, photo: bytes, *, size: int, aligned: bool) -> FoundFace:
    """The face in an uploaded photo. Raises Refusal."""
    gate.check_photo(field, photo)
    found = await backend.read(photo, size=max(size, PORTRAIT_SIZE), aligned=aligned)
    if isinstance(found, Refused):
        raise refusal(Refused(found.status, f"{field}: {found.message}"))
    return found


async def kept(backend: Backend, token: str, *, photo: bool = True) -> Source:
    """The source of a token, with or without its photo. Raises Refusal (404)."""
    source = await backend.source(token, photo=photo)
    if source is None:
        raise unknown_token(token)
    return source


def unknown_token(token: str) -> Refusal:
    """What a token is answered with that is not known, or not any more."""
    shown = token if len(token) <= 40 else token[:39] + "…"
    return Refusal(
        404, Problem(what=f"no source has the token {shown!r}", do="upload the photo again: POST /v1/sources")
    )
