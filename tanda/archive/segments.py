"""The archive's format: segments of the log, each a gzip of lines of JSON, chained by their digests.

The first line is the head: where the segment begins and ends, and the digest of the one before it.
Each further line is a message. The key repeats it all, so that the chain is known from a listing::

    log/<first>-<last>.<digest of the one before>.<digest>

A digest is the SHA-256 of the object as it is stored. Where a segment ends is a function of the messages
alone, so two writers make the same segments. The last one may be short: it is written again, longer, under
another key, and the short one is of no use any more.
"""

import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Protocol

import msgspec

from tanda.archive.records import RawRecord

PREFIX = "log/"
FORMAT = "tanda.log.v1"
#: A segment ends with the message that brings it to one of these.
SEGMENT_EVENTS_MAX = 10_000
SEGMENT_BYTES_MAX = 8 * 1024**2
#: What precedes the first segment.
NOTHING = "0" * 64
CONTENT_TYPE = "application/gzip"
#: Level 3 costs what level 1 does; 6 nearly twice as much for a seventh fewer bytes (8,000 events).
_LEVEL = 3
_GZIP = 31

_KEY = re.compile(r"log/(\d{20})-(\d{20})\.([0-9a-f]{64})\.([0-9a-f]{64})")


class SegmentDamaged(ValueError):
    """An object is not the segment that its key promises."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment by its key."""

    first: int
    last: int
    previous: str
    digest: str

    @property
    def key(self) -> str:
        return f"{PREFIX}{self.first:020d}-{self.last:020d}.{self.previous}.{self.digest}"

    @property
    def events(self) -> int:
        return self.last - self.first + 1


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing of the archive says."""

    #: From position 1 on, each following on the one before; empty where there is none.
    segments: list[Segment] = []
    #: Segments beyond the end of those: something before them is missing.
    detached: list[Segment] = []
    #: Segments that longer ones have replaced.
    superseded: list[Segment] = []

    @property
    def last(self) -> int:
        return self.segments[-1].last if self.segments else 0


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    first: int
    last: int
    previous: str


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as JSON; bytes that are no text travel as base64."""

    seq: int
    subject: str
    time_ns: int
    headers: str
    data: str
    base64: bool = False


_encoder = msgspec.json.Encoder()
_decode_line = msgspec.json.Decoder(_Line).decode


def cut(records: Sequence[RawRecord]) -> tuple[int, bool]:
    """How many of these messages make the segment that begins with the first, and whether it is full."""
    size = 0
    for number, record in enumerate(records, 1):
        size += record.size
        if number == SEGMENT_EVENTS_MAX or size >= SEGMENT_BYTES_MAX:
            return number, True
    return len(records), False


def pack(records: Sequence[RawRecord], previous: str) -> tuple[Segment, bytes]:
    """A segment of consecutive messages, and its bytes."""
    first, last = records[0].seq, records[-1].seq
    assert last - first + 1 == len(records), "a segment has no gap"
    head = _encoder.encode(_Head(format=FORMAT, first=first, last=last, previous=previous))
    body = b"".join(compressed([head, *map(line_of, records)]))
    return Segment(first=first, last=last, previous=previous, digest=sha256(body).hexdigest()), body


def unpack(segment: Segment, body: bytes) -> list[RawRecord]:
    """The messages of a segment; SegmentDamaged where anything is not as its key promises."""
    if sha256(body).hexdigest() != segment.digest:
        raise SegmentDamaged(f"{segment.key}: its bytes are not those of its digest")
    try:
        head, *lines = zlib.decompress(body, _GZIP).split(b"\n")[:-1]
        found = msgspec.json.decode(head, type=_Head)
        records = [record_of(line) for line in lines]
    except (zlib.error, ValueError) as error:
        raise SegmentDamaged(f"{segment.key}: {error}") from error
    promised = _Head(format=FORMAT, first=segment.first, last=segment.last, previous=segment.previous)
    if found != promised or [one.seq for one in records] != list(range(segment.first, segment.last + 1)):
        raise SegmentDamaged(f"{segment.key}: its content is not what its key says")
    return records


def compressed(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as pieces of one gzip; the same lines give the same bytes."""
    packer = gzip_packer()
    for line in lines:
        yield packer.compress(line + b"\n")
    yield packer.flush()


class Packer(Protocol):
    """What makes a gzip piece by piece."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def gzip_packer() -> Packer:
    """A gzip without name and time."""
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)


def line_of(record: RawRecord) -> bytes:
    """A message as a line of JSON."""
    try:
        headers, data, base64 = record.headers.decode(), record.data.decode(), False
    except UnicodeDecodeError:
        headers, data, base64 = b64encode(record.headers).decode(), b64encode(record.data).decode(), True
    return _encoder.encode(
        _Line(seq=record.seq, subject=record.subject, time_ns=record.time_ns, headers=headers, data=data,
              base64=base64)
    )  # fmt: skip


def record_of(line: bytes) -> RawRecord:
    """The message of a line; ValueError where it is none."""
    one = _decode_line(line)
    headers = b64decode(one.headers) if one.base64 else one.headers.encode()
    data = b64decode(one.data) if one.base64 else one.data.encode()
    return RawRecord(seq=one.seq, subject=one.subject, time_ns=one.time_ns, headers=headers, data=data)


def chain(keys: Iterable[str]) -> Chain:
    """The longest whole chain among segments, walked from its end; names that are none are passed over."""
    segments = [found for key in keys if (found := parse(key)) is not None]
    by_digest = {one.digest: one for one in segments}
    segments.sort(key=lambda one: (-one.last, one.key))
    whole = next((walk for one in segments if (walk := _walk(one, by_digest))), [])
    inside = {one.key for one in whole}
    end = whole[-1].last if whole else 0
    others = [one for one in reversed(segments) if one.key not in inside]
    return Chain(
        segments=whole,
        detached=[one for one in others if one.last > end],
        superseded=[one for one in others if one.last <= end],
    )


def _walk(end: Segment, by_digest: dict[str, Segment]) -> list[Segment]:
    """A segment and all before it, in order; [] where one of them is missing."""
    walk = [end]
    while walk[-1].first > 1:
        before = by_digest.get(walk[-1].previous)
        if before is None or before.last != walk[-1].first - 1:
            return []
        walk.append(before)
    return walk[::-1] if walk[-1].previous == NOTHING else []


def parse(key: str) -> Segment | None:
    """The segment of a key."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    first, last, previous, digest = match.groups()
    return Segment(first=int(first), last=int(last), previous=previous, digest=digest)
