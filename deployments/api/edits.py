"""POST /v1/edits and /v1/edits:stream: a photo in, the edited portrait out; from a form or from JSON."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Body, Depends, Form, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field

from deployments.api.backend import Backend
from deployments.api.bodies import FORM, JsonRoute, require_form
from deployments.api.errors import Problem, Refusal, as_refusal, documented, refusal
from deployments.api.fields import Base64, ControlFields, Fields, Modes, Sampler, to_base64
from deployments.api.gate import Caller, Gate
from deployments.api.photos import Given, find, given, require_source
from deployments.catalogue import Catalogue
from deployments.messages import Edited, EditJob, Progress, Refused
from drig.identities import BASE, IdentityInfo

Answer = TypeVar("Answer")
LARGEST = 2048
"""Largest side of an answered portrait in pixels; beyond the rig's own it is only enlarged."""


class EditFields(Fields):
    """What forms and JSON say alike."""

    source_token: str | None = None
    """Or: the token of a photo from POST /v1/sources."""
    target_token: str | None = None
    """Or: the token of a photo to take `modes` from."""
    identity: str = BASE
    """Whose model edits, from /v1/identities; `base` knows nobody."""
    modes: Modes = ()
    """What to take from the target, repeated or as `light,exp`."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Steps of the sampler; more take longer. None = as many as the rig needs: 20 as in the paper, 8 with the shipped
    base."""
    sampler: Sampler = "ddim"
    """How noise is removed: `ddim` as in the paper, `unipc` or `dpmpp` in fewer steps, `heun` in two calls a step."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the start noise: the same request gives the same picture."""
    aligned: bool = False
    """The photos are FFHQ crops already."""
    size: int | None = Field(default=None, ge=16, le=LARGEST)
    """Side of the answered portrait in pixels. Left out = as the model makes it; larger ones are enlarged."""
    paste_back: bool = False
    """Answer with the whole source photo, the edited portrait back in its place."""
    deadline: float | None = Field(default=None, gt=0, le=3600)
    """Seconds after which nobody needs the answer: the edit is then stopped, with 503."""
    answer: Literal["png", "json"] = "png"
    """The picture alone, or JSON with the picture, its buffers and what took how long."""


class EditForm(ControlFields, EditFields):
    """The multipart form of an edit."""

    source: UploadFile | None = None
    """The photo to edit; the largest face in it is found and cropped."""
    target: UploadFile | None = None
    """A photo to take `modes` from."""


SentForm = Annotated[EditForm, Form(media_type=FORM)]


class EditBody(EditFields):
    """The JSON body of an edit."""

    source: Base64 | None = None
    """The photo to edit, in base64; the largest face in it is found and cropped."""
    target: Base64 | None = None
    """A photo to take `modes` from, in base64."""
    controls: ControlFields = ControlFields()
    """Explicit numbers, applied after the target."""


@dataclass(frozen=True)
class Order:
    """An edit as it was asked for, whatever the body was."""

    fields: EditFields
    source: Given
    target: Given
    controls: dict[str, Any]
    caller: Caller
    started: float
    """On the monotonic clock."""


@dataclass(frozen=True)
class Ready:
    """An order whose photos are read."""

    order: Order
    identity: IdentityInfo
    job: EditJob
    read_seconds: float


class Desk:
    """Takes orders, has them done and words the answers."""

    def __init__(self, backend: Backend, catalogue: Catalogue, gate: Gate) -> None:
        self._backend, self._catalogue, self._gate = backend, catalogue, gate

    async def answer(self, order: Order) -> Response:
        """The edit as a PNG, or as JSON. Raises Refusal."""

        async def edited() -> Response:
            ready = await self._prepare(order)
            result = await self._backend.edit(ready.identity, ready.job)
            if isinstance(result, Refused):
                raise refusal(result)
            if order.fields.answer == "json":
                return JSONResponse(await self._report(ready, result))
            marked = await self._gate.mark(result.png, "image/png", _told(ready))
            return Response(marked, media_type="image/png", headers=_headers(ready, result))

        return await _within(order, edited())

    async def stream(self, order: Order) -> Response:
        """The edit as server-sent events. Raises Refusal for what is wrong before the first."""
        ready = await _within(order, self._prepare(order))
        answers = self._backend.edit_in_steps(ready.identity, replace(ready.job, buffers=True))
        try:
            first = await _within(order, anext(answers))
            if isinstance(first, Refused):
                raise refusal(first)
        except BaseException:
            await _close(answers)
            raise
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies pass each event on at once
        return StreamingResponse(self._events(ready, first, answers), media_type="text/event-stream", headers=headers)

    async def _events(
        self, ready: Ready, first: Progress | Edited, answers: AsyncIterator[Progress | Edited | Refused]
    ) -> AsyncIterator[bytes]:
        """Ends with a result or a problem; closed by a client that hangs up, it ends the edit."""
        try:
            found: Progress | Edited | Refused = first
            while isinstance(found, Progress):
                marked = await self._gate.mark(found.png, "image/png", _told(ready))
                yield _event("progress", {"step": found.step, "steps": found.steps, "image": to_base64(marked)})
                found = await _within(ready.order, anext(answers))
            if isinstance(found, Refused):
                raise refusal(found)
            yield _event("result", await self._report(ready, found))
        except Exception as error:
            refused = as_refusal(error)
            problems = [problem.model_dump(exclude_none=True) for problem in refused.problems]
            yield _event("problem", {"status": refused.status, "problems": problems})
            if refused is not error:
                raise  # for the server's log
        finally:
            await _close(answers)

    async def _prepare(self, order: Order) -> Ready:
        fields = order.fields
        order.caller.require_identity(fields.identity)
        require_source(order.source)
        if fields.paste_back and fields.size is not None:
            what = "size is of the portrait, and with paste_back the answer is the whole photo, of its own size"
            raise Refusal(422, Problem(what=what, do="leave out one of the two"))
        identity = await self._catalogue.get(fields.identity)
        started = time.monotonic()
        source, target = await asyncio.gather(
            *(
                find(
                    self._backend,
                    self._gate,
                    photo,
                    size=identity.size,
                    aligned=fields.aligned,
                    with_photo=fields.paste_back and photo is order.source,
                )
                for photo in (order.source, order.target)
            )
        )
        assert source is not None
        job = EditJob(
            source=source.face,
            target=None if target is None else target.face,
            modes=fields.modes,
            controls=order.controls,
            steps=fields.steps,
            sampler=fields.sampler,
            seed=fields.seed,
            size=fields.size,
            photo=source.photo if fields.paste_back else None,
            buffers=fields.answer == "json",
        )
        return Ready(order, identity, job, time.monotonic() - started)

    async def _report(self, ready: Ready, edited: Edited) -> dict[str, Any]:
        """The JSON answer."""
        total = time.monotonic() - ready.order.started
        timings = {**edited.timings, "read": ready.read_seconds, "total": total}
        return {
            "identity": ready.identity.name,
            "version": ready.identity.version,
            "seed": ready.job.seed,
            "image": to_base64(await self._gate.mark(edited.png, "image/png", _told(ready))),
            "buffers": {layer: to_base64(png) for layer, png in edited.buffers.items()},
            "timings": {name: round(seconds, 4) for name, seconds in timings.items()},
            "warnings": list(edited.warnings),
        }


def router(backend: Backend, catalogue: Catalogue, gate: Gate, *, limit: int) -> APIRouter:
    """Routes that edit; `limit` is the most bytes of a request."""
    router, desk = APIRouter(tags=["edits"]), Desk(backend, catalogue, gate)
    may_edit = Depends(gate.may("edit"))
    picture: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "application/json": {}}}}
    events: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
    refusals = documented(404, 413, 415, 422, 503)

    async def edit_json(body: Annotated[EditBody, Body()], caller: Annotated[Caller, may_edit]) -> Response:
        """Edit a portrait; the photos in base64, or tokens of sources."""
        return await desk.answer(_of_body(body, caller))

    async def edit_form(form: SentForm, caller: Annotated[Caller, may_edit]) -> Response:
        """Edit the portrait in `source`: take `modes` from `target`, or set numbers, or both. Answers with a PNG."""
        return await desk.answer(await _of_form(form, caller))

    async def stream_json(body: Annotated[EditBody, Body()], caller: Annotated[Caller, may_edit]) -> Response:
        """Edit a portrait and watch."""
        return await desk.stream(_of_body(body, caller))

    async def stream_form(form: SentForm, caller: Annotated[Caller, may_edit]) -> Response:
        """As /v1/edits, answered in server-sent events.

        `progress` {step, steps, image} after each step, then `result`, the JSON answer of /v1/edits, or `problem`
        {status, problems}. A client that hangs up ends the edit.
        """
        return await desk.stream(await _of_form(form, caller))

    for path, of_json, of_form, answers in (
        ("/v1/edits", edit_json, edit_form, picture),
        ("/v1/edits:stream", stream_json, stream_form, events),
    ):
        # The limit counts bytes as they arrive, before any field is parsed or any picture decoded.
        settings: dict[str, Any] = {
            "methods": ["POST"],
            "max_body_size": limit,
            "response_class": Response,
            "responses": refusals | answers,
        }
        router.add_api_route(path, of_json, route_class_override=JsonRoute, **settings)
        router.add_api_route(path, of_form, dependencies=[Depends(require_form)], **settings)
    return router


async def _of_form(form: EditForm, caller: Caller) -> Order:
    started = time.monotonic()
    source = await given("source", form.source, form.source_token)
    target = await given("target", form.target, form.target_token)
    return Order(form, source, target, form.given(), caller, started)


def _of_body(body: EditBody, caller: Caller) -> Order:
    source = Given("source", body.source, body.source_token)
    target = Given("target", body.target, body.target_token)
    return Order(body, source, target, body.controls.given(), caller, time.monotonic())


async def _within(order: Order, work: Awaitable[Answer]) -> Answer:
    """The work's result, if it is there before the order's deadline; otherwise the work is cancelled: Refusal."""
    deadline = order.fields.deadline
    left = None if deadline is None else order.started + deadline - time.monotonic()
    try:
        async with asyncio.timeout(left):
            return await work
    except TimeoutError:
        what = f"the edit was not done within the deadline of {deadline:g} s, and was stopped"
        problem = Problem(what=what, do="allow more seconds, fewer steps, or try again when less is asked for")
        raise Refusal(503, problem, headers={"Retry-After": "2"}) from None


async def _close(answers: AsyncIterator[Any]) -> None:
    close = getattr(answers, "aclose", None)
    if close is not None:
        await close()


def _told(ready: Ready) -> dict[str, Any]:
    """What the mark of an edit says; not of whom."""
    return {"changed": sorted({*ready.job.modes, *ready.job.controls})}


def _headers(ready: Ready, edited: Edited) -> dict[str, str]:
    return {
        "X-Drig-Identity": ready.identity.name,
        "X-Drig-Identity-Version": str(ready.identity.version),
        "X-Drig-Seed": str(ready.job.seed),
        "X-Drig-Warnings": json.dumps(edited.warnings),  # ASCII, as a header has to be
    }


def _event(name: str, content: Any) -> bytes:
    """One server-sent event; JSON has no line breaks of its own."""
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()
