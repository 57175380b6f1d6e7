"""The scheduler as a fold of the log: which file may run next, and what else has come due.

Feed it every event in order with ``apply``; ask it for work with ``release`` and for what time has
brought about with ``due``. It reads no clock and does no I/O. It knows only unfinished batches: one
is forgotten at its ``BatchCompleted``, with its priority and its expiry; what is retried afterwards
runs as normal.

The rules. Nothing is released before the seal, before ``start_at``, while paused, or after a cancel;
who comes first among the rest is ``turns``. A released file is in flight until the log
tells its outcome. What was released but not started goes back into its queue when the batch is
paused. After a cancel every file that does not run is due to be cancelled, and stays so even if
other files of the batch are retried. A lane is a queue of its own, with its own window.

A file is released only while its batch, its tenant and its processor are below their limits. An outside
provider is a lane of its own: so many calls at once as its limit and its brake allow, and none while it
is braked (``limits``). Limits are changed by events like everything else.

Only releases are not in the log. A scheduler that lost them releases again what was not started,
which is harmless: the work queue holds a file once, and the log takes one outcome.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK, Timer, WorkItem, lane_provider, provider_lane
from tanda.domain.groups import GROUP_FILES
from tanda.domain.scheduling.backlog import (
    Backlog,
    BatchEntry,
    BatchKey,
    FileEntry,
    Kept,
)
from tanda.domain.scheduling.due import Due, batch_due, file_due
from tanda.domain.scheduling.grouped import Grouped, Parting
from tanda.domain.scheduling.items import move_source, work_item
from tanda.domain.scheduling.limits import NO_BRAKE, Brake, Limits, allowed, success, trouble
from tanda.domain.scheduling.providers import provider_of
from tanda.domain.scheduling.reasons import Reasons

#: What ``due`` named and nobody did is named again after this time; longer than any append takes
#: (``append_timeout_s``), so that two answers to one alarm are rare, and the log refuses the second.
DUE_AGAIN_MS = 10_000
#: One append takes at most a thousand events.
DUE_MAX = 1_000
#: Calls of one provider at once, where nobody has set anything else.
PROVIDER_LIMIT = 3


class _Snapshot(msgspec.Struct):
    position: int
    backlog: Kept
    timers: list[tuple[Timer, str]]
    withdrawn: list[BatchKey]
    brakes: dict[str, Brake]


class FairScheduler:
    """See the module's docstring.

    ``lanes`` names the lane of each processor that has its own; ``providers`` are those that can be called:
    work for another one goes to the default lane, where it fails with a reason. Sealed with no more than
    ``small_files`` files, a batch goes to the lane of small ones.
    """

    def __init__(
        self,
        lanes: Mapping[str, str] | None = None,
        providers: Collection[str] = (),
        provider_limit: int = PROVIDER_LIMIT,
        small_files: int = 0,
    ) -> None:
        #: The last event that was folded.
        self.position = 0
        self._lanes = dict(lanes or {})
        self._providers = frozenset(providers)
        self._provider_limit = provider_limit
        self._small_files = small_files
        #: By lane.
        self._brakes: dict[str, Brake] = {}
        self._backlog = Backlog()
        self._grouped = Grouped(self._backlog)
        self._timers: list[tuple[Timer, str]] = []
        self._withdrawn: dict[BatchKey, None] = {}
        self._handlers: dict[type[e.Event], Callable[[Recorded, Any], None]] = {
            e.FileQueued: self._file_queued,
            e.FileStarted: self._file_started,
            e.FileCompleted: self._file_completed,
            e.FileFailed: self._file_failed,
            e.FileCancelled: self._file_settled,
            e.FileAttemptFailed: self._file_retrying,
            e.FileWaiting: self._file_waiting,
            e.FilesQueued: self._files_queued,
            e.FilesCompleted: self._files_completed,
            e.FilesParted: self._files_parted,
            e.BatchCreated: self._batch_created,
            e.BatchSealed: self._batch_sealed,
            e.BatchPaused: self._batch_paused,
            e.BatchResumed: self._batch_resumed,
            e.BatchCancelled: self._batch_cancelled,
            e.FilesRetried: self._files_retried,
            e.BatchChanged: self._batch_changed,
            e.LimitsChanged: self._limits_changed,
            e.BatchCompleted: self._batch_completed,
            e.SourcesArchived: self._sources_archived,
            e.SourceForceArchived: self._source_force_archived,
        }

    # -- the log comes in -------------------------------------------------------------------------

    def apply(self, record: Recorded) -> None:
        """Folds one event; one that was already folded is passed over."""
        if record.seq <= self.position:
            return
        self.position = record.seq
        handler = self._handlers.get(type(record.event))
        if handler is not None:
            handler(record, record.event)

    def apply_many(self, records: Iterable[Recorded]) -> None:
        """Folds events in their order."""
        for record in records:
            self.apply(record)

    # -- work comes out ---------------------------------------------------------------------------

    def release(self, now_ms: int, room: int, lane: str = LANE_DEFAULT) -> list[WorkItem]:
        """Up to ``room`` files of a lane whose turn it is, a group as a whole; in flight from here on."""
        self._start_batches(now_ms)
        items: list[WorkItem] = []
        if self.brake(lane).until_ms > now_ms:
            return items
        since = rfc3339(now_ms)
        while len(items) < room and (turn := self._backlog.next_turn(lane)):
            batch, file_id = turn
            if group := batch.files[file_id].group:
                items += self._grouped.release(batch, group, since)
                continue
            turn_room = min(room - len(items), GROUP_FILES) if lane == LANE_QUICK else 1
            for one in self._backlog.turn_of(batch, file_id, turn_room):
                self._backlog.take_off(batch, one, since)
                items.append(work_item(batch, one))
        return items

    def partings(self, now_ms: int) -> list[Parting]:
        """The groups that are to be parted; asked for again until the log tells what became of them."""
        return self._grouped.partings(now_ms)

    def outstanding(self, now_ms: int, age_ms: int, started_age_ms: int | None = None) -> list[WorkItem]:
        """What has been in flight for so long without a sign, to be put into the work queue again.

        The work queue holds a file once, so that this restores what it lost and changes nothing else.
        ``started_age_ms`` is for files that somebody has started: a queue that lost the item of a file
        that is being worked on would have it done twice.
        """
        started_before = rfc3339(now_ms - (age_ms if started_age_ms is None else started_age_ms))
        return self._grouped.silent(rfc3339(now_ms), rfc3339(now_ms - age_ms), started_before)

    def withdrawn(self) -> list[tuple[str, str]]:
        """Tenant and batch of those paused or cancelled since the last call.

        The work queue drops their items, before the next release: what it still gives out would run.
        """
        withdrawn, self._withdrawn = list(self._withdrawn), {}
        return withdrawn

    def adopt(self, released: Iterable[tuple[str, str, str]], now_ms: int) -> None:
        """Counts as in flight what the work queue holds from another's time: tenant, batch, file or group."""
        for tenant, batch_id, token in released:
            if batch := self._backlog.batches.get((tenant, batch_id)):
                self._grouped.adopt(batch, token, rfc3339(now_ms))

    def unreleased(self, lane: str | None = None) -> int:
        """Files that wait for their release, those of batches that may not run yet included."""
        return self._backlog.queued if lane is None else self._backlog.queued_by_lane[lane]

    def in_flight(self, lane: str | None = None) -> int:
        """Files that are released or started and not settled, of one lane or of all."""
        return len(self._backlog.flying) if lane is None else self._backlog.flying_by_lane[lane]

    def started(self, lane: str) -> int:
        """Of those in flight in a lane, the ones that somebody works on."""
        return self._backlog.started_by_lane[lane]

    def lanes(self) -> list[str]:
        """The lanes that have something to release; a batch takes part once its start was seen to come."""
        return sorted({lane for (lane, _), turns in self._backlog.turns.items() if turns})

    def unfinished(self) -> int:
        """Batches that are remembered."""
        return len(self._backlog.batches)

    # -- limits -----------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """What an operator has set."""
        return self._backlog.limits

    def brake(self, lane: str) -> Brake:
        """What a lane's provider allows of late."""
        return self._brakes.get(lane, NO_BRAKE)

    def limit(self, provider: str) -> int:
        """Calls of a provider at once, brakes aside."""
        return self._backlog.limits.providers.get(provider, self._provider_limit)

    def allowed(self, lane: str) -> int | None:
        """Files of a provider's lane at once, as its limit and its brake allow; None for other lanes."""
        provider = lane_provider(lane)
        return None if provider is None else allowed(self.limit(provider), self.brake(lane))

    def in_flight_of(self, *, processor: str | None = None, tenant: str | None = None) -> int:
        """Files in flight of a processor or a tenant."""
        if processor is not None:
            return self._backlog.flying_by_processor[processor]
        return self._backlog.flying_by_tenant[tenant or ""]

    def reasons(self, now_ms: int) -> dict[str, str]:
        """Why batches with queued files wait, by id: ``limit``, ``brake``, ``fair_share``."""
        return Reasons(self._backlog, self.brake, self.allowed).all(now_ms)

    # -- time comes in ----------------------------------------------------------------------------

    def timers(self) -> list[tuple[Timer, str]]:
        """The timers to be set since the last call, each with its RFC 3339 time."""
        timers, self._timers = self._timers, []
        return timers

    def next_ms(self) -> int | None:
        """When to ask ``release`` and ``due`` again at the latest, though no event comes."""
        return self._backlog.next_ms()

    def due(self, now_ms: int, limit: int = DUE_MAX) -> list[Due]:
        """What is to be done now; named again after ``DUE_AGAIN_MS`` unless the log tells it is done."""
        self._start_batches(now_ms)
        found: list[Due] = []
        while len(found) < limit and (alarm := self._backlog.next_alarm(now_ms)):
            batch, file_id = alarm
            answer = file_due(batch, file_id) if file_id else batch_due(batch)
            if answer is not None:
                found.append(answer)
                self._backlog.set_alarm(batch, file_id, now_ms + DUE_AGAIN_MS)
        return found

    def _start_batches(self, now_ms: int) -> None:
        for batch in self._backlog.started(now_ms):
            if batch.expires_ms:
                self._set_timer(batch, None, batch.created_seq, rfc3339(batch.expires_ms))

    # -- snapshots --------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Everything that a successor needs, the same bytes for the same state."""
        snapshot = _Snapshot(
            self.position, self._backlog.keep(), self._timers, list(self._withdrawn), self._brakes
        )
        return msgspec.msgpack.encode(snapshot)

    @classmethod
    def restore(
        cls,
        data: bytes,
        lanes: Mapping[str, str] | None = None,
        providers: Collection[str] = (),
        provider_limit: int = PROVIDER_LIMIT,
        small_files: int = 0,
    ) -> "FairScheduler":
        """The scheduler that ``dump`` was asked of; apply what came after its position."""
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
        scheduler = cls(lanes, providers, provider_limit, small_files)
        scheduler.position = snapshot.position
        scheduler._backlog = Backlog.restore(snapshot.backlog)
        scheduler._grouped = Grouped(scheduler._backlog)
        scheduler._timers = snapshot.timers
        scheduler._withdrawn = dict.fromkeys(snapshot.withdrawn)
        scheduler._brakes = snapshot.brakes
        return scheduler

    # -- events of files --------------------------------------------------------------------------

    def _file_queued(self, record: Recorded, event: e.FileQueued) -> None:
        key, file_id = (record.tenant, record.batch_id), str(record.file_id)
        batch = self._backlog.batches.get(key)
        if batch is None:
            batch = self._backlog.reopen(key, late=event.previous is None)
        elif file_id in batch.files:
            self._backlog.take_out(batch, file_id)
        lane = self._lane_of(event)
        batch.files[file_id] = FileEntry(event, record.seq, record.seq, lane)
        if batch.cancelled:
            self._doom(batch, file_id)
        else:
            self._backlog.line_up(batch, file_id)

    def _file_started(self, record: Recorded, event: e.FileStarted) -> None:
        batch, file = self._find(record)
        if batch is None or file is None:
            return
        if file.flying:
            file.since = record.time
        else:
            # Released by another scheduler, or by this one before a pause.
            self._backlog.take_out(batch, str(record.file_id))
            self._backlog.take_off(batch, str(record.file_id), record.time)
        self._backlog.begin(file)
        file.last_seq, file.doomed = record.seq, False

    def _lane_of(self, event: e.FileQueued) -> str:
        provider = provider_of(event.processor, event.options)
        if provider in self._providers:
            return provider_lane(provider)
        return self._lanes.get(event.processor, LANE_DEFAULT)

    def _file_completed(self, record: Recorded, event: e.FileCompleted) -> None:
        self._went_well(event.provider)
        self._file_settled(record, event)

    def _file_failed(self, record: Recorded, event: e.FileFailed) -> None:
        self._went_wrong(record, event)
        self._file_settled(record, event)

    def _went_well(self, provider: str | None) -> None:
        if provider is not None and (brake := self._brakes.get(provider_lane(provider))):
            self._brakes[provider_lane(provider)] = success(brake)

    def _went_wrong(self, record: Recorded, event: e.FileFailed | e.FileAttemptFailed) -> None:
        if event.provider is None or event.braked_until is None:
            return
        lane = provider_lane(event.provider)
        until_ms = epoch_ms(event.braked_until)
        at_ms = epoch_ms(record.time)
        self._brakes[lane] = trouble(self.brake(lane), at_ms=at_ms, until_ms=until_ms, code=event.error.code)

    def _file_settled(self, record: Recorded, event: e.Event) -> None:
        batch, file = self._find(record)
        if batch is not None and file is not None:
            self._backlog.take_out(batch, str(record.file_id))
            del batch.files[str(record.file_id)]
            self._backlog.forget_finished(batch)

    def _file_retrying(self, record: Recorded, event: e.FileAttemptFailed) -> None:
        self._went_wrong(record, event)
        self._wait_until(record, event.retry_at, "retrying")

    def _file_waiting(self, record: Recorded, event: e.FileWaiting) -> None:
        self._wait_until(record, event.deadline, "waiting")

    def _wait_until(self, record: Recorded, at: str, status: e.FileStatus) -> None:
        batch, file = self._find(record)
        if batch is None or file is None:
            return
        file_id = str(record.file_id)
        self._backlog.take_out(batch, file_id)
        file.status, file.last_seq = status, record.seq
        if batch.cancelled:
            self._doom(batch, file_id)
        else:
            self._backlog.set_alarm(batch, file_id, epoch_ms(at))
            self._set_timer(batch, file_id, record.seq, at)

    # -- events of groups -------------------------------------------------------------------------

    def _files_queued(self, record: Recorded, event: e.FilesQueued) -> None:
        batch = self._find_batch(record) or self._backlog.reopen((record.tenant, record.batch_id), late=True)
        files = [(queued, file_id, self._lane_of(queued)) for file_id, queued in event.files]
        self._grouped.queue(batch, str(record.file_id), record.seq, files)

    def _files_completed(self, record: Recorded, event: e.FilesCompleted) -> None:
        if batch := self._find_batch(record):
            self._grouped.completed(batch, str(record.file_id))
            self._backlog.forget_finished(batch)

    def _files_parted(self, record: Recorded, event: e.FilesParted) -> None:
        if batch := self._find_batch(record):
            for file_id in self._grouped.parted(batch, str(record.file_id)):
                if batch.files[file_id].doomed:
                    self._doom(batch, file_id)
                else:
                    self._backlog.line_up(batch, file_id)

    # -- events of batches ------------------------------------------------------------------------

    def _batch_created(self, record: Recorded, event: e.BatchCreated) -> None:
        batch = self._backlog.open((record.tenant, record.batch_id))
        batch.priority, batch.created_seq, batch.limit = event.priority, record.seq, event.limit
        if event.start_at is not None:
            self._backlog.set_start(batch, epoch_ms(event.start_at))
        if event.expires_at is not None:
            self._backlog.set_alarm(batch, "", epoch_ms(event.expires_at))
        # A batch has one timer: that of its expiry is set once its start has come.
        at = event.start_at or event.expires_at
        if at is not None:
            self._set_timer(batch, None, record.seq, at)

    def _batch_sealed(self, record: Recorded, event: e.BatchSealed) -> None:
        if batch := self._find_batch(record):
            batch.sealed = True
            if len(batch.files) <= self._small_files:
                self._grouped.hurry(batch)
            self._backlog.refresh(batch)

    def _batch_paused(self, record: Recorded, event: e.BatchPaused) -> None:
        if batch := self._find_batch(record):
            batch.paused = True
            self._withdrawn[batch.key] = None
            files = batch.files.items()
            released = [file_id for file_id, file in files if file.flying and file.status == "queued"]
            for file_id in reversed(released):
                self._backlog.take_out(batch, file_id)
                self._backlog.line_up(batch, file_id, first=True)
            self._backlog.refresh(batch)

    def _batch_resumed(self, record: Recorded, event: e.BatchResumed) -> None:
        if batch := self._find_batch(record):
            batch.paused = False
            self._backlog.refresh(batch)

    def _batch_cancelled(self, record: Recorded, event: e.BatchCancelled) -> None:
        if batch := self._find_batch(record):
            batch.cancelled, batch.paused = True, False
            self._withdrawn[batch.key] = None
            for group in batch.groups:
                self._grouped.doom(batch, group)
            for file_id, file in batch.files.items():
                if file.status != "processing" and not file.group:
                    self._backlog.take_out(batch, file_id)
                    self._doom(batch, file_id)

    def _files_retried(self, record: Recorded, event: e.FilesRetried) -> None:
        batch = self._find_batch(record) or self._backlog.open((record.tenant, record.batch_id))
        batch.sealed, batch.cancelled, batch.completed = True, False, False
        self._backlog.refresh(batch)

    def _batch_changed(self, record: Recorded, event: e.BatchChanged) -> None:
        batch = self._find_batch(record)
        if batch is None:
            return
        if event.priority is not None:
            self._backlog.reprioritize(batch, event.priority)
        if "limit" in event.changed:
            self._backlog.set_limit(batch, event.limit)
        if "start_at" in event.changed:
            self._backlog.clear_start(batch)
            if event.start_at is not None:
                self._backlog.set_start(batch, epoch_ms(event.start_at))
                self._backlog.refresh(batch)
        if "expires_at" in event.changed:
            batch.expires_ms = 0
            if event.expires_at is not None:
                self._backlog.set_alarm(batch, "", epoch_ms(event.expires_at))
        for at_ms in filter(None, [batch.start_ms or batch.expires_ms]):
            self._set_timer(batch, None, record.seq, rfc3339(at_ms))

    def _limits_changed(self, record: Recorded, event: e.LimitsChanged) -> None:
        self._backlog.set_limits(self._backlog.limits.after(event))

    def _batch_completed(self, record: Recorded, event: e.BatchCompleted) -> None:
        if batch := self._find_batch(record):
            batch.completed, batch.paused = True, False
            self._backlog.forget_finished(batch)

    def _sources_archived(self, record: Recorded, event: e.SourcesArchived) -> None:
        if batch := self._find_batch(record):
            for file_id, source in event.sources.items():
                move_source(batch, file_id, source)

    def _source_force_archived(self, record: Recorded, event: e.SourceForceArchived) -> None:
        if batch := self._find_batch(record):
            move_source(batch, event.file_id, event.source)

    # -- steps ------------------------------------------------------------------------------------

    def _find_batch(self, record: Recorded) -> BatchEntry | None:
        return self._backlog.batches.get((record.tenant, record.batch_id))

    def _find(self, record: Recorded) -> tuple[BatchEntry | None, FileEntry | None]:
        batch = self._backlog.batches.get((record.tenant, record.batch_id))
        return batch, batch.files.get(str(record.file_id)) if batch else None

    def _doom(self, batch: BatchEntry, file_id: str) -> None:
        batch.files[file_id].doomed = True
        self._backlog.set_alarm(batch, file_id, 0)

    def _set_timer(self, batch: BatchEntry, file_id: str | None, seq: int, at: str) -> None:
        timer = Timer(tenant=batch.tenant, batch_id=batch.batch_id, file_id=file_id, seq=seq)
        self._timers.append((timer, at))
