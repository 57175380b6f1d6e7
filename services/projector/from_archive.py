"""A log brought back from its archive, and everything that was ahead of it brought back to it.

Views, snapshots and released work may tell of events that are lost for good: those that came after the
archive's end and that the log does not hold any more. All of them can be made again from the log.
"""

from pathlib import Path

import asyncpg
import msgspec

from services.projector.catalog import VIEWS
from services.projector.rebuild import Progress
from tanda.adapters.idempotency import PostgresIdempotency
from tanda.adapters.jetstream_raw import JetStreamRawLog
from tanda.adapters.nats import Connection
from tanda.adapters.s3 import S3Blobs
from tanda.adapters.views.store import ViewStore
from tanda.archive.records import RawLog, event_id
from tanda.archive.restore import Restored, forget_ahead, restore
from tanda.domain.errors import Refusal
from tanda.settings import Settings

#: In the data folder: what a damaged log still held before it was written anew.
ASIDE = "aside"


class BroughtBack(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    restored: Restored
    #: The last position that anything had seen: the log itself, a view, a snapshot.
    seen: int
    snapshots: int
    views: list[str]

    @property
    def lost(self) -> int:
        """Events that were in the log once and are nowhere any more."""
        return max(0, self.seen - self.restored.last)

    def sentences(self) -> list[str]:
        """For a person."""
        restored = self.restored
        said = [f"{restored.before.sentence()[:1].upper()}{restored.before.sentence()[1:]}."]
        if restored.written:
            said.append(f"{restored.written} events were restored; the log now ends at {restored.last}.")
        if restored.aside:
            said.append(f"What the damaged log still held is in {restored.aside}.")
        if self.lost:
            first, last = restored.last + 1, self.seen
            said.append(
                f"{self.lost} events are lost, positions {first} to {last}: they were newer than the archive."
            )
        if self.views or self.snapshots:
            views = ", ".join(self.views) or "none"
            said.append(f"Ahead of the log and dropped: views {views}; {self.snapshots} snapshots.")
        return said


async def bring_back(
    connection: Connection, pool: asyncpg.Pool, settings: Settings, *, force: bool, progress: Progress
) -> BroughtBack:
    """Restores the log and drops what is ahead of it. Refusal where services run: they would write."""
    if not force and (running := sorted({one.name for one in await connection.board.services()})):
        raise Refusal("services_running", f"Stop the services first, they write: {', '.join(running)}.")
    blobs = S3Blobs(settings)
    log = JetStreamRawLog(connection.client, settings)
    store = ViewStore(pool)
    try:
        restored = await restore(log, blobs, Path(settings.data) / ASIDE, progress)
        ahead = await forget_ahead(log, blobs)
    finally:
        await blobs.close()
    await connection.work.drop("*", "*")
    seen = [restored.before.facts.last, *(int(key.rpartition("/")[2].partition(".")[0]) for key in ahead)]
    dropped: list[str] = []
    for view in VIEWS:
        seq, is_of_log = await _reached(log, store, view)
        if not is_of_log:
            await store.drop(view)
            dropped.append(view)
            seen.append(seq)
    return BroughtBack(restored=restored, seen=max(seen), snapshots=len(ahead), views=dropped)


async def forget_lost(pool: asyncpg.Pool, back: BroughtBack) -> list[str]:
    """Idempotency keys of lost batches go as well, once the views are those of the log."""
    forgotten = await PostgresIdempotency(pool).forget_lost() if back.lost else 0
    return [f"{forgotten} idempotency keys of lost batches were dropped."] if forgotten else []


async def _reached(log: RawLog, store: ViewStore, view: str) -> tuple[int, bool]:
    """A live view's position, and whether the log has there what the view had seen."""
    checkpoint = await store.checkpoint(view)
    if checkpoint is None or checkpoint.seq == 0:
        return 0, True
    found = await log.get(checkpoint.seq)
    return checkpoint.seq, found is not None and event_id(found) == checkpoint.event_id
