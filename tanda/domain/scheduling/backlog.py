"""The unfinished batches with their files, and where each file is: the scheduler's memory.

A file is in exactly one place: in a queue of its batch, in flight, or on its own until an alarm
(retrying, waiting, doomed) or its cancelled batch moves it. The steps below keep the queues, the
turns, the counts and the alarms in agreement; what follows from which event is
``tanda.domain.scheduling.fair``.

A queue is on a track: a lane, and the processor where that has a limit of its own, so that a processor
which is at its limit holds up nobody else's files.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence

import msgspec

from tanda.contracts import events as e
from tanda.domain.scheduling.limits import Limits
from tanda.domain.scheduling.turns import TenantTurns, Turns

#: Tenant and batch.
BatchKey = tuple[str, str]
#: Lane, and the processor where it has a limit of its own, else "".
Track = tuple[str, str]


class FileEntry(msgspec.Struct, array_like=True, gc=False):
    """A file that is not settled."""

    queued: e.FileQueued
    #: The position of ``queued``, and of the file's last event, both on the file's own subject: 0 for what a
    #: group has told.
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
    #: The group that tells its events as long as it is whole; ``seq`` is a position of that one's then.
    group: str = ""


class GroupEntry(msgspec.Struct, array_like=True):
    """A group of files that is neither completed nor parted."""

    #: The position of its ``FilesQueued``.
    seq: int
    #: In upload order.
    files: list[str]
    #: It is to be parted, and the log does not tell yet that it is.
    parting: bool = False


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
    #: Files at once; None is no limit of its own.
    limit: int | None = None
    files: dict[str, FileEntry] = {}
    #: By track, the files to release, in order.
    queues: dict[Track, "OrderedDict[str, None]"] = {}
    #: Files in flight.
    flying: int = 0
    #: By token.
    groups: dict[str, GroupEntry] = {}

    @property
    def key(self) -> BatchKey:
        return self.tenant, self.batch_id

    @property
    def may_run(self) -> bool:
        """Whether its files may be released at all, limits aside."""
        return self.sealed and not (self.paused or self.cancelled or self.start_ms)

    @property
    def full(self) -> bool:
        """Whether it is at its own limit."""
        return self.limit is not None and self.flying >= self.limit

    @property
    def ready(self) -> bool:
        """Whether its queues may be released now."""
        return self.may_run and not self.full


class KeptBatch(msgspec.Struct):
    """A batch as a snapshot keeps it: its queues apart, since a plain map has no first and last."""

    entry: BatchEntry
    queues: list[tuple[Track, list[str]]]


class Kept(msgspec.Struct):
    """The backlog as a snapshot keeps it."""

    batches: list[KeptBatch]
    turns: list[tuple[Track, list[TenantTurns]]]
    limits: Limits
    served: dict[str, int]


class Backlog:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.batches: dict[BatchKey, BatchEntry] = {}
        self.turns: dict[Track, Turns] = {}
        self.flying: dict[tuple[str, str, str], FileEntry] = {}
        self.flying_by_lane: Counter[str] = Counter()
        #: Of those in flight, the ones that somebody has begun.
        self.started_by_lane: Counter[str] = Counter()
        self.flying_by_tenant: Counter[str] = Counter()
        self.flying_by_processor: Counter[str] = Counter()
        self.queued_by_lane: Counter[str] = Counter()
        self.limits = Limits()
        #: Groups that are to be parted, by batch and token, and when that was last asked for.
        self.parting: dict[tuple[BatchKey, str], int] = {}
        #: When each tenant, and each track, had its last turn: the order between tracks of one lane.
        self._served: dict[str, int] = {}
        self._turn = 0
        self._starts: list[tuple[int, BatchKey]] = []
        #: The file is "" for an alarm of the batch.
        self._alarms: list[tuple[int, BatchKey, str]] = []

    @property
    def queued(self) -> int:
        """Files in queues, those of batches that may not run yet included."""
        return self.queued_by_lane.total()

    # -- batches ----------------------------------------------------------------------------------

    def open(self, key: BatchKey) -> BatchEntry:
        """Begins to remember a batch."""
        batch = self.batches[key] = BatchEntry(*key)
        return batch

    def reopen(self, key: BatchKey, *, late: bool) -> BatchEntry:
        """Remembers one again that was finished and forgotten, because of a file: one of it is retried.

        Or it came ``late``, on its way into the log when others sealed the batch and it finished without it:
        nothing would ever settle it, so it is cancelled too, and can be retried.
        """
        batch = self.open(key)
        batch.sealed, batch.cancelled, batch.completed = True, late, late
        return batch

    def forget_finished(self, batch: BatchEntry) -> None:
        """Remembers a batch no longer once it is complete and none of its files is under way.

        One that was cancelled before its start is remembered until then: a retry must not run earlier.
        """
        if batch.completed and not batch.files and not batch.start_ms:
            del self.batches[batch.key]

    def refresh(self, batch: BatchEntry) -> None:
        """Lets a batch take part in the turns exactly if it may, after anything changed about it."""
        for track, queue in batch.queues.items():
            if queue and batch.ready:
                self._join(track, batch)
            else:
                self._leave(track, batch)

    def reprioritize(self, batch: BatchEntry, priority: e.Priority) -> None:
        """Moves what is queued of a batch into another class."""
        for track in batch.queues:
            self._leave(track, batch)
        batch.priority = priority
        self.refresh(batch)

    # -- files ------------------------------------------------------------------------------------

    def line_up(self, batch: BatchEntry, file_id: str, *, first: bool = False) -> None:
        """Puts a file that is nowhere into its queue."""
        track = self._track(batch.files[file_id])
        queue = batch.queues.get(track)
        if queue is None:
            queue = batch.queues[track] = OrderedDict()
        queue[file_id] = None
        self.queued_by_lane[track[0]] += 1
        if first:
            queue.move_to_end(file_id, last=False)
        if len(queue) == 1 and batch.ready:
            self._join(track, batch)

    def take_off(self, batch: BatchEntry, file_id: str, since: str) -> None:
        """Counts a file that is nowhere as in flight."""
        file = batch.files[file_id]
        file.flying, file.since = True, since
        self.flying[batch.tenant, batch.batch_id, file_id] = file
        self.started_by_lane[file.lane] += file.status == "processing"
        self._count(batch, [file], +1)

    def take_off_together(self, batch: BatchEntry, file_ids: Sequence[str], since: str) -> None:
        """Takes files of one lane, queued on one track, out of their queue and counts them as in flight."""
        files = [batch.files[file_id] for file_id in file_ids]
        track = self._track(files[0])
        queue = batch.queues[track]
        before = len(queue)
        for file_id, file in zip(file_ids, files, strict=True):
            queue.pop(file_id, None)
            file.flying, file.since = True, since
            self.flying[batch.tenant, batch.batch_id, file_id] = file
        self._shrunk(track, batch, before - len(queue))
        self._count(batch, files, +1)

    def settle_together(self, batch: BatchEntry, file_ids: Sequence[str]) -> None:
        """Forgets files of one lane that are settled; where they were is one place for all of them."""
        files = [batch.files.pop(file_id) for file_id in file_ids]
        if files[0].flying:
            for file_id in file_ids:
                del self.flying[batch.tenant, batch.batch_id, file_id]
            self._count(batch, files, -1)
            return
        # One track, but where one of their processors got a limit meanwhile.
        for track in dict.fromkeys(map(self._track, files)):
            queue = batch.queues.get(track, {})
            before = len(queue)
            for file_id in file_ids:
                queue.pop(file_id, None)
            if before > len(queue):
                self._shrunk(track, batch, before - len(queue))

    def begin(self, file: FileEntry) -> None:
        """Counts a file in flight as begun."""
        self.started_by_lane[file.lane] += file.status != "processing"
        file.status = "processing"

    def take_out(self, batch: BatchEntry, file_id: str) -> None:
        """Takes a file out of its queue or out of flight; afterwards it is nowhere."""
        file = batch.files[file_id]
        if file.flying:
            file.flying = False
            self.started_by_lane[file.lane] -= file.status == "processing"
            del self.flying[batch.tenant, batch.batch_id, file_id]
            self._count(batch, [file], -1)
            return
        track = self._track(file)
        queue = batch.queues.get(track)
        if queue and file_id in queue:
            del queue[file_id]
            self._shrunk(track, batch)

    def next_turn(self, lane: str) -> tuple[BatchEntry, str] | None:
        """Takes the file whose turn it is out of its queue; None where no batch has one to release."""
        track = self._next_track(lane)
        if track is None:
            return None
        tenant, batch_id = self.turns[track].next()
        self._turn += 1
        self._served[tenant] = self._served[_name(track)] = self._turn
        batch = self.batches[tenant, batch_id]
        file_id, _ = batch.queues[track].popitem(last=False)
        self._shrunk(track, batch)
        return batch, file_id

    def turn_of(self, batch: BatchEntry, file_id: str, most: int) -> Iterator[str]:
        """The file of a turn and those that go with it, one by one: each is put in flight before the next is
        asked for, so that limits hold. Where groups have turns, single files must not wait a group for each.
        """
        track = self._track(batch.files[file_id])
        queue = batch.queues[track]
        yield file_id
        for _ in range(most - 1):
            if (
                not queue
                or not batch.ready
                or self.tenant_full(batch.tenant)
                or self.processor_full(track[1])
            ):
                return
            following = next(iter(queue))
            if batch.files[following].group:
                return
            del queue[following]
            self._shrunk(track, batch)
            yield following

    def _next_track(self, lane: str) -> Track | None:
        """Of the tracks that may release, the one whose next tenant has waited longest."""
        open_tracks = [track for track, turns in self.turns.items() if track[0] == lane and turns]
        open_tracks = [track for track in open_tracks if not self.processor_full(track[1])]
        return min(open_tracks, key=self._rank, default=None) if len(open_tracks) != 1 else open_tracks[0]

    def _rank(self, track: Track) -> tuple[int, int]:
        tenant = self.turns[track].next_tenant()
        return self._served.get(tenant, 0), self._served.get(_name(track), 0)

    # -- limits -----------------------------------------------------------------------------------

    def tenant_full(self, tenant: str) -> bool:
        """Whether a tenant is at its limit."""
        limit = self.limits.tenants.get(tenant)
        return limit is not None and self.flying_by_tenant[tenant] >= limit

    def processor_full(self, processor: str) -> bool:
        """Whether a processor is at its limit."""
        limit = self.limits.processors.get(processor)
        return limit is not None and self.flying_by_processor[processor] >= limit

    def set_limits(self, limits: Limits) -> None:
        """New limits for what is released from now on; what is in flight is finished."""
        retrack = limits.processors.keys() != self.limits.processors.keys()
        tenants = {*limits.tenants, *self.limits.tenants}
        self.limits = limits
        if retrack:
            self._line_up_again()
        for tenant in tenants:
            self._hold_if_full(tenant)

    def set_limit(self, batch: BatchEntry, limit: int | None) -> None:
        """A batch's own limit."""
        batch.limit = limit
        self.refresh(batch)

    def _line_up_again(self) -> None:
        """Moves every queued file to the track that it belongs to now, in the order of the log."""
        for batch in self.batches.values():
            waiting = [file_id for queue in batch.queues.values() for file_id in queue]
            for track, queue in batch.queues.items():
                self._leave(track, batch)
                self.queued_by_lane[track[0]] -= len(queue)
            batch.queues = {}
            order = {one: (batch.files[one].seq, batch.files[one].queued.index) for one in waiting}
            for file_id in sorted(waiting, key=order.__getitem__):
                self.line_up(batch, file_id)

    def _count(self, batch: BatchEntry, files: Sequence[FileEntry], by: int) -> None:
        """Files of one lane more or less in flight; whoever comes to a limit or away from it is moved."""
        was_ready = batch.ready
        batch.flying += by * len(files)
        self.flying_by_lane[files[0].lane] += by * len(files)
        self.flying_by_tenant[batch.tenant] += by * len(files)
        for file in files:
            self.flying_by_processor[file.queued.processor] += by
        if batch.ready != was_ready:
            self.refresh(batch)
        if batch.tenant in self.limits.tenants:
            self._hold_if_full(batch.tenant)

    def _hold_if_full(self, tenant: str) -> None:
        full = self.tenant_full(tenant)
        for turns in self.turns.values():
            if full:
                turns.hold(tenant)
            else:
                turns.free(tenant)

    # -- tracks -----------------------------------------------------------------------------------

    def _track(self, file: FileEntry) -> Track:
        processor = file.queued.processor
        return file.lane, processor if processor in self.limits.processors else ""

    def _join(self, track: Track, batch: BatchEntry) -> None:
        turns = self.turns.get(track)
        if turns is None:
            turns = self.turns[track] = Turns()
        turns.add(batch.tenant, batch.priority, batch.batch_id)
        if self.tenant_full(batch.tenant):
            turns.hold(batch.tenant)

    def _leave(self, track: Track, batch: BatchEntry) -> None:
        if track in self.turns:
            self.turns[track].remove(batch.tenant, batch.priority, batch.batch_id)

    def _shrunk(self, track: Track, batch: BatchEntry, by: int = 1) -> None:
        """Files have left a queue."""
        self.queued_by_lane[track[0]] -= by
        if not batch.queues[track]:
            self._leave(track, batch)

    # -- time -------------------------------------------------------------------------------------

    def set_start(self, batch: BatchEntry, at_ms: int) -> None:
        """Holds a batch back until a time."""
        batch.start_ms = at_ms
        heapq.heappush(self._starts, (at_ms, batch.key))

    def started(self, now_ms: int) -> list[BatchEntry]:
        """Batches whose time to start has come, each once; they take part from here on."""
        found: list[BatchEntry] = []
        while self._starts and self._starts[0][0] <= now_ms:
            at_ms, key = heapq.heappop(self._starts)
            batch = self.batches.get(key)
            if batch and batch.start_ms and batch.start_ms == at_ms:
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

    def clear_start(self, batch: BatchEntry) -> None:
        """Lets a batch that was held back start at once."""
        batch.start_ms = 0
        self.refresh(batch)

    # -- snapshots --------------------------------------------------------------------------------

    def keep(self) -> Kept:
        """All of it as plain values."""
        batches = [
            KeptBatch(
                msgspec.structs.replace(batch, queues={}, flying=0),
                [(track, list(queue)) for track, queue in batch.queues.items() if queue],
            )
            for batch in self.batches.values()
        ]
        turns = [(track, turns.keep()) for track, turns in sorted(self.turns.items()) if turns.keep()]
        self._forget_absent(turns)
        return Kept(batches, turns, self.limits, dict(sorted(self._served.items())))

    def _forget_absent(self, turns: list[tuple[Track, list[TenantTurns]]]) -> None:
        """Whoever waits for nothing needs no place in the book of turns, here and after a restore."""
        present = {one.tenant for _, kept in turns for one in kept} | {_name(track) for track, _ in turns}
        self._served = {name: at for name, at in self._served.items() if name in present}
        self._turn = max(self._served.values(), default=0)

    @classmethod
    def restore(cls, kept: Kept) -> "Backlog":
        """The same backlog again."""
        backlog = cls()
        backlog.limits = kept.limits
        backlog.turns = {track: Turns.restore(turns) for track, turns in kept.turns}
        backlog._served = dict(kept.served)
        backlog._turn = max(kept.served.values(), default=0)
        for batch in kept.batches:
            backlog._restore_batch(batch.entry, batch.queues)
        for tenant in kept.limits.tenants:
            backlog._hold_if_full(tenant)
        return backlog

    def _restore_batch(self, batch: BatchEntry, queues: list[tuple[Track, list[str]]]) -> None:
        self.batches[batch.key] = batch
        batch.queues = {track: OrderedDict.fromkeys(queue) for track, queue in queues}
        for track, queue in queues:
            self.queued_by_lane[track[0]] += len(queue)
        if batch.start_ms:
            self.set_start(batch, batch.start_ms)
        if batch.expires_ms:
            self.set_alarm(batch, "", batch.expires_ms)
        for group, entry in batch.groups.items():
            if entry.parting:
                self.parting[batch.key, group] = 0
        for file_id, file in batch.files.items():
            if file.flying:
                self.take_off(batch, file_id, file.since)
            elif not file.group and (file.doomed or file.status != "queued"):
                self.set_alarm(batch, file_id, file.alarm_ms)


def _name(track: Track) -> str:
    """A track in the book of turns; no tenant's name has a space."""
    return " ".join(track)
