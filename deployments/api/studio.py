"""The studio: a page of static files at `/`, that talks to this API and to nobody else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parents[1] / "studio"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # Pictures and videos are shown from memory (blob:); the page holds no script and no style of its own.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Files are asked for again with their ETag: a new version of the application is a new page at once.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page, as it is sent."""

    content: bytes
    headers: dict[str, str]


def router() -> APIRouter:
    """The page at `/`, its styles and scripts under `/studio/`."""
    assets = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page(request: Request) -> Response:
        return _answer(request, assets["index.html"])

    @routes.get("/studio/{name}")
    async def asset(request: Request, name: str) -> Response:
        if name not in assets:
            raise HTTPException(404, f"the studio has no file {name!r}")
        return _answer(request, assets[name])

    return routes


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return Asset(content, HEADERS | {"Content-Type": MEDIA_TYPES[path.suffix], "ETag": tag})


def _answer(request: Request, asset: Asset) -> Response:
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if asset.headers["ETag"] in known:
        return Response(status_code=304, headers=asset.headers)
    return Response(asset.content, headers=asset.headers)
