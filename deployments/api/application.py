"""The HTTP API as a plain FastAPI application: its routers, put together.

It knows neither Ray nor PyTorch: `deployments.app` hands it the replicas, a test anything that answers alike.
"""

from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.api import edits, health, options, previews, sources, videos
from deployments.api import identities as identity_routes
from deployments.api import jobs as job_routes
from deployments.api.backend import Backend
from deployments.api.bodies import describe_both
from deployments.api.errors import answer_errors, too_large
from deployments.api.gate import Gate
from deployments.api.options import Limits
from deployments.catalogue import Catalogue
from drig import __version__
from drig.forgetting import Forgotten

MIB = 1024 * 1024
OPEN_GATE = Gate()


def create_app(
    backend: Backend,
    jobs: job_routes.JobsBackend,
    catalogue: Catalogue,
    limits: Limits,
    *,
    forget: Callable[[str], Forgotten],
    gate: Gate = OPEN_GATE,
    auth: bool = False,
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """The API over a catalogue of identities and those who do the work.

    forget: removes an identity everywhere, and searches for what remains.
    auth: whether the gate wants API keys, for those who ask. routers: more routes.
    """
    app = FastAPIOffline(title="drig", version=__version__, redoc_url=None)  # /docs loads nothing from elsewhere
    limit, large = int(limits.upload_mib * MIB), int(limits.album_mib * MIB)
    own = [
        sources.router(backend, catalogue, gate, limit=limit),
        previews.router(backend, catalogue, gate, limit=limit),
        edits.router(backend, catalogue, gate, limit=limit),
        videos.router(backend, jobs, catalogue, gate, limit=large, max_frames=limits.frames),
        identity_routes.router(catalogue, jobs, gate, forget, limit=large),
        job_routes.router(jobs, catalogue, gate),
        options.router(backend, limits, auth=auth),
        health.router(backend, catalogue),
    ]
    for router in (*own, *routers):
        app.include_router(router)
    describe_both(app, own)
    answer_errors(app, limits.mib_of)
    app.add_middleware(RefuseAnnounced, limits)
    return app


class RefuseAnnounced:
    """A request that says itself that it is too large is not read. (max_body_size alone answers it with plain text.)"""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The middleware as ASGI wants it."""
        announced = dict(scope.get("headers", ())).get(b"content-length", b"")
        most = self._limits.mib_of(scope.get("path", ""))
        too_much = announced.isdigit() and int(announced) > int(most * MIB)
        await (too_large(most) if too_much else self._app)(scope, receive, send)
