"""The HTTP API as a plain FastAPI application: it validates, asks for the edit, and words the errors.

It knows neither Ray nor PyTorch: `deployments.app` hands it the replicas, a test anything with the same signature.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint

from deployments.schema import (
    Edited,
    EditForm,
    EditJob,
    Health,
    IdentityEntry,
    IdentityList,
    Problem,
    Problems,
    Refused,
)
from drig import __version__
from drig.errors import DrigError
from drig.identities import Identities, IdentityInfo, UnknownIdentity

MIB = 1024 * 1024
RETRY_AFTER_SECONDS = 2

Edit = Callable[[IdentityInfo, EditJob], Awaitable[Edited | Refused]]
"""Runs an edit with one version of an identity; raises Overloaded when too many wait already."""


class Overloaded(Exception):
    """The queue of edits is full."""


def create_app(identities: Identities, edit: Edit, *, max_upload_mib: float) -> FastAPI:
    """The API over a registry of identities and something that edits."""
    app = FastAPI(title="drig", version=__version__)
    limit = int(max_upload_mib * MIB)
    errors: dict[int | str, dict[str, Any]] = {status: {"model": Problems} for status in (404, 413, 422, 503)}

    # The limit counts bytes as they arrive, before any field is parsed or any picture decoded.
    @app.post(
        "/v1/edits",
        max_body_size=limit,
        response_class=Response,
        responses=errors | {200: {"content": {"image/png": {}}}},
    )
    async def post_edit(form: Annotated[EditForm, Form()]) -> Response:
        """Edit the portrait in `source`: take `modes` from `target`, or set numbers, or both. Answers with a PNG."""
        identity = await run_in_threadpool(identities.get, form.identity)
        job = EditJob(
            source=await form.source.read(),
            target=await form.target.read() if form.target else None,
            modes=tuple(form.modes),
            controls=form.controls(),
            steps=form.steps,
            sampler=form.sampler,
            seed=form.seed,
            aligned=form.aligned,
        )
        result = await edit(identity, job)
        if isinstance(result, Refused):
            return _problems(result.status, Problem(what=result.message))
        headers = {
            "X-Drig-Identity": identity.name,
            "X-Drig-Identity-Version": str(identity.version),
            "X-Drig-Seed": str(job.seed),
            "X-Drig-Warnings": json.dumps(result.warnings),  # ASCII, as a header has to be
        }
        return Response(result.png, media_type="image/png", headers=headers)

    @app.get("/v1/identities")
    async def get_identities() -> IdentityList:
        """The identities that can be edited with, the base rig first."""
        listed = await run_in_threadpool(identities.list)
        return IdentityList(identities=[IdentityEntry.model_validate(info) for info in listed])

    @app.get("/healthz")
    async def get_health() -> Health:
        """Whether this ingress answers; it does while edits run."""
        return Health(version=__version__)

    @app.middleware("http")
    async def refuse_announced_size(request: Request, call_next: RequestResponseEndpoint) -> Response:
        # max_body_size would do, but answers an announced size with plain text.
        if int(request.headers.get("content-length", 0)) > limit:
            return _too_large(max_upload_mib)
        return await call_next(request)

    _answer_errors(app, max_upload_mib)
    return app


def _answer_errors(app: FastAPI, max_upload_mib: float) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _problems(422, *(_from_pydantic(one) for one in error.errors()))

    @app.exception_handler(UnknownIdentity)
    async def unknown(request: Request, error: UnknownIdentity) -> JSONResponse:
        return _problems(404, Problem(what=str(error), do="GET /v1/identities lists what there is"))

    @app.exception_handler(DrigError)
    async def refused(request: Request, error: DrigError) -> JSONResponse:
        return _problems(422, Problem(what=str(error)))

    @app.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Overloaded) -> JSONResponse:
        problem = Problem(what="too many edits are waiting", do=f"send this again in {RETRY_AFTER_SECONDS} seconds")
        return _problems(503, problem, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 413:
            return _too_large(max_upload_mib)
        return _problems(error.status_code, Problem(what=str(error.detail)), headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises the error again after this answer, so that the server logs it.
        return _problems(500, Problem(what="this failed on the server", do="see its log; trying again may help"))


def _too_large(max_upload_mib: float) -> JSONResponse:
    problem = Problem(
        what="the request is too large",
        allowed=f"{max_upload_mib:g} MiB for both photos together",
        do="send photos of fewer pixels, or as JPEG",
    )
    return _problems(413, problem, headers={"Connection": "close"})  # the rest of the upload will not be read


def _problems(status: int, *problems: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    body = Problems(problems=list(problems)).model_dump(exclude_none=True)
    return JSONResponse(body, status_code=status, headers=headers)


def _from_pydantic(error: Mapping[str, Any]) -> Problem:
    """One of pydantic's errors in the words of this API."""
    # Pydantic names its own validators after the field; of those only positions in a list say anything.
    name = ".".join(str(part) for part in error["loc"][1:] if not str(part).startswith(("function-", "constrained-")))
    if error["type"] == "missing":
        return Problem(what=f"{name} is missing", do=f"add the field {name} to the form")
    if error["type"] == "extra_forbidden":
        fields = ", ".join(sorted(EditForm.model_fields))
        return Problem(what=f"{name} is no field of this form", allowed=fields, do="correct its name or leave it out")
    given = repr(error["input"])
    return Problem(
        what=f"{name} is {given if len(given) <= 80 else given[:79] + '…'}",
        allowed=error["msg"],
        do=f"correct {name}; /docs describes every field",
    )
