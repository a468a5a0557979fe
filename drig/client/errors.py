"""What can go wrong between a client and a server, as DrigErrors with the server's own words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from drig.errors import DrigError


@dataclass(frozen=True)
class Problem:
    """What is wrong, what would be allowed, what to do."""

    what: str
    allowed: str | None = None
    do: str | None = None

    def __str__(self) -> str:
        allowed = f" (allowed: {self.allowed})" if self.allowed else ""
        return f"{self.what}{allowed}" + (f"; {self.do}" if self.do else "")


class ServerError(DrigError):
    """The server has answered that it will not do this."""

    def __init__(self, status: int, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.status = status
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.problems)


class NotAllowed(ServerError):
    """There is no key, or it may not do this (401, 403)."""


class NotFound(ServerError):
    """An identity, a job, or a photo that the server has forgotten (404)."""


class Conflict(ServerError):
    """A name that is taken (409)."""


class Busy(ServerError):
    """Too many wait, longer than the client's patience (429, 503)."""


class JobFailed(DrigError):
    """A job that ended without what it was to make."""

    def __init__(self, job: str, state: str, problems: Sequence[Problem]) -> None:
        words = "; ".join(str(problem) for problem in problems)
        super().__init__(f"{job} {state}" + (f": {words}" if words else ""))
        self.problems = tuple(problems)


class Unreachable(DrigError):
    """There is no answer at all."""


_OF_STATUS = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict, 429: Busy, 503: Busy}


def problems_of(content: Any) -> list[Problem]:
    """The problems in a body of the API, or in one of its jobs."""
    return [Problem(one["what"], one.get("allowed"), one.get("do")) for one in content]


def error_of(response: httpx.Response) -> ServerError:
    """The error that an answer is, its body read already."""
    try:
        problems = problems_of(response.json()["problems"])
    except (ValueError, KeyError, TypeError):  # of a proxy on the way, or no drig server at all
        what = f"{response.request.url} answered {response.status_code} {response.reason_phrase}"
        problems = [Problem(what, do="check that the address is that of a drig server")]
    return refused(response.status_code, problems)


def refused(status: int, problems: Sequence[Problem]) -> ServerError:
    """The error of an HTTP status."""
    return _OF_STATUS.get(status, ServerError)(status, problems)


def unreachable(url: str, error: Exception) -> Unreachable:
    """The error where a request did not come through."""
    reason = str(error) or type(error).__name__
    return Unreachable(f"{url} does not answer: {reason}. Check the address, and that the server runs")
