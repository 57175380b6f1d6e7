"""Where a list goes on: the key of the last row, opaque to the client."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TypeVar

import msgspec

from tanda.domain.errors import Refusal

T = TypeVar("T")


def to_cursor(*key: object) -> str:
    return urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def from_cursor(cursor: str, kind: type[T]) -> T:
    """The key in a cursor; Refusal where we never gave it out."""
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
    except ValueError as error:
        raise Refusal("invalid_cursor", "This cursor was not given out by this list.", status=400) from error
