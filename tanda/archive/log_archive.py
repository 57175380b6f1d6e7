"""The archive in the object store: its chain, its messages, and the segments that are put on its end."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from tanda.archive.records import RawLog, RawRecord, same
from tanda.archive.segments import (
    CONTENT_TYPE,
    NOTHING,
    PREFIX,
    SEGMENT_EVENTS_MAX,
    Chain,
    Segment,
    SegmentDamaged,
    chain,
    cut,
    pack,
    parse,
    unpack,
)
from tanda.contracts.results import BlobRef
from tanda.domain.errors import LogDamaged
from tanda.ports import Blobs


class ArchiveDamaged(Exception):
    """A segment of the archive is gone or is not what it was."""

    def __init__(self, segment: Segment, reason: str) -> None:
        super().__init__(f"the archive's segment {segment.first}-{segment.last} is damaged: {reason}")
        self.segment = segment


class LogArchive:
    """Reads the archive, and writes single segments of it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def chain(self) -> Chain:
        """The archive as its listing tells it; no segment is read."""
        return chain(await self._blobs.keys(PREFIX))

    async def segment(self, segment: Segment) -> list[RawRecord]:
        """A segment's messages, checked; ArchiveDamaged otherwise."""
        stat = await self._blobs.stat(segment.key)
        if stat is None:
            raise ArchiveDamaged(segment, "it is gone")
        ref = BlobRef(key=segment.key, bytes=stat.bytes, sha256=segment.digest)
        try:
            body = await self._blobs.read(ref)
            return await asyncio.to_thread(unpack, segment, body)
        except (KeyError, SegmentDamaged) as error:
            raise ArchiveDamaged(segment, str(error)) from error

    async def records(self, after: int = 0) -> AsyncIterator[list[RawRecord]]:
        """Every archived message after a position, a segment at a time."""
        for segment in (await self.chain()).segments:
            if segment.last > after:
                found = await self.segment(segment)
                yield found if segment.first > after else found[after + 1 - segment.first :]

    async def put(self, records: Sequence[RawRecord], previous: str) -> Segment:
        """Writes a segment, durably, and removes the shorter ones that it replaces."""
        segment, body = await asyncio.to_thread(pack, records, previous)
        await self._blobs.put(segment.key, body, sha256=segment.digest, content_type=CONTENT_TYPE)
        await self._blobs.barrier()
        for key in await self._blobs.keys(f"{PREFIX}{segment.first:020d}-"):
            old = parse(key)
            if old is not None and old.previous == previous and old.last < segment.last:
                await self._blobs.delete(key)
        return segment

    async def forget(self, segments: Sequence[Segment]) -> None:
        """Removes segments that are of no use."""
        for one in segments:
            await self._blobs.delete(one.key)


class ArchiveWriter:
    """Puts the log's news on the archive's end; a short last segment is written again, longer."""

    def __init__(self, log: RawLog, archive: LogArchive) -> None:
        self._log = log
        self._archive = archive
        self._end: Segment | None = None
        #: The last segment is as long as it will ever be.
        self._full = False
        #: The last archived message: what the log must still have there.
        self._anchor: RawRecord | None = None

    @property
    def last(self) -> int:
        """The last archived position."""
        return self._end.last if self._end else 0

    async def begin(self) -> None:
        """Goes on from the archive's end; LogDamaged where the log does not have what is archived there."""
        segments = (await self._archive.chain()).segments
        self._end = segments[-1] if segments else None
        self._full = self._end is not None and self._end.events >= SEGMENT_EVENTS_MAX
        self._anchor = None
        if self._end is not None:
            self._anchor = (await self._archive.segment(self._end))[-1]
            check_anchor(await self._log.get(self._end.last), self._anchor)

    def close_segment(self) -> None:
        """What follows goes into another segment, short as the last one may be."""
        self._full = True

    async def advance(self, through: int | None = None) -> bool:
        """Archives what fits into one segment; whether it is full, so that more may follow."""
        begin, previous = self._next()
        records, full = await self._read(begin, through)
        if records and records[-1].seq > self.last:
            self._end = await self._archive.put(records, previous)
            self._anchor = records[-1]
        elif not full and begin - 1 + len(records) < self.last:
            raise LogDamaged(f"the log ends at {begin - 1 + len(records)}, but its archive at {self.last}")
        self._full = full
        return full

    async def advance_to_end(self, through: int | None = None) -> None:
        """Archives all there is, a segment at a time."""
        while await self.advance(through):
            pass

    def _next(self) -> tuple[int, str]:
        """Where the segment to be written begins, and what it follows on."""
        end = self._end
        if end is None:
            return 1, NOTHING
        return (end.last + 1, end.digest) if self._full else (end.first, end.previous)

    async def _read(self, begin: int, through: int | None) -> tuple[list[RawRecord], bool]:
        """One segment's messages, and whether there are enough to fill it."""
        found: list[RawRecord] = []
        async for chunk in self._log.read(begin - 1):
            for record in chunk:
                if record.seq != begin + len(found):
                    raise LogDamaged(
                        f"the log has no event at {begin + len(found)}; the next one is at {record.seq}"
                    )
                if self._anchor is not None and record.seq == self._anchor.seq:
                    check_anchor(record, self._anchor)
                found.append(record)
            number, full = cut(found)
            if full:
                return found[:number], True
        return found, False


def check_anchor(found: RawRecord | None, archived: RawRecord) -> None:
    """The log must still have what is archived; LogDamaged otherwise."""
    if found is None:
        raise LogDamaged(f"the log has no event at {archived.seq}, but its archive has")
    if not same(found, archived):
        raise LogDamaged(f"the event at {archived.seq} is not the one that is archived there")
