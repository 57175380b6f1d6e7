"""Stored bytes as an answer: with ranges, validators and headers that keep a browser from running them."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.gateway.answers import REVALIDATE, matches, not_modified
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Refusal
from tanda.ports import Blobs

#: A user's bytes are never a page of ours: no script, no frame, no guess at their type.
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": REVALIDATE,
}
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_PLAIN_NAME = re.compile(r"[^A-Za-z0-9 !#$&+.^_`|~()\[\]{}@,=-]")


def attachment(name: str) -> str:
    """A ``Content-Disposition`` that saves under a name: RFC 6266, with RFC 5987 for what is not ASCII."""
    plain = _PLAIN_NAME.sub("_", name) or "file"
    header = f'attachment; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"


async def blob_response(
    request: Request,
    blobs: Blobs,
    ref: BlobRef,
    content_type: str,
    headers: Mapping[str, str],
    sent: Callable[[int, int], AsyncIterator[bytes | memoryview]] | None = None,
) -> Response:
    """The bytes of a blob, or the range that was asked for; 410 where they are gone.

    ``sent`` gives a range of them, by start and length, where they are at hand already.
    """
    etag = f'"{ref.sha256}"'
    common = {**SAFE_HEADERS, **headers}
    if matches(request.headers.get("if-none-match"), etag):
        return not_modified(etag, common)
    common |= {"ETag": etag, "Accept-Ranges": "bytes"}
    span = _span(request, ref.bytes, etag)
    start, length, status = (0, ref.bytes, 200) if span is None else (*span, 206)
    if span is not None:
        common["Content-Range"] = f"bytes {start}-{start + length - 1}/{ref.bytes}"
    common["Content-Length"] = str(length)
    if request.method == "HEAD" or length == 0:
        return Response(b"", status, common, media_type=content_type)
    body = sent(start, length) if sent else await started(blobs.stream(ref, start, length))
    return StreamingResponse(body, status, common, media_type=content_type)


async def started(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same stream once its first piece is there: what is gone is an answer, not a broken body."""
    try:
        first = await anext(stream, b"")
    except KeyError as error:
        raise gone() from error

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for piece in stream:
            yield piece

    return rest()


def gone() -> Refusal:
    return Refusal("bytes_gone", "The bytes are not in the object store any more.", status=410)


def _span(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """Start and length of a single satisfiable range; None where the whole is to be sent."""
    if request.headers.get("if-range", etag) != etag:
        return None
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    if match[1]:
        start, end = int(match[1]), int(match[2]) if match[2] else size - 1
        if match[2] and end < start:
            return None
    else:
        start, end = max(0, size - int(match[2])), size - 1
    end = min(end, size - 1)
    if start > end:
        headers = {"Content-Range": f"bytes */{size}"}
        raise Refusal("range_not_satisfiable", f"There are {size} bytes.", status=416, headers=headers)
    return start, end - start + 1
