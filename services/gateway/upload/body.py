"""A request's body in pieces: bounded in size, and cut where it comes too slowly."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from services.gateway.problems import InvalidFields
from tanda.domain.errors import Refusal
from tanda.settings import Settings

#: What a client may be behind its minimum rate: long enough for a phone that changes its cell.
GRACE_S = 10.0
#: JSON bodies: a name, options and metadata.
JSON_BYTES_MAX = 256 * 1024

T = TypeVar("T", bound=msgspec.Struct)


async def pieces(
    request: Request, settings: Settings, bytes_max: int, code: str, grace_s: float = GRACE_S
) -> AsyncIterator[bytes]:
    """The body as it comes; a Refusal with ``code`` and 413 beyond ``bytes_max``, 408 when it is too slow."""
    request.state.body_unfinished = True
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise too_large(code, bytes_max)
    credit_s = grace_s
    total = 0
    while True:
        began = time.monotonic()
        message = await _next(request.receive, credit_s)
        piece: bytes = message.get("body", b"")
        request.state.body_unfinished = message.get("more_body", False)
        total += len(piece)
        if total > bytes_max:
            raise too_large(code, bytes_max)
        earned = len(piece) / settings.upload_bytes_per_s_min
        credit_s = min(grace_s, credit_s + earned - (time.monotonic() - began))
        if credit_s <= 0:
            raise _too_slow()
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


def too_large(code: str, bytes_max: int) -> Refusal:
    return Refusal(code, f"At most {bytes_max:,} bytes are accepted here.", status=413)


async def _next(receive: Receive, credit_s: float) -> Message:
    try:
        async with asyncio.timeout(credit_s):
            message = await receive()
    except TimeoutError as error:
        raise _too_slow() from error
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def _too_slow() -> Refusal:
    return Refusal("body_too_slow", "The body came too slowly and was cut.", status=408)


async def json_body(request: Request, settings: Settings, kind: type[T]) -> tuple[T, bytes]:
    """A small JSON body as a struct, and its bytes; 422 that names the field where it does not fit."""
    chunks = [piece async for piece in pieces(request, settings, JSON_BYTES_MAX, "body_too_large")]
    raw = b"".join(chunks)
    try:
        return msgspec.json.decode(raw or b"{}", type=kind), raw
    except msgspec.ValidationError as error:
        raise field_error(error) from error
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8 within a string
        raise Refusal("bad_json", f"The body is not JSON: {error}.", status=400) from error


def field_error(error: msgspec.ValidationError) -> InvalidFields:
    """msgspec names the place at the end: ``Expected `int`, got `str` - at `$.priority```."""
    text, _, place = str(error).partition(" - at `$")
    return InvalidFields((place.strip("`.").split("[")[0] or "body", text))
