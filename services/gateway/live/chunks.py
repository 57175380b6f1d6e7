"""Events as live clients get them: encoded once, however many there are of these."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tanda.contracts import codec
from tanda.contracts.envelope import Recorded, singly, to_cloudevent

#: Tenant and batch; None is every one.
Audience = tuple[str | None, str | None]


class Frame(NamedTuple):
    """An event of the log as it goes to every client: of a group's event, each file's."""

    seq: int
    sse: bytes
    #: How many events clients see in it: none in ``FilesParted``.
    events: int


class Chunk(msgspec.Struct, frozen=True):
    """Events that came together, in order, already joined for those who take all of them."""

    first: int
    last: int
    events: int
    joined: bytes
    #: The same as a chunk of an HTTP body.
    framed: bytes
    frames: list[Frame]

    def after(self, seq: int) -> bytes:
        """The bytes of those after a position."""
        if seq < self.first:
            return self.joined
        return b"".join([frame.sse for frame in self.frames if frame.seq > seq])


def frame_of(record: Recorded) -> Frame:
    """Only the last event of a position tells it: whoever resumes after it has seen all of them."""
    told = [b"event: %s\ndata: %s\n\n" % (one.name.encode(), _json(one)) for one in singly([record])]
    if not told:
        return Frame(record.seq, b"", 0)
    told[-1] = b"id: %d\n%b" % (record.seq, told[-1])
    return Frame(record.seq, b"".join(told), len(told))


def chunk_of(records: Sequence[Recorded]) -> Chunk:
    """For catching up from the log."""
    return joined([frame_of(record) for record in records])


def joined(frames: list[Frame]) -> Chunk:
    data = b"".join([frame.sse for frame in frames])
    events = sum(frame.events for frame in frames)
    return Chunk(frames[0].seq, frames[-1].seq, events, data, framed(data), frames)


def framed(data: bytes) -> bytes:
    """Bytes as a chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json(record: Recorded) -> bytes:
    return codec.encode(to_cloudevent(record))
