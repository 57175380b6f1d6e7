"""What a request with an ``Idempotency-Key`` is told before it does anything."""

import msgspec


class Fresh(msgspec.Struct, frozen=True):
    """Go ahead, and make what you make under this id; an earlier attempt may have begun it."""

    resource_id: str


class Replay(msgspec.Struct, frozen=True):
    """It is done: this was the answer, as it was stored."""

    answer: bytes


class Running(msgspec.Struct, frozen=True):
    """Another request with this key and body is at work now."""


class Mismatch(msgspec.Struct, frozen=True):
    """The key was used with another body."""


Begun = Fresh | Replay | Running | Mismatch
