"""The web console: static files, without a credential since they hold nothing; the API asks for one."""

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.answers import matches, not_modified
from tanda.domain.errors import NotFound

router = APIRouter(include_in_schema=False)

_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
          ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}


def _load() -> dict[str, tuple[bytes, str]]:
    folder = files("services.gateway").joinpath("static")
    loaded: dict[str, tuple[bytes, str]] = {}
    for entry in folder.iterdir():
        media_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type:
            loaded[entry.name] = (entry.read_bytes(), media_type)
    return loaded


_FILES = _load()


@router.get("/")
async def index(request: Request) -> Response:
    return _serve(request, "index.html")


@router.get("/console/{name}")
async def asset(request: Request, name: str) -> Response:
    return _serve(request, name)


def _serve(request: Request, name: str) -> Response:
    if name not in _FILES:
        raise NotFound("route_not_found", "Not found.")
    data, media_type = _FILES[name]
    etag = f'"{sha256(data).hexdigest()[:32]}"'
    if matches(request.headers.get("if-none-match"), etag):
        return not_modified(etag, _HEADERS)
    return Response(data, headers={**_HEADERS, "ETag": etag}, media_type=media_type)
