"""POST /v1/videos: a photo that does what a video shows."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from deployments.api.backend import Backend
from deployments.api.edits import LARGEST
from deployments.api.errors import Problem, Refusal, documented
from deployments.api.fields import ControlFields, Modes, Sampler
from deployments.api.gate import Caller, Gate
from deployments.api.jobs import Job, JobsBackend, described
from deployments.api.photos import LARGE_UPLOADS, given, kept, require_source
from deployments.catalogue import Catalogue
from drig.identities import BASE


class VideoForm(ControlFields):
    """The multipart form of a video."""

    source: UploadFile | None = None
    """The photo to edit; the largest face in it is found and cropped."""
    source_token: str | None = None
    """Or: the token of a photo from POST /v1/sources."""
    driving: UploadFile | None = None
    """An MP4 of a face that drives the photo."""
    targets: tuple[UploadFile, ...] = ()
    """Or: photos, each of which drives a frame."""
    identity: str = BASE
    """Whose model edits, from /v1/identities; `base` knows nobody."""
    modes: Modes = ("exp", "pose")
    """What to take from the video: any of light, exp, pose."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Steps of the sampler for each frame; as of /v1/edits."""
    sampler: Sampler = "ddim"
    """As of /v1/edits."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the start noise, which all frames share."""
    aligned: bool = False
    """The photo is an FFHQ crop already."""
    size: int | None = Field(default=None, ge=16, le=LARGEST)
    """Height of the frames in pixels. Left out = as the model makes them, and 256 at least."""
    fps: float | None = Field(default=None, gt=0, le=60)
    """Frames a second. Left out = those of the driving video, or 2 for photos."""


def router(
    backend: Backend, jobs: JobsBackend, catalogue: Catalogue, gate: Gate, *, limit: int, max_frames: int
) -> APIRouter:
    """The route of videos; `limit` is the most bytes of a request, `max_frames` the most frames of a video."""
    router, in_memory = APIRouter(tags=["videos"]), asyncio.Semaphore(LARGE_UPLOADS)

    @router.post("/v1/videos", status_code=202, max_body_size=limit, responses=documented(404, 413, 415, 422, 503))
    async def post_video(
        form: Annotated[VideoForm, Form()], caller: Annotated[Caller, Depends(gate.may("edit"))]
    ) -> Job:
        """Begin a video: the photo follows the light, expression or pose of another video, or of photos."""
        caller.require_identity(form.identity)
        source = await given("source", form.source, form.source_token)
        require_source(source)
        if (form.driving is None) == (not form.targets):
            what = "driving and targets are both given" if form.targets else "driving and targets are missing"
            raise Refusal(422, Problem(what=what, do="give one of them: an MP4, or photos"))
        if len(form.targets) > max_frames:
            raise Refusal(413, Problem(what=f"{len(form.targets)} targets", allowed=f"{max_frames} of them"))
        identity = await catalogue.get(form.identity)
        photo = source.photo
        if photo is None:
            assert source.token is not None
            photo = (await kept(backend, source.token)).photo
        else:
            await run_in_threadpool(gate.check_photo, "source", photo)
        files = {"source": photo}
        edit: dict[str, Any] = {
            **form.model_dump(include={"modes", "steps", "sampler", "seed", "size", "fps", "aligned"}),
            "controls": form.given(),
            "max_frames": max_frames,
        }
        request = {"identity": identity.name, "version": identity.version, "edit": edit}
        async with in_memory:
            files |= await _driving(form, gate)
            return described(await jobs.add("video", caller.id, request, files))

    return router


async def _driving(form: VideoForm, gate: Gate) -> dict[str, bytes]:
    """What drives, by the names that it is kept under. Raises what the gate does."""
    if form.driving is not None:
        content = await form.driving.read()
        await run_in_threadpool(gate.check_video, "driving", content)
        return {"driving": content}
    files: dict[str, bytes] = {}
    for i, target in enumerate(form.targets):
        files[f"target_{i:05}"] = content = await target.read()
        await run_in_threadpool(gate.check_photo, f"targets.{i}", content)
    return files
