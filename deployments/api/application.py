"""The HTTP API as a plain FastAPI application: its routers, put together.

It knows neither Ray nor PyTorch: `deployments.app` hands it the replicas, a test anything with the same signature.
"""

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.base import RequestResponseEndpoint

from deployments.api import edits, health
from deployments.api import identities as identity_routes
from deployments.api.errors import answer_errors, too_large
from drig import __version__
from drig.identities import Identities

MIB = 1024 * 1024


def create_app(identities: Identities, edit: edits.Edit, *, max_upload_mib: float) -> FastAPI:
    """The API over a registry of identities and something that edits."""
    app = FastAPI(title="drig", version=__version__)
    limit = int(max_upload_mib * MIB)
    app.include_router(edits.router(identities, edit, limit=limit))
    app.include_router(identity_routes.router(identities))
    app.include_router(health.router())

    @app.middleware("http")
    async def refuse_announced_size(request: Request, call_next: RequestResponseEndpoint) -> Response:
        # max_body_size would do, but answers an announced size with plain text.
        if int(request.headers.get("content-length", 0)) > limit:
            return too_large(max_upload_mib)
        return await call_next(request)

    answer_errors(app, max_upload_mib)
    return app
