"""Every error of the API in one form: what is wrong, what would be allowed, what to do."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from deployments.access.keys import AccessError
from deployments.access.uploads import TooLargeUpload, UnsupportedUpload
from deployments.job_book import TooManyJobs, UnknownJob
from deployments.messages import Refused
from drig.errors import DrigError
from drig.identities import UnknownIdentity

RETRY_AFTER_SECONDS = 2
_STATUSES: dict[type, int] = {
    DrigError: 422,
    UnknownIdentity: 404,
    UnknownJob: 404,
    TooLargeUpload: 413,
    UnsupportedUpload: 415,
    TooManyJobs: 503,
}
"""What the exceptions of the work are to HTTP; the closest class counts."""


class Problem(BaseModel):
    """What is wrong with a request, what would be allowed, and what to do."""

    what: str
    allowed: str | None = None
    do: str | None = None


class Problems(BaseModel):
    """The body of every error of this API."""

    problems: list[Problem]


class Refusal(Exception):
    """A request that is not done, with the whole answer."""

    def __init__(self, status: int, *problems: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__("; ".join(problem.what for problem in problems))
        self.status, self.problems, self.headers = status, problems, dict(headers or {})


class Overloaded(Refusal):
    """Too many wait already, or nobody can do it at the moment: the same request may work soon."""

    def __init__(self, what: str = "too many requests are waiting") -> None:
        problem = Problem(what=what, do=f"send this again in {RETRY_AFTER_SECONDS} seconds")
        super().__init__(503, problem, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def refusal(answer: Refused) -> Refusal:
    """A replica's refusal as the API answers it."""
    return Overloaded(answer.message) if answer.status == 503 else Refusal(answer.status, Problem(what=answer.message))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route for /docs."""
    return {status: {"model": Problems} for status in statuses}


def answer_errors(app: FastAPI, most_mib: Callable[[str], float]) -> None:
    """Adds the handlers that word every exception as problems; `most_mib` is what a request to a path may have."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = _fields_of(request)
        return problems(422, *(_from_pydantic(one, fields) for one in error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 413:
            return too_large(most_mib(request.url.path))
        return problems(error.status_code, Problem(what=str(error.detail)), headers=dict(error.headers or {}))

    async def refused(request: Request, error: Exception) -> JSONResponse:
        # Of what nobody foresaw: Starlette raises it again after this answer, so that the server logs it.
        found = as_refusal(error)
        return problems(found.status, *found.problems, headers=found.headers)

    for kind in (Refusal, AccessError, *_STATUSES, Exception):
        app.add_exception_handler(kind, refused)


def as_refusal(error: Exception) -> Refusal:
    """What an exception of the work is answered with, also where the status of the answer is sent already."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, AccessError):
        return Refusal(error.status, Problem(what=str(error)))
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), None)
    if status is None:
        return Refusal(500, Problem(what="this failed on the server", do="see its log; trying again may help"))
    do = "GET /v1/identities lists what there is" if isinstance(error, UnknownIdentity) else None
    headers = {"Retry-After": "60"} if status == 503 else {}
    return Refusal(status, Problem(what=str(error), do=do), headers=headers)


def problems(status: int, *problems: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error's answer."""
    body = Problems(problems=list(problems)).model_dump(exclude_none=True)
    return JSONResponse(body, status_code=status, headers=headers)


def too_large(max_upload_mib: float) -> JSONResponse:
    """The answer to more bytes than are read."""
    problem = Problem(
        what="the request is too large",
        allowed=f"{max_upload_mib:g} MiB for all files together",
        do="send photos of fewer pixels, or as JPEG",
    )
    return problems(413, problem, headers={"Connection": "close"})  # the rest of the upload will not be read


def _fields_of(request: Request) -> list[str]:
    """The names of a route's form or JSON body."""
    body = getattr(request.scope.get("route"), "body_field", None)
    fields = getattr(getattr(body, "field_info", None), "annotation", None)
    return sorted(getattr(fields, "model_fields", {}))


def _from_pydantic(error: Mapping[str, Any], fields: Sequence[str]) -> Problem:
    """One of pydantic's errors in the words of this API."""
    if error["type"] == "json_invalid":
        return Problem(what=f"the body is not JSON: {error['ctx']['error']}", do="send JSON, or a multipart form")
    # Pydantic names its own validators after the field; of those only positions in a list say anything.
    name = ".".join(str(part) for part in error["loc"][1:] if not str(part).startswith(("function-", "constrained-")))
    if error["type"] == "missing":
        return Problem(what=f"{name or 'the body'} is missing", do=f"add {name or 'the fields that /docs describes'}")
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(fields) or None
        return Problem(
            what=f"{name} is no field of this request", allowed=allowed, do="correct its name or leave it out"
        )
    given = repr(error["input"])
    return Problem(
        what=f"{name or 'the body'} is {given if len(given) <= 80 else given[:79] + '…'}",
        allowed=error["msg"].removeprefix("Value error, "),
        do=f"correct {name or 'it'}; /docs describes every field",
    )
