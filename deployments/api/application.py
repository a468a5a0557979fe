"""The HTTP API as a plain FastAPI application: its routers, put together.

It knows neither Ray nor PyTorch: `deployments.app` hands it the replicas, a test anything that answers alike.
"""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.api import edits, health, options, previews, sources
from deployments.api import identities as identity_routes
from deployments.api.backend import Backend
from deployments.api.bodies import describe_both
from deployments.api.errors import answer_errors, too_large
from deployments.api.gate import Gate
from deployments.api.options import Limits
from deployments.catalogue import Catalogue
from drig import __version__

MIB = 1024 * 1024
OPEN_GATE = Gate()


def create_app(
    backend: Backend,
    catalogue: Catalogue,
    limits: Limits,
    *,
    gate: Gate = OPEN_GATE,
    auth: bool = False,
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """The API over a catalogue of identities and those who do the work.

    auth: whether the gate wants API keys, for those who ask. routers: more routes.
    """
    app = FastAPIOffline(title="drig", version=__version__, redoc_url=None)  # /docs loads nothing from elsewhere
    limit = int(limits.upload_mib * MIB)
    own = [
        sources.router(backend, catalogue, gate, limit=limit),
        previews.router(backend, catalogue, gate, limit=limit),
        edits.router(backend, catalogue, gate, limit=limit),
        identity_routes.router(catalogue, gate),
        options.router(backend, limits, auth=auth),
        health.router(backend, catalogue),
    ]
    for router in (*own, *routers):
        app.include_router(router)
    describe_both(app, own)
    answer_errors(app, limits.upload_mib)
    app.add_middleware(RefuseAnnounced, limits.upload_mib)
    return app


class RefuseAnnounced:
    """A request that says itself that it is too large is not read. (max_body_size alone answers it with plain text.)"""

    def __init__(self, app: ASGIApp, max_upload_mib: float) -> None:
        self._app, self._max_upload_mib = app, max_upload_mib

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The middleware as ASGI wants it."""
        announced = dict(scope.get("headers", ())).get(b"content-length", b"")
        too_much = announced.isdigit() and int(announced) > int(self._max_upload_mib * MIB)
        await (too_large(self._max_upload_mib) if too_much else self._app)(scope, receive, send)
