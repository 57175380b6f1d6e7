"""What the services need of the world, as small interfaces.

Each has an adapter over a real server and one in memory (``tanda.adapters``); one conformance suite
runs over both. Every method may raise ``Unavailable``; what else it raises, it says.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from tanda.contracts.envelope import NewEvent, Recorded
from tanda.contracts.http import Batch, BatchQuery, BulkRun, File, FileBlobs, FileQuery, Page, Places, Stats
from tanda.contracts.results import BlobRef
from tanda.contracts.work import Presence, SchedulerStatus, Timer, WorkItem
from tanda.domain.errors import Conflict

T = TypeVar("T")


class Unread(NamedTuple):
    """An event of the log that nobody has taken apart yet."""

    seq: int
    id: str
    tenant: str
    batch_id: str
    #: Of its JSON.
    bytes: int
    #: The event itself; LogDamaged where it is none of ours.
    read: Callable[[], Recorded]


class Log(Protocol):
    """The event log: one gapless sequence, optimistic concurrency on every subject."""

    async def append(self, events: Sequence[NewEvent], staged: str = "") -> list[int]:
        """Writes all of the events or none, and returns their positions.

        Safe to repeat with the same events: what is already there counts as written. At most
        ``APPEND_EVENTS_MAX`` at once. Raises Conflict where another event came first.
        """
        ...

    async def stage(self, events: Sequence[NewEvent]) -> str:
        """Sends events ahead of their ``append``, which is given the answer and is the sooner done.

        Nothing counts and nobody sees anything before that, which need not ever come.
        """
        ...

    async def append_each(self, events: Sequence[NewEvent]) -> list[int | Conflict]:
        """Writes independent events with shared commits; each succeeds or conflicts by itself."""
        ...

    async def last(self, subject: str) -> Recorded | None:
        """The last event of one exact subject: state and version from one read."""
        ...

    async def get(self, seq: int) -> Recorded | None:
        """The event at a position."""
        ...

    async def position(self) -> int:
        """The last position of the log, 0 where it is empty."""
        ...

    def read(
        self, subject: str = "ev.>", *, after: int = 0, through: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        """The events of a subject filter in order, in chunks, up to ``through`` or the end as of now."""
        ...

    def follow(
        self, after: int, anchor: str | None = None, *, through: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        """Every event after a position in order, for ever or up to ``through``; waits for those to come.

        ``anchor`` is the id of the event at ``after``. Raises LogDamaged where it is not there any
        more, where the log has gone back, or where a position is missing.
        """
        ...

    def watch(self, after: int, anchor: str | None = None) -> AsyncIterator[list[Unread]]:
        """``follow`` for those who need few of the events, and need not pay for the others."""
        ...


class Delivery(Protocol):
    """A work item in a runner's hands, or those of a group."""

    @property
    def items(self) -> Sequence[WorkItem]:
        """One, or all files of a group."""
        ...

    @property
    def item(self) -> WorkItem:
        """The only one, or the first."""
        ...

    @property
    def is_first(self) -> bool:
        """Nobody has had it before: no worker can have been lost over it."""
        ...

    async def done(self) -> None:
        """Takes it off the queue, once its outcome is in the log."""
        ...

    async def extend(self) -> None:
        """Keeps it for another lease."""
        ...

    async def give_back(self, delay_s: float) -> None:
        """Lets another runner have it after a while."""
        ...


class WorkQueue(Protocol):
    """The small window of released work. It may forget: the scheduler releases again from the log."""

    async def put(self, items: Sequence[WorkItem]) -> None:
        """Releases items; one that is queued or in someone's hands stays there once.

        Items of one group follow one another, and are one thing from here on.
        """
        ...

    async def take(self, lane: str, limit: int, wait_s: float) -> Sequence[Delivery]:
        """Up to ``limit`` items or groups, at once where there are any, else after at most ``wait_s``."""
        ...

    async def drop(self, tenant: str, batch_id: str) -> None:
        """Removes a batch's items that nobody has taken."""
        ...

    async def present(self) -> list[tuple[str, str, str]]:
        """Tenant, batch and file (or group) of every item that is queued or in someone's hands."""
        ...

    async def limit(self, lane: str, at_once: int) -> None:
        """From now on at most so many items of a lane are in the hands of all runners together."""
        ...

    async def brake(self, lane: str, until: str) -> None:
        """Gives out nothing of a lane before a time (RFC 3339), whatever is taken; the latest time wins."""
        ...

    async def braked_until(self, lane: str) -> str | None:
        """When a lane's last brake ends or ended; None where it never had one."""
        ...


class Timers(Protocol):
    """Alarm clocks that survive restarts; the newest setting for a file or batch wins."""

    async def set(self, timer: Timer, at: str) -> None:
        """``at`` in RFC 3339; a past time is due at once."""
        ...

    async def due(self, wait_s: float) -> list[Timer]:
        """Timers whose time has come, each at least once; [] after ``wait_s`` without any."""
        ...


class Lease(Protocol):
    """Leadership by agreement, lost within seconds of its holder's death; only an optimisation."""

    async def hold(self, name: str, holder: str) -> bool:
        """Takes or renews it; False where somebody else holds it."""
        ...

    async def release(self, name: str, holder: str) -> None: ...


class Board(Protocol):
    """What the running services tell of themselves; forgotten within seconds, and no truth."""

    async def tell(self, status: SchedulerStatus) -> None:
        """The leading scheduler's word, in place of the one before."""
        ...

    async def hello(self, presence: Presence) -> None:
        """A service is there; said again and again."""
        ...

    async def scheduler(self) -> SchedulerStatus | None:
        """The last word of whoever leads; None where nobody has said anything lately."""
        ...

    async def services(self) -> list[Presence]:
        """Who is there, by name and instance."""
        ...


class Signals(Protocol):
    """How far each view has come, told at once and kept nowhere."""

    async def announce(self, view: str, seq: int) -> None: ...

    def positions(self) -> AsyncIterator[tuple[str, int]]:
        """Announcements as they come, for ever."""
        ...


class BlobStat(msgspec.Struct, frozen=True, kw_only=True):
    """What the object store says of an object."""

    key: str
    bytes: int
    #: When it was last put, in milliseconds since 1970 by the store's clock.
    modified_ms: int = 0


class BlobUpload(Protocol):
    """An object that is stored while it comes, in bounded memory; it is there after ``finish``."""

    @property
    def bytes_written(self) -> int: ...

    @property
    def sha256(self) -> str:
        """The digest of all that was written."""
        ...

    async def write(self, piece: bytes) -> None:
        """Takes the next bytes; waits where the store is slower than they come."""
        ...

    async def finish(self) -> BlobRef:
        """Verifies that everything arrived; durable after the next ``barrier``."""
        ...

    async def abort(self) -> None:
        """Lets go of what was written, as far as that goes; never fails. After ``finish`` it does nothing."""
        ...


class Blobs(Protocol):
    """The object store. Keys are built by the server only, never from a user's name."""

    async def put(self, key: str, data: bytes | Path, *, sha256: str, content_type: str) -> BlobRef:
        """Stores a whole object and verifies that it arrived; durable after the next ``barrier``."""
        ...

    async def put_pack(self, key: str, data: bytes | bytearray, *, content_type: str) -> None:
        """The same for an object that only parts of are referred to: they have the digests, it needs none."""
        ...

    def upload(self, key: str, *, content_type: str) -> "BlobUpload":
        """Begins an object whose length is not known yet; ``key`` has to be its own, never written before."""
        ...

    async def barrier(self) -> None:
        """Returns once everything put before is durable; empty for stores that promise it."""
        ...

    async def read(self, ref: BlobRef) -> bytes:
        """The bytes, checked against their digest. KeyError where they are gone or damaged."""
        ...

    async def fetch(self, ref: BlobRef, path: Path) -> None:
        """The same into a file, for bytes of any length."""
        ...

    async def fetch_many(self, wanted: Sequence[tuple[BlobRef, Path]]) -> list[bool]:
        """Small pieces into a file each, in few requests; False for one that is gone or damaged."""
        ...

    def stream(self, ref: BlobRef, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A range of the bytes in pieces, unchecked. KeyError where they are gone."""
        ...

    async def stat(self, key: str) -> BlobStat | None: ...

    async def copy(self, source: str, target: str) -> None:
        """Copies a whole object within the store. KeyError where the source is gone."""
        ...

    async def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        ...

    async def keys(self, prefix: str) -> list[str]: ...

    async def stats(self, prefix: str) -> list[BlobStat]:
        """What ``stat`` says of every object below a prefix, by key."""
        ...


class AsOf(NamedTuple, Generic[T]):
    """What the views told, and the log position that all of them had reached at that very moment."""

    seq: int
    found: T


class Views(Protocol):
    """The read models, as the gateway reads them. ``tenant`` None is the operator: every tenant."""

    async def position(self) -> int:
        """The log position that every view has reached."""
        ...

    async def batch(self, tenant: str | None, batch_id: str) -> AsOf[Batch | None]: ...

    async def batches(self, tenant: str | None, query: BatchQuery) -> AsOf[Page[Batch]]: ...

    async def file(self, tenant: str | None, batch_id: str, file_id: str) -> AsOf[File | None]: ...

    async def files(self, tenant: str | None, batch_id: str, query: FileQuery) -> AsOf[Page[File] | None]:
        """None where there is no such batch."""
        ...

    async def quarantine(self, tenant: str | None, query: FileQuery) -> AsOf[Page[File]]:
        """Files in quarantine, newest first; the query's status is not looked at."""
        ...

    async def quarantined(self, tenant: str | None) -> int:
        """How many files are in quarantine."""
        ...

    async def places(self, tenant: str | None) -> Places:
        """Where sources are; those of cancelled files have no turn."""
        ...

    async def blobs(self, tenant: str | None, batch_id: str, file_id: str) -> AsOf[FileBlobs | None]:
        """Where a file's source, result and artifacts are."""
        ...

    async def stats(self, tenant: str | None, days: int) -> Stats: ...


class BulkStore(Protocol):
    """Where bulk actions are kept, for a day after their end; carried out by whichever gateway holds them."""

    async def create(self, run: BulkRun) -> None:
        """Keeps a new run; one of this id that is there already stays as it is."""
        ...

    async def get(self, bulk_id: str) -> BulkRun | None: ...

    async def claim(self, holder: str, lease_s: float) -> BulkRun | None:
        """A running one that nobody works on, or whose worker fell silent; None where there is none."""
        ...

    async def keep(self, run: BulkRun, holder: str, lease_s: float) -> bool:
        """Notes how far it has come, for another lease; False where it is the holder's no more."""
        ...

    async def finish(self, run: BulkRun, holder: str, at: str) -> None:
        """It is completed, unless it was aborted meanwhile."""
        ...

    async def abort(self, bulk_id: str, at: str) -> None:
        """Ends a running one."""
        ...

    async def forget_older(self, age_s: float = ...) -> None:
        """Drops those that ended longer ago; by default a day."""
        ...
