"""Is the log the one that is archived? A quick look, and a comparison message by message."""

from collections.abc import AsyncIterator

import msgspec

from tanda.archive.log_archive import LogArchive, check_anchor
from tanda.archive.records import LogFacts, RawLog, RawRecord, same
from tanda.domain.errors import LogDamaged


async def check_log(log: RawLog, archive: LogArchive) -> None:
    """A look at both ends, cheap enough for every start; LogDamaged where the log is not what it was."""
    facts = await log.facts()
    segments = (await archive.chain()).segments
    end = segments[-1].last if segments else 0
    if facts.last < end:
        what = f"it ends at {facts.last}" if facts.exists else "it is gone"
        raise LogDamaged(f"{what}, but its archive goes to {end}")
    if not facts.gapless:
        raise LogDamaged(f"{facts.last - facts.messages} of its positions up to {facts.last} have no event")
    if segments:
        check_anchor(await log.get(end), (await archive.segment(segments[-1]))[-1])


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole comparison of log and archive found."""

    facts: LogFacts
    #: The archive's last position.
    archived: int
    #: Up to here every position of the archive is in the log as it is archived.
    agrees_to: int
    #: Positions of the archive that the log lacks, and that it holds another event at.
    missing: int = 0
    different: int = 0
    #: The log goes on after the archive without a gap up to here; the archive's end where it does not.
    tail_to: int = 0

    @property
    def damaged(self) -> bool:
        """The log is not what it was, or has a hole after what is archived."""
        return bool(self.missing or self.different) or self.facts.last > self.tail_to

    @property
    def to_be_written_anew(self) -> bool:
        """More is wrong than that the log ends too early."""
        return self.damaged and self.agrees_to != self.facts.last

    def sentence(self) -> str:
        """For a person."""
        if not self.damaged:
            return f"the log and its archive agree: {self.archived} of {self.facts.last} events are archived"
        if not self.facts.exists:
            return f"the log is gone; its archive goes to {self.archived}"
        found = [
            f"{self.missing} archived events are missing from it" if self.missing else "",
            f"{self.different} positions hold another event than was archived" if self.different else "",
            f"after {self.tail_to} it has a hole" if self.facts.last > self.tail_to >= self.archived else "",
        ]
        return f"the log ends at {self.facts.last}; " + "; ".join(filter(None, found))


async def compare(log: RawLog, archive: LogArchive) -> Comparison:
    """Reads both from end to end, a segment at a time."""
    facts = await log.facts()
    reader = _Reader(log.read(0) if facts.exists else None)
    archived = agrees_to = missing = different = 0
    last_is_there = True
    async for segment in archive.records():
        for record in segment:
            found = await reader.at(record.seq)
            last_is_there = found is not None and same(found, record)
            if last_is_there and agrees_to == record.seq - 1:
                agrees_to = record.seq
            missing += found is None
            different += found is not None and not last_is_there
        archived = segment[-1].seq
    tail_to = archived
    while last_is_there and await reader.at(tail_to + 1) is not None:
        tail_to += 1
    return Comparison(
        facts=facts,
        archived=archived,
        agrees_to=agrees_to,
        missing=missing,
        different=different,
        tail_to=tail_to,
    )


class _Reader:
    """A log's messages one by one, by rising position."""

    def __init__(self, chunks: AsyncIterator[list[RawRecord]] | None) -> None:
        self._chunks = chunks
        self._chunk: list[RawRecord] = []
        self._next = 0

    async def at(self, seq: int) -> RawRecord | None:
        """The message at a position; positions must be asked for in order."""
        while self._chunks is not None:
            while self._next < len(self._chunk):
                record = self._chunk[self._next]
                if record.seq >= seq:
                    return record if record.seq == seq else None
                self._next += 1
            self._chunk, self._next = await anext(self._chunks, []), 0
            if not self._chunk:
                self._chunks = None
        return None
