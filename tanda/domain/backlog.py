"""The unfinished batches with their files, and where each file is: the scheduler's memory.

A file is in exactly one place: in a queue of its batch, in flight, or on its own until an alarm
(retrying, waiting, doomed) or its cancelled batch moves it. The steps below keep the queues, the
turns, the counts and the alarms in agreement; what follows from which event is
``tanda.domain.fair``.
"""

import heapq
from collections import Counter, OrderedDict

import msgspec

from tanda.contracts import events as e
from tanda.contracts.results import BlobRef
from tanda.contracts.work import WorkItem
from tanda.domain.turns import TenantTurns, Turns

#: Tenant and batch.
BatchKey = tuple[str, str]


class FileEntry(msgspec.Struct, array_like=True, gc=False):
    """A file that is not settled."""

    queued: e.FileQueued
    #: The position of ``queued``, and of the file's last event.
    seq: int
    last_seq: int
    lane: str
    status: e.FileStatus = "queued"
    #: Released or started, and no outcome yet.
    flying: bool = False
    #: Its batch was cancelled before it ran.
    doomed: bool = False
    #: When it was last released or started: RFC 3339, compared as text.
    since: str = ""
    #: Its next alarm.
    alarm_ms: int = 0


class BatchEntry(msgspec.Struct, array_like=True):
    """A batch that is not finished."""

    tenant: str
    batch_id: str
    priority: e.Priority = "normal"
    sealed: bool = False
    paused: bool = False
    cancelled: bool = False
    completed: bool = False
    #: 0 once it has come, or where there is none.
    start_ms: int = 0
    #: Its next alarm, 0 where there is none.
    expires_ms: int = 0
    created_seq: int = 0
    files: dict[str, FileEntry] = {}
    #: By lane, the files to release, in order.
    queues: dict[str, "OrderedDict[str, None]"] = {}

    @property
    def key(self) -> BatchKey:
        return self.tenant, self.batch_id

    @property
    def ready(self) -> bool:
        """Whether its queues may be released."""
        return self.sealed and not (self.paused or self.cancelled or self.start_ms)


class KeptBatch(msgspec.Struct):
    """A batch as a snapshot keeps it: its queues apart, since a plain map has no first and last."""

    entry: BatchEntry
    queues: dict[str, list[str]]


class Kept(msgspec.Struct):
    """The backlog as a snapshot keeps it."""

    batches: list[KeptBatch]
    turns: dict[str, list[TenantTurns]]


class Backlog:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.batches: dict[BatchKey, BatchEntry] = {}
        self.turns: dict[str, Turns] = {}
        self.flying: dict[tuple[str, str, str], FileEntry] = {}
        self.flying_by_lane: Counter[str] = Counter()
        #: Files in queues, those of batches that may not run yet included.
        self.queued = 0
        self._starts: list[tuple[int, BatchKey]] = []
        #: The file is "" for an alarm of the batch.
        self._alarms: list[tuple[int, BatchKey, str]] = []

    # -- batches ----------------------------------------------------------------------------------

    def open(self, key: BatchKey, *, sealed: bool = False) -> BatchEntry:
        """Begins to remember a batch."""
        batch = self.batches[key] = BatchEntry(key[0], key[1], sealed=sealed)
        return batch

    def forget_finished(self, batch: BatchEntry) -> None:
        """Remembers a batch no longer once it is complete and none of its files is under way.

        One that was cancelled before its start is remembered until then: a retry must not run earlier.
        """
        if batch.completed and not batch.files and not batch.start_ms:
            del self.batches[batch.key]

    def refresh(self, batch: BatchEntry) -> None:
        """Lets a batch take part in the turns exactly if it may, after anything changed about it."""
        for lane, queue in batch.queues.items():
            turns = self._lane(lane)
            change = turns.add if queue and batch.ready else turns.remove
            change(batch.tenant, batch.priority, batch.batch_id)

    # -- files ------------------------------------------------------------------------------------

    def line_up(self, batch: BatchEntry, file_id: str, *, first: bool = False) -> None:
        """Puts a file that is nowhere into its queue."""
        lane = batch.files[file_id].lane
        queue = batch.queues.get(lane)
        if queue is None:
            queue = batch.queues[lane] = OrderedDict()
        queue[file_id] = None
        self.queued += 1
        if first:
            queue.move_to_end(file_id, last=False)
        if len(queue) == 1 and batch.ready:
            self._lane(lane).add(batch.tenant, batch.priority, batch.batch_id)

    def take_off(self, batch: BatchEntry, file_id: str, since: str) -> None:
        """Counts a file that is nowhere as in flight."""
        file = batch.files[file_id]
        file.flying, file.since = True, since
        self.flying[batch.tenant, batch.batch_id, file_id] = file
        self.flying_by_lane[file.lane] += 1

    def take_out(self, batch: BatchEntry, file_id: str) -> None:
        """Takes a file out of its queue or out of flight; afterwards it is nowhere."""
        file = batch.files[file_id]
        if file.flying:
            file.flying = False
            del self.flying[batch.tenant, batch.batch_id, file_id]
            self.flying_by_lane[file.lane] -= 1
            return
        queue = batch.queues.get(file.lane)
        if queue and file_id in queue:
            del queue[file_id]
            self.queued -= 1
            if not queue:
                self._lane(file.lane).remove(batch.tenant, batch.priority, batch.batch_id)

    def next_turn(self, lane: str) -> tuple[BatchEntry, str] | None:
        """Takes the file whose turn it is out of its queue; None where no batch has one to release."""
        turns = self.turns.get(lane)
        if not turns:
            return None
        batch = self.batches[turns.next()]
        queue = batch.queues[lane]
        file_id, _ = queue.popitem(last=False)
        self.queued -= 1
        if not queue:
            turns.remove(batch.tenant, batch.priority, batch.batch_id)
        return batch, file_id

    # -- time -------------------------------------------------------------------------------------

    def set_start(self, batch: BatchEntry, at_ms: int) -> None:
        """Holds a batch back until a time."""
        batch.start_ms = at_ms
        heapq.heappush(self._starts, (at_ms, batch.key))

    def started(self, now_ms: int) -> list[BatchEntry]:
        """Batches whose time to start has come, each once; they take part from here on."""
        found: list[BatchEntry] = []
        while self._starts and self._starts[0][0] <= now_ms:
            batch = self.batches.get(heapq.heappop(self._starts)[1])
            if batch and batch.start_ms:
                batch.start_ms = 0
                self.refresh(batch)
                self.forget_finished(batch)
                found.append(batch)
        return found

    def set_alarm(self, batch: BatchEntry, file_id: str, at_ms: int) -> None:
        """Rings for a file, or for the batch where it is "", in place of any alarm set before."""
        if file_id:
            batch.files[file_id].alarm_ms = at_ms
        else:
            batch.expires_ms = at_ms
        heapq.heappush(self._alarms, (at_ms, batch.key, file_id))

    def next_alarm(self, now_ms: int) -> tuple[BatchEntry, str] | None:
        """The next alarm that rings, removed; None where none does yet."""
        while self._alarms and self._alarms[0][0] <= now_ms:
            at_ms, key, file_id = heapq.heappop(self._alarms)
            batch = self.batches.get(key)
            if batch is None:
                continue
            file = batch.files.get(file_id)
            if at_ms == (file.alarm_ms if file else -1 if file_id else batch.expires_ms):
                return batch, file_id
        return None

    def next_ms(self) -> int | None:
        """When a batch starts or an alarm rings next; at the latest, since alarms may be outdated."""
        return min((heap[0][0] for heap in (self._starts, self._alarms) if heap), default=None)

    # -- snapshots --------------------------------------------------------------------------------

    def keep(self) -> Kept:
        """All of it as plain values."""
        batches = [
            KeptBatch(
                msgspec.structs.replace(batch, queues={}),
                {lane: list(queue) for lane, queue in batch.queues.items() if queue},
            )
            for batch in self.batches.values()
        ]
        turns = {lane: self.turns[lane].keep() for lane in sorted(self.turns) if self.turns[lane]}
        return Kept(batches, turns)

    @classmethod
    def restore(cls, kept: Kept) -> "Backlog":
        """The same backlog again."""
        backlog = cls()
        backlog.turns = {lane: Turns.restore(turns) for lane, turns in kept.turns.items()}
        for batch in kept.batches:
            backlog._restore_batch(batch.entry, batch.queues)
        return backlog

    def _restore_batch(self, batch: BatchEntry, queues: dict[str, list[str]]) -> None:
        self.batches[batch.key] = batch
        batch.queues = {lane: OrderedDict.fromkeys(queue) for lane, queue in queues.items()}
        self.queued += sum(map(len, queues.values()))
        if batch.start_ms:
            self.set_start(batch, batch.start_ms)
        if batch.expires_ms:
            self.set_alarm(batch, "", batch.expires_ms)
        for file_id, file in batch.files.items():
            if file.flying:
                self.take_off(batch, file_id, file.since)
            elif file.doomed or file.status != "queued":
                self.set_alarm(batch, file_id, file.alarm_ms)

    def _lane(self, lane: str) -> Turns:
        return self.turns.setdefault(lane, Turns())


def work_item(batch: BatchEntry, file_id: str) -> WorkItem:
    """What a runner needs to process a file."""
    file = batch.files[file_id]
    queued = file.queued
    return WorkItem(
        tenant=batch.tenant,
        batch_id=batch.batch_id,
        file_id=file_id,
        seq=file.seq,
        attempt=queued.attempt,
        name=queued.name,
        content_type=queued.content_type,
        bytes=queued.bytes,
        sha256=queued.sha256,
        source=queued.source,
        processor=queued.processor,
        options=queued.options,
        lane=file.lane,
    )


def move_source(batch: BatchEntry, file_id: str, source: BlobRef) -> None:
    """A file that is still under way reads its bytes elsewhere from now on."""
    file = batch.files.get(file_id)
    if file is not None:
        file.queued = msgspec.structs.replace(file.queued, source=source)
