"""The web console: static files, without a credential since they hold nothing; the API asks for one.

They are the build of ``console/``, each with its digest in its name except the page itself.
"""

import re
import zlib
from hashlib import sha256
from importlib.resources import files

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.answers import matches, not_modified
from tanda.domain.errors import NotFound

router = APIRouter(include_in_schema=False)

_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
          ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
_HEADERS = {
    # Nothing inline, nothing from elsewhere; pictures that were read with a key are blobs, the icon is drawn.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: What has its digest in its name never changes.
_DIGESTED = re.compile(r".+-[\w-]{8}\.\w+")
#: Loads the page again while no gateway answers; it is not in the folder of the page that it serves.
_SERVICE_WORKER = "offline.js"
_FOREVER = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True):
    """A file of the build, as it is and compressed."""

    data: bytes
    gzipped: bytes
    media_type: str
    etag: str
    caching: str


def _gzipped(data: bytes) -> bytes:
    """As small as it goes: it is done once, and sent to every visitor."""
    packer = zlib.compressobj(
        zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, zlib.MAX_WBITS | 16, zlib.DEF_MEM_LEVEL + 1
    )
    return packer.compress(data) + packer.flush()


def _load() -> dict[str, Asset]:
    loaded: dict[str, Asset] = {}
    for entry in files("services.gateway").joinpath("static").iterdir():
        media_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type:
            data = entry.read_bytes()
            etag = f'"{sha256(data).hexdigest()[:32]}"'
            caching = _FOREVER if _DIGESTED.fullmatch(entry.name) else "no-cache"
            loaded[entry.name] = Asset(data, _gzipped(data), media_type, etag, caching)
    return loaded


_FILES = _load()


@router.get("/")
async def index(request: Request) -> Response:
    return _serve(request, "index.html")


@router.get("/console/{name}")
async def asset(request: Request, name: str) -> Response:
    return _serve(request, name)


def _serve(request: Request, name: str) -> Response:
    found = _FILES.get(name)
    if found is None:
        raise NotFound("route_not_found", "Not found.")
    headers = {**_HEADERS, "Cache-Control": found.caching}
    if name == _SERVICE_WORKER:
        headers["Service-Worker-Allowed"] = "/"
    if matches(request.headers.get("if-none-match"), found.etag):
        return not_modified(found.etag, headers)
    headers["ETag"] = found.etag
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.gzipped, headers=headers, media_type=found.media_type)
    return Response(found.data, headers=headers, media_type=found.media_type)
