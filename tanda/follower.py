"""A fold of the whole log that never reads the whole log: it starts from a snapshot.

The scheduler and the storage service each keep a state that is a fold of every event. Once in a while
it is written to the object store together with the position and the id of the event it has come to;
a process that starts takes the newest one that is whole and goes on from there. A snapshot is only a
cache: losing all of them costs time, never truth.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Protocol

import msgspec
import structlog

from tanda.contracts.envelope import Recorded
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable
from tanda.ports import Blobs, Log
from tanda.settings import Settings

#: The newest and the one before, for the case that the newest is torn.
SNAPSHOTS_KEPT = 2
#: Without many events a snapshot is taken this often, where anything has changed.
SNAPSHOT_EVERY_S = 30.0
#: How often it is asked whether a snapshot is due.
_LOOK_EVERY_S = 1.0
#: What a clean stop may spend on its last snapshot.
_LAST_SNAPSHOT_S = 0.7
_BACKOFF_S = 0.2
_BACKOFF_MAX_S = 1.0

_log = structlog.get_logger("tanda.follower")


class Fold(Protocol):
    """A state made of events."""

    def dump(self) -> bytes:
        """The whole state; ``restore`` of it gives the same state."""
        ...

    def restore(self, data: bytes) -> None:
        """Takes a dumped state for its own; ValueError where it is of another shape."""
        ...

    def apply(self, records: Sequence[Recorded]) -> None:
        """Folds events in, each once and in order."""
        ...


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A fold's state as of a position."""

    #: The last event that is in the state.
    position: int
    #: That event's id: what the log must still have there.
    anchor: str | None
    state: bytes


#: Before the first event.
START = Snapshot(position=0, anchor=None, state=b"")


class Snapshots:
    """The snapshots of one fold: ``snapshots/<name>/<position>.<sha256>``, so that a torn one shows."""

    def __init__(self, blobs: Blobs, name: str) -> None:
        self._blobs = blobs
        self._prefix = f"snapshots/{name}/"

    async def save(self, snapshot: Snapshot) -> None:
        """Stores a snapshot and removes all but the newest two, and what another was as of its position."""
        data = msgspec.msgpack.encode(snapshot)
        digest = sha256(data).hexdigest()
        place = f"{self._prefix}{snapshot.position:020d}."
        key = place + digest
        await self._blobs.put(key, data, sha256=digest, content_type="application/msgpack")
        others = [one for one in await self._newest_first() if one != key]
        replaced = [one for one in others if one.startswith(place)]
        before = [one for one in others if not one.startswith(place)]
        for old in (*replaced, *before[SNAPSHOTS_KEPT - 1 :]):
            await self._blobs.delete(old)

    async def load(self, fold: Fold) -> Snapshot:
        """Restores a fold from the newest snapshot that is whole and fits it; ``START`` where none does."""
        for key in await self._newest_first():
            try:
                snapshot = await self._read(key)
                if snapshot is not None:
                    fold.restore(snapshot.state)
                    return snapshot
            except (KeyError, ValueError) as error:
                _log.warning("A snapshot is damaged or of another shape; trying the one before.",
                             key=key, error=str(error))  # fmt: skip
        return START

    async def _read(self, key: str) -> Snapshot | None:
        stat = await self._blobs.stat(key)
        if stat is None:
            return None
        _, _, digest = key.rpartition(".")
        data = await self._blobs.read(BlobRef(key=key, bytes=stat.bytes, sha256=digest))
        return msgspec.msgpack.decode(data, type=Snapshot)

    async def _newest_first(self) -> list[str]:
        return sorted(await self._blobs.keys(self._prefix), reverse=True)


class Follower:
    """Drives one fold: restores it, feeds it the log for ever, and takes its snapshots."""

    def __init__(self, log: Log, snapshots: Snapshots, fold: Fold, settings: Settings) -> None:
        self._log = log
        self._snapshots = snapshots
        self._fold = fold
        self._events_max = settings.snapshot_every_events
        self._position = 0
        self._anchor: str | None = None
        self._changes = 0
        self._saved = (0, 0)
        self._saved_at = 0.0
        #: The state is as of now, or was: what had been in the log at the start is folded.
        self.caught_up = asyncio.Event()

    @property
    def position(self) -> int:
        """The last event that the fold has seen."""
        return self._position

    @property
    def _state(self) -> tuple[int, int]:
        return self._position, self._changes

    def changed(self) -> None:
        """The state is another without an event: what it forgot would be there again at the next start."""
        self._changes += 1

    async def run(self) -> None:
        """Never returns; raises LogDamaged. Cancelled, it takes a last snapshot."""
        end = await self._begin()
        if self._position >= end:
            self.caught_up.set()
        snapshots = asyncio.create_task(self._snapshot_in_time())
        try:
            await self._follow_for_ever(end)
        finally:
            snapshots.cancel()
            with suppress(asyncio.CancelledError, Unavailable, TimeoutError):
                async with asyncio.timeout(_LAST_SNAPSHOT_S):
                    await self._save()

    async def _begin(self) -> int:
        """Restores the fold and returns where the log ends now; waits for both servers."""
        pause_s = _BACKOFF_S
        while True:
            try:
                start = await self._snapshots.load(self._fold)
                end = await self._log.position()
                break
            except Unavailable as error:
                _log.warning("A server does not answer at the start; asking again.", error=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _BACKOFF_MAX_S)
        self._position = start.position
        self._saved = self._state
        self._anchor, self._saved_at = start.anchor, time.monotonic()
        return end

    async def _follow_for_ever(self, end: int) -> None:
        pause_s = _BACKOFF_S
        while True:
            try:
                async for records in self._log.follow(self._position, self._anchor):
                    self._take(records)
                    await asyncio.sleep(0)  # a log in memory never waits by itself
                    pause_s = _BACKOFF_S
                    if self._position >= end:
                        self.caught_up.set()
            except Unavailable as error:
                _log.warning("The log does not answer; asking again.", after=self._position, error=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _BACKOFF_MAX_S)

    def _take(self, records: Sequence[Recorded]) -> None:
        if not records:
            return
        self._fold.apply(records)
        self._position, self._anchor = records[-1].seq, records[-1].id

    async def _snapshot_in_time(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            behind = self._position - self._saved[0]
            late = time.monotonic() - self._saved_at >= SNAPSHOT_EVERY_S
            if behind >= self._events_max or (late and self._state != self._saved):
                try:
                    await self._save()
                except Unavailable as error:
                    self._saved_at = time.monotonic()
                    _log.warning("The snapshot could not be stored; later.", error=str(error))

    async def _save(self) -> None:
        """The state and its position are read together, between two chunks of events."""
        if self._state == self._saved:
            return
        state = self._state
        snapshot = Snapshot(position=self._position, anchor=self._anchor, state=self._fold.dump())
        await self._snapshots.save(snapshot)
        self._saved, self._saved_at = state, time.monotonic()


async def follow(log: Log, snapshots: Snapshots, fold: Fold, settings: Settings) -> None:
    """Folds the log for ever: see ``Follower.run``."""
    await Follower(log, snapshots, fold, settings).run()
