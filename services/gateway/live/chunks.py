"""Events as live clients get them: encoded once, however many there are of these."""

from collections.abc import Sequence

import msgspec

from tanda.contracts import codec
from tanda.contracts.envelope import Recorded, to_cloudevent

#: Tenant and batch; None is every one.
Audience = tuple[str | None, str | None]


class Frame(msgspec.Struct, frozen=True):
    """An event as it goes to every client."""

    seq: int
    #: CloudEvents JSON.
    data: bytes
    kind: str

    @property
    def sse(self) -> bytes:
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.seq, self.kind.encode(), self.data)


class Chunk(msgspec.Struct, frozen=True):
    """Events that came together, in order, already joined for those who take all of them."""

    first: int
    last: int
    events: int
    joined: bytes
    #: The same as a chunk of an HTTP body.
    framed: bytes
    frames: list[tuple[int, bytes]]

    def after(self, seq: int) -> bytes:
        """The bytes of those after a position."""
        if seq < self.first:
            return self.joined
        return b"".join([data for at, data in self.frames if at > seq])


def frame_of(record: Recorded) -> Frame:
    return Frame(record.seq, codec.encode(to_cloudevent(record)), record.name)


def chunk_of(records: Sequence[Recorded]) -> Chunk:
    """For catching up from the log."""
    return joined([(record.seq, frame_of(record).sse) for record in records])


def joined(frames: list[tuple[int, bytes]]) -> Chunk:
    data = b"".join([data for _, data in frames])
    return Chunk(frames[0][0], frames[-1][0], len(frames), data, framed(data), frames)


def framed(data: bytes) -> bytes:
    """Bytes as a chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
