"""A lost or damaged log, written anew from its archive: the same events at the same positions.

Nothing is thrown away on the way. What the damaged log still holds after the archive's end, and follows
on it, goes into the archive first; then everything that is there is kept in a file; only then is the
stream made anew. A restore that is broken off is simply done again.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from tanda.archive.check import Comparison, compare
from tanda.archive.log_archive import ArchiveWriter, LogArchive
from tanda.archive.records import RawLog, RawRecord, event_id
from tanda.archive.segments import gzip_packer, line_of
from tanda.contracts.results import BlobRef
from tanda.domain.errors import LogDamaged
from tanda.follower import Snapshot
from tanda.ports import Blobs

SNAPSHOTS = "snapshots/"

#: Told the position that has been restored.
Progress = Callable[[int], None]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    before: Comparison
    #: The log's last position now.
    last: int
    #: Events that were written from the archive; 0 where nothing was wrong.
    written: int = 0
    #: Where everything is that the damaged log still held.
    aside: str | None = None


def _silent(_: int) -> None:
    return None


async def restore(log: RawLog, blobs: Blobs, aside: Path, progress: Progress = _silent) -> Restored:
    """Makes the log what its archive says, and more where the log still has more; safe to repeat.

    Nobody else may write meanwhile. ``aside`` is a folder for what was there. LogDamaged where there is
    nothing to restore from, ArchiveDamaged where the archive itself has a damaged segment.
    """
    archive = LogArchive(blobs)
    found = await compare(log, archive)
    if not found.damaged:
        return Restored(before=found, last=found.facts.last)
    if not found.tail_to:
        raise LogDamaged("the log has no archive that it could be restored from")
    start, kept = found.agrees_to, None
    if found.to_be_written_anew or not found.facts.exists:
        await _archive_tail(log, archive, found.tail_to)
        kept = await _keep_aside(log.read(0), aside) if found.facts.messages else None
        await log.recreate()
        start = 0
    last = start
    async for records in archive.records(start):
        await log.write(records)
        last = records[-1].seq
        progress(last)
    return Restored(before=found, last=last, written=last - start, aside=kept)


async def _archive_tail(log: RawLog, archive: LogArchive, through: int) -> None:
    """What the log has beyond its archive, and follows on it, becomes a part of the archive."""
    if through == (await archive.chain()).last:
        return
    writer = ArchiveWriter(log, archive)
    await writer.begin()
    # What is archived is not read again: it may be what is damaged.
    writer.close_segment()
    await writer.advance_to_end(through)


async def _keep_aside(chunks: AsyncIterator[list[RawRecord]], aside: Path) -> str:
    """Every message that is there into one file, durable before anything is removed."""
    await asyncio.to_thread(aside.mkdir, parents=True, exist_ok=True)
    path = aside / f"log-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.ndjson.gz"
    packer = gzip_packer()
    with await asyncio.to_thread(_open, path) as file:
        async for records in chunks:
            lines = b"".join(line_of(one) + b"\n" for one in records)
            await asyncio.to_thread(file.write, packer.compress(lines))
        file.write(packer.flush())
        await asyncio.to_thread(_sync, file)
    return str(path)


def _open(path: Path) -> BinaryIO:
    return path.open("xb")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


async def forget_ahead(log: RawLog, blobs: Blobs) -> list[str]:
    """Removes the snapshots of states that the log does not tell of any more; their keys."""
    ahead = [key for key in await blobs.keys(SNAPSHOTS) if not await _is_of(log, blobs, key)]
    for key in ahead:
        await blobs.delete(key)
    return ahead


async def _is_of(log: RawLog, blobs: Blobs, key: str) -> bool:
    """Whether the event that a snapshot was taken at is in the log."""
    stat = await blobs.stat(key)
    if stat is None:
        return True
    try:
        data = await blobs.read(BlobRef(key=key, bytes=stat.bytes, sha256=key.rpartition(".")[2]))
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except (KeyError, ValueError):
        return True  # damaged ones are passed over by whoever reads them
    found = await log.get(snapshot.position)
    return snapshot.position == 0 or (found is not None and event_id(found) == snapshot.anchor)
