"""Answers: JSON bodies from msgspec types, with the headers that every read and write carries."""

from hashlib import sha256
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tanda.contracts import codec

JSON = "application/json"
#: A client may keep an answer, and asks each time whether it still holds.
REVALIDATE = "private, no-cache"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a write, as it is kept for a repeat of the request."""

    status: int
    body: bytes
    #: ``Tanda-Seq``, ``Location``.
    headers: dict[str, str] = {}

    def response(self, **more: str) -> Response:
        return Response(self.body, self.status, {**self.headers, **more}, media_type=JSON)


def written(status: int, body: Any, seq: int, *, location: str | None = None) -> Answer:
    """The answer to a write whose last event is at ``seq``."""
    headers = {"Tanda-Seq": str(seq)}
    if location is not None:
        headers["Location"] = location
    return Answer(status=status, body=codec.encode(body), headers=headers)


def read(request: Request, body: Any, seq: int) -> Response:
    """The answer to a read: 304 where the client has these bytes already."""
    data = codec.encode(body)
    headers = {"Tanda-Seq": str(seq), "Cache-Control": REVALIDATE}
    etag = f'"{sha256(data).hexdigest()[:32]}"'
    if matches(request.headers.get("if-none-match"), etag):
        return not_modified(etag, headers)
    return Response(data, 200, {**headers, "ETag": etag}, media_type=JSON)


def not_modified(etag: str, headers: dict[str, str]) -> Response:
    return Response(status_code=304, headers={**headers, "ETag": etag})


def matches(header: str | None, etag: str) -> bool:
    """Whether an ``If-None-Match`` names this entity (weakly compared, as RFC 9110 says)."""
    if header is None:
        return False
    candidates = [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in candidates or etag in candidates
