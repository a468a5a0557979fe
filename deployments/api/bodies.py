"""One path for two kinds of body: what says that it is JSON goes to a route of its own, all else to the form's."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from deployments.api.errors import Problem, Refusal

FORM = "multipart/form-data"
"""What forms are documented as; browsers send them as `application/x-www-form-urlencoded` where they hold no file."""


class JsonRoute(APIRoute):
    """A route for JSON bodies alone, which has to come before the form's of the same path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As every route, and not at all unless the body is JSON."""
        is_json = _content_type(dict(scope.get("headers", ()))) == "application/json"
        return super().matches(scope) if is_json else (Match.NONE, {})


def require_form(request: Request) -> None:
    """A dependency of the form's route: 415 for other bodies."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in (FORM, "application/x-www-form-urlencoded"):
        raise Refusal(
            415,
            Problem(
                what=f"the body is {found or 'of no type'}",
                allowed="multipart/form-data, application/json",
                do="send a form or JSON, and say so in Content-Type",
            ),
        )


def describe_both(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """OpenAPI has one operation for a path and method: /docs then shows both of its bodies."""
    json_routes = [route for router in routers for route in router.routes if isinstance(route, JsonRoute)]
    of_forms = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = of_forms()
            of_json = get_openapi(title=app.title, version=app.version, routes=json_routes)
            for path, operations in of_json["paths"].items():
                for method, operation in operations.items():
                    described["paths"][path][method]["requestBody"]["content"] |= operation["requestBody"]["content"]
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _content_type(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin1")
