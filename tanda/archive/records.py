"""A message of the log as it is stored: nothing of it is interpreted, so that nothing of it is lost."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import msgspec

#: What the log's protocol writes beside an event; a restored message has its own, but for the id.
_PROTOCOL = "nats-"
ID_HEADER = "Nats-Msg-Id"


class RawRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One message with its position."""

    seq: int
    subject: str
    #: When the log took it, in nanoseconds since 1970; a restored one is taken anew.
    time_ns: int
    #: The header block as it is stored, from ``NATS/1.0`` to the empty line.
    headers: bytes
    data: bytes

    @property
    def size(self) -> int:
        return len(self.subject) + len(self.headers) + len(self.data)


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of itself; ``exists`` is False where there is none at all."""

    exists: bool = True
    first: int = 0
    last: int = 0
    messages: int = 0

    @property
    def gapless(self) -> bool:
        """Positions 1..last, each with a message."""
        return self.messages == self.last and (self.last == 0 or self.first == 1)


class RawLog(Protocol):
    """The log below its events: read as it is, and written anew at the very same positions."""

    async def facts(self) -> LogFacts: ...

    async def get(self, seq: int) -> RawRecord | None: ...

    def read(self, after: int, *, bytes_max: int = ...) -> AsyncIterator[list[RawRecord]]:
        """What is there after a position, in order, gaps passed over, to the end as of now."""
        ...

    async def recreate(self) -> None:
        """An empty log in place of whatever is there."""
        ...

    async def write(self, records: Sequence[RawRecord]) -> None:
        """Appends messages at the positions they name; LogDamaged where those are not the next ones."""
        ...


def header_lines(block: bytes) -> list[tuple[str, str]]:
    """The headers of a block in their order."""
    lines: list[tuple[str, str]] = []
    for line in block.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            lines.append((name, value.strip()))
    return lines


def own_headers(block: bytes) -> dict[str, str]:
    """What a message says of its event: all but the protocol's own headers, and the event's id."""
    return {
        name: value
        for name, value in header_lines(block)
        if name == ID_HEADER or not name.lower().startswith(_PROTOCOL)
    }


def same(one: RawRecord, other: RawRecord) -> bool:
    """Whether two messages are the same event at the same position, whenever and however written."""
    if (one.seq, one.subject, one.data) != (other.seq, other.subject, other.data):
        return False
    return one.headers == other.headers or own_headers(one.headers) == own_headers(other.headers)


def event_id(record: RawRecord) -> str:
    """The event's id; empty for a message that is no event."""
    return own_headers(record.headers).get("ce-id", "")


def facts_of(state: dict[str, Any]) -> LogFacts:
    """A stream's own state."""
    return LogFacts(first=state["first_seq"], last=state["last_seq"], messages=state["messages"])
