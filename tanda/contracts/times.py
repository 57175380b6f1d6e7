"""Times as the contract shows them: RFC 3339, UTC, milliseconds, fixed width (so they sort as text)."""

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(time_ms: int) -> str:
    """``2026-11-21T05:13:00.123Z`` for milliseconds since the epoch."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=64)  # events come in their order: a thousand of them have the same second
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def epoch_ms(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time with any offset; ValueError where it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time needs its offset: {text!r}")
    return round(moment.timestamp() * 1000)
