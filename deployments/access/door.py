"""The door of the HTTP API: who asks is known, and how often, before anything of a request's body is read."""

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.access.keys import EVERYBODY, AccessError, Key, KeyRing
from deployments.access.rates import Rates, TooMany
from deployments.api.errors import Problem, problems

OPEN = ("/v1/options",)
"""What anybody may ask of the API; health and the pages for people are outside of /v1."""

SMALL = ("/v1/previews", "/v1/jobs/", "/v1/sources/")
"""How paths begin that are asked for again and again, and cost little: see `rates.SMALL_ONES`."""


class Door:
    """ASGI middleware: notes each request's key for `key_of`, or answers 401, 403 or 429 in the application's stead.

    Args:
        keys: None = no keys are needed, and only this machine may ask.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing | None, rates: Rates) -> None:
        self._app, self._keys, self._rates = app, keys, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: Any = self._app
        if scope["type"] == "http" and scope["path"].startswith("/v1/") and scope["path"] not in OPEN:
            try:
                key = await self._admit(scope)
                self._rates.count(key, small=scope["path"].startswith(SMALL))
                scope.setdefault("state", {})["key"] = key
            except TooMany as error:
                app = problems(429, Problem(what=str(error)), headers={"Retry-After": str(error.retry_after)})
            except AccessError as error:
                # The rest of the upload is not read, so that the connection is of no more use.
                headers = {"Connection": "close"} | ({"WWW-Authenticate": "Bearer"} if error.status == 401 else {})
                app = problems(error.status, Problem(what=str(error)), headers=headers)
        await app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Key:
        headers = Headers(scope=scope)
        if self._keys is not None:
            return await run_in_threadpool(self._keys.find, headers.get("authorization"))
        client = scope.get("client")
        if client is None or not is_loopback(client[0]):
            raise AccessError(
                "this server has no keys and so serves its own machine alone; whoever runs it makes some with "
                "`drig keys --add NAME` and gives them to it: `drig serve --keys FILE`"
            )
        # A page of somebody else's that is open in this machine's browser must not get in: neither by its own
        # requests, nor under a name that was made to point here.
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise AccessError(f"Host is {host}: without keys this server answers 127.0.0.1 and localhost alone")
        if origin is not None and urlsplit(origin).netloc != host:
            raise AccessError(f"Origin is {origin}: without keys this server answers its own pages alone")
        return EVERYBODY


def key_of(request: Request) -> Key:
    """A dependency of routes: who asks, as `Door` has found it."""
    key: Key = request.state.key
    return key


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
