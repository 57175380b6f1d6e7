"""Events and bodies as JSON, the same bytes for the same value."""

from typing import Any

import msgspec

from tanda.contracts.events import EVENT_TYPES, Event

_encoder = msgspec.json.Encoder(order="deterministic")
_decoders = {name: msgspec.json.Decoder(event) for name, event in EVENT_TYPES.items()}


def encode(value: Any) -> bytes:
    """Any struct or plain value as compact JSON with keys in a fixed order."""
    return _encoder.encode(value)


def encode_event(event: Event) -> bytes:
    return _encoder.encode(event)


def decode_event(kind: str, data: bytes) -> Event:
    """The event of a type; ValueError where the type is unknown or the data does not fit it."""
    decoder = _decoders.get(kind)
    if decoder is None:
        raise ValueError(f"unknown event type: {kind!r}")
    return decoder.decode(data)
