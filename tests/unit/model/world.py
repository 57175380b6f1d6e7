"""A whole Tanda in memory, for the model test: log, work queue, scheduler, runners, storage.

Everything that may go wrong is a method: deliveries come twice, late and in any order, the queue
forgets, acknowledgements are lost, runners die or freeze, the scheduler falls back to a snapshot, a second
one leads as well. What must hold all the same is checked on every append and by ``check``. Groups are small
here, so that a short story has several.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import singly
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER
from tanda.contracts.subjects import group_token
from tanda.contracts.times import rfc3339
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK, LANE_SMALL, WorkItem, bundles, work_token
from tanda.domain import batch as of_batch
from tanda.domain import file as of_file
from tanda.domain.errors import Conflict, StateForbids
from tanda.domain.retries import decide_retry
from tanda.domain.scheduling.due import Due
from tanda.domain.scheduling.fair import FairScheduler
from tanda.domain.scheduling.grouped import Parting
from tests.unit.domain.folding import (
    BROKEN,
    BUSY,
    RESULTS,
    FoldedLog,
    complete_at_once,
    complete_file,
    queue_file,
    start_file,
)
from tests.unit.model.places import check_places
from tests.unit.model.shadow import FileKey, Shadow

WINDOW = 4
DELIVERIES_MAX = 3
TENANT = "acme"
GROUP_FILES = 3
SMALL_FILES = 2
QUICK, ALSO_QUICK, SLOW = "noop", "echo", "table"
LANES = {QUICK: LANE_QUICK, ALSO_QUICK: LANE_QUICK}


def new_scheduler(snapshot: bytes = b"") -> FairScheduler:
    """One that begins, from a snapshot where there is one."""
    if snapshot:
        return FairScheduler.restore(snapshot, LANES, small_files=SMALL_FILES)
    return FairScheduler(LANES, small_files=SMALL_FILES)


@dataclass
class Run:
    """A runner with a file or a group in its hands, and what it knows of it from its one read."""

    items: list[WorkItem]
    #: Nobody has had it before, as far as the queue knows.
    is_first: bool = True
    state: of_file.FileState | None = None
    seq: int = 0

    @property
    def item(self) -> WorkItem:
        return self.items[0]

    @property
    def key(self) -> FileKey:
        """What the queue knows it by."""
        return self.item.batch_id, work_token(self.item)


@dataclass
class World:
    log: FoldedLog = field(default_factory=FoldedLog)
    truth: Shadow = field(default_factory=lambda: Shadow(TENANT))
    counts: Counter[e.FileStatus] = field(default_factory=Counter)
    finals: Counter[tuple[FileKey, int]] = field(default_factory=Counter)
    scheduler: FairScheduler = field(default_factory=new_scheduler)
    #: The log as far as the scheduler has folded it.
    seen: Shadow = field(default_factory=lambda: Shadow(TENANT))
    #: One that does not know yet that it leads no more, and what it has seen.
    rival: tuple[FairScheduler, Shadow] | None = None
    snapshot: bytes = field(default_factory=lambda: new_scheduler().dump())
    #: By file or group.
    queue: dict[FileKey, list[WorkItem]] = field(default_factory=dict)
    #: What of it somebody has had.
    delivered: set[FileKey] = field(default_factory=set)
    runs: list[Run] = field(default_factory=list)
    poison: set[FileKey] = field(default_factory=set)
    uploads: int = 0
    #: Groups that ever were.
    grouped: set[FileKey] = field(default_factory=set)

    # -- the log ----------------------------------------------------------------------------------

    def append(
        self, event: e.Event, batch_id: str, token: str | None = None, expected: int | None = None
    ) -> None:
        """Writes an event; what must hold of every event is checked here."""
        record = self.log.append(event, batch_id, token, expected=expected)
        if isinstance(event, e.FilesQueued | e.FilesCompleted | e.FilesParted):
            self._check_group((batch_id, str(token)), event)
        elif token is not None:
            assert (batch_id, token) not in self.truth.group_of, f"{event} on a file of a whole group"
        for one in singly([record]):
            if one.file_id is not None:
                self._check_event((batch_id, one.file_id), one.event)
        self.truth.apply(record)

    def _check_group(self, key: FileKey, event: e.FilesQueued | e.FilesCompleted | e.FilesParted) -> None:
        if isinstance(event, e.FilesQueued):
            assert key not in self.grouped, "a group twice"
            self.grouped.add(key)
            return
        assert key in self.truth.groups, f"{event} on what is no group"
        if isinstance(event, e.FilesCompleted):
            named = [file_id for file_id, _ in event.files]
            assert named == self.truth.groups[key][1], "completed other files than were queued"

    def _check_event(self, key: FileKey, event: e.Event) -> None:
        before = self.truth.files.get(key, of_file.initial())
        previous, status = getattr(event, "previous", None), STATUS_AFTER[type(event)]
        assert previous == before.status, f"{event} on a file that is {before.status}"
        assert self.truth.batches[key[0]].phase is not None, "a file of an unknown batch"
        if previous is not None:
            self.counts[previous] -= 1
        self.counts[status] += 1
        if status in FINAL_STATUSES:
            attempt: int = getattr(event, "attempt", 1)
            self.finals[key, attempt] += 1
            assert self.finals[key, attempt] == 1, f"a second outcome of attempt {attempt}: {event}"

    # -- people -----------------------------------------------------------------------------------

    def upload(
        self,
        count: int,
        *,
        sealed: bool,
        poisoned: bool,
        start_in_ms: int,
        grouped: bool = False,
        quick: bool = True,
    ) -> None:
        """A batch; with ``grouped`` its files are told in groups where there are enough of them."""
        self.uploads += 1
        batch_id = f"b{self.uploads}"
        start_at = rfc3339(self.log.now_ms + start_in_ms) if start_in_ms else None
        self.command(batch_id, c.CreateBatch(name=batch_id, open=not sealed, start_at=start_at))
        self._tell_files(batch_id, range(count), grouped=grouped, quick=quick)
        if poisoned:
            self.poison.add((batch_id, f"{batch_id}-0"))
        if sealed:
            self.command(batch_id, c.SealBatch(total=count))

    def upload_more(self, batch_id: str, *, grouped: bool, quick: bool) -> None:
        """The next chunk of an upload that is under way, its batch perhaps paused or cancelled meanwhile."""
        state = self.truth.batches[batch_id]
        if not (state.sealed or state.settled):
            told = sum(key[0] == batch_id for key in self.truth.files)
            first = -(-told // GROUP_FILES) * GROUP_FILES
            self._tell_files(batch_id, range(first, first + GROUP_FILES), grouped=grouped, quick=quick)

    def _tell_files(self, batch_id: str, indices: range, *, grouped: bool, quick: bool) -> None:
        """Their first events, by groups of successive ones or each by itself."""
        for first in indices[::GROUP_FILES]:
            files: list[tuple[str, e.FileQueued]] = []
            for index in range(first, min(first + GROUP_FILES, indices.stop)):
                # Some groups are of two processors, only one of which may have a limit.
                processor = SLOW if not quick else ALSO_QUICK if index % 4 == 3 else QUICK
                (event,) = of_file.decide(of_file.initial(), queue_file(index, processor=processor))
                assert isinstance(event, e.FileQueued), "what is new is queued"
                files.append((f"{batch_id}-{index}", event))
            if grouped and len(files) > 1:
                self.append(e.FilesQueued(files=files), batch_id, group_token(first // GROUP_FILES), 0)
                continue
            for file_id, event in files:
                self.append(event, batch_id, file_id, 0)

    def command(self, batch_id: str, command: c.Command) -> bool:
        """Asks a batch; False where its state forbids it, and then nothing has changed."""
        state = self.truth.batches.get(batch_id, of_batch.initial())
        try:
            decided = of_batch.decide(state, command)
        except StateForbids:
            return False
        for event in decided:
            self.append(event, batch_id)
        assert reduce(of_batch.evolve, decided, state) == self.truth.batches[batch_id]
        return True

    def batch(self, where: float, then: Callable[[str], object]) -> None:
        """One of the batches, the later ones more often, as people look at what they just made."""
        names = list(self.truth.batches)
        if names:
            then(names[int(where**0.5 * len(names))])

    def seal(self, batch_id: str) -> None:
        count = sum(key[0] == batch_id for key in self.truth.files)
        self.command(batch_id, c.SealBatch(total=count))

    def retry(self, batch_id: str, *, completed: bool = False) -> None:
        """What failed or was cancelled, or what is completed, the wish and its files in one append."""
        statuses = ("completed",) if completed else ("failed", "cancelled")
        files = self.truth.files.items()
        again = [key for key, state in files if key[0] == batch_id and state.status in statuses]
        if again and self.command(batch_id, c.RetryFiles(file_ids=[file_id for _, file_id in again])):
            for key in again:
                (event,) = of_file.decide(self.truth.files[key], c.RequeueFile(forced=True))
                self.append(event, *key, self._last(key))

    def limit(self, batch_id: str, limit: int | None) -> None:
        """So many files of a batch at once."""
        self.command(batch_id, c.ChangeBatch(changed=["limit"], limit=limit))

    def limit_all(self, **limits: dict[str, int | None]) -> None:
        """The same of tenants and processors."""
        self.append(e.LimitsChanged(**limits), "limits")

    def _last(self, key: FileKey) -> int:
        """The last position on a file's own subject."""
        return self.log.last.get(f"ev.{TENANT}.{key[0]}.{key[1]}", 0)

    # -- the scheduler ----------------------------------------------------------------------------

    def fold(self, behind: int = 0) -> None:
        """The scheduler reads on, to some events before the end; some of them it has read before."""
        through = max(len(self.log.records) - behind, self.scheduler.position)
        for record in self.log.records[max(0, self.scheduler.position - 3) : through]:
            self.scheduler.apply(record)
        for record in self.log.records[self.seen.position : through]:
            self.seen.apply(record)

    def schedule(self, *, put_fails: bool = False) -> None:
        """One round of the shell."""
        for _, batch_id in self.scheduler.withdrawn():
            self._drop(batch_id)
        for one in self.scheduler.partings(self.log.now_ms):
            self._part(one)
        for lane in (LANE_SMALL, LANE_DEFAULT, LANE_QUICK):
            self._release(lane, put_fails=put_fails)
        for due in self.scheduler.due(self.log.now_ms):
            self._do(due)

    def _release(self, lane: str, *, put_fails: bool) -> None:
        room = WINDOW - self.scheduler.in_flight(lane)
        items = self.scheduler.release(self.log.now_ms, room, lane)
        released = bundles(items)
        before_the_last = len(items) - len(released[-1]) if released else 0
        assert before_the_last < max(room, 1), "more than the window has room for"
        for bundle in released:
            assert self.seen.may_run(bundle, self.log.now_ms), f"released: {bundle}"
            self._check_limits(bundle[0])
        if not put_fails:
            self._put(items)

    def _check_limits(self, item: WorkItem) -> None:
        limits, own = self.seen.limits, self.seen.own_limits.get(item.batch_id)
        fair = self.scheduler
        flying = sum(key[1] == item.batch_id for key in fair._backlog.flying)
        assert own is None or flying <= own, "released beyond the batch's limit"
        for found, most in (
            (fair.in_flight_of(tenant=TENANT), limits.tenants.get(TENANT)),
            (fair.in_flight_of(processor=item.processor), limits.processors.get(item.processor)),
        ):
            assert most is None or found <= most, "released beyond a limit"

    def _part(self, one: Parting) -> None:
        try:
            self.append(e.FilesParted(), one.batch_id, one.group, one.seq)
        except Conflict:
            assert self.scheduler.position < len(self.log.records), "a group that cannot be parted"

    def sweep(self) -> None:
        self._put(self.scheduler.outstanding(self.log.now_ms, 5_000))

    def keep(self) -> None:
        """A snapshot that the scheduler falls back to."""
        self.snapshot = self.scheduler.dump()

    def fall_back(self) -> None:
        """The scheduler dies; the next one begins from the snapshot."""
        self.scheduler, self.seen = self._restored()

    def second(self) -> None:
        """Another scheduler leads as well, and the one before comes back after it."""
        leads = (self.scheduler, self.seen)
        self.scheduler, self.seen = self.rival or self._restored()
        if self.rival is None:
            self.fold()
            self.scheduler.adopt([(TENANT, *key) for key in self.queue], self.log.now_ms)
            self._put(self.scheduler.outstanding(self.log.now_ms, 0))
        self.rival = leads

    def _restored(self) -> tuple[FairScheduler, Shadow]:
        scheduler, seen = new_scheduler(self.snapshot), Shadow(TENANT)
        for record in self.log.records[: scheduler.position]:
            seen.apply(record)
        return scheduler, seen

    def _put(self, items: list[WorkItem]) -> None:
        for bundle in bundles(items):
            self.queue.setdefault((bundle[0].batch_id, work_token(bundle[0])), bundle)

    def _drop(self, batch_id: str) -> None:
        held = {run.key for run in self.runs}
        for key in [key for key in self.queue if key[0] == batch_id and key not in held]:
            self._forget(key)

    def _forget(self, key: FileKey) -> None:
        self.queue.pop(key, None)
        self.delivered.discard(key)

    def forget_all(self) -> None:
        """The queue is lost."""
        self.queue.clear()
        self.delivered.clear()

    def _do(self, due: Due) -> None:
        assert due.file_id is not None
        assert due.state is not None
        command: c.Command = c.RequeueFile()
        if due.kind == "cancel":
            command = c.CancelFile()
        elif due.kind == "deadline":
            command = c.FailFile(error=BROKEN)
        (event,) = of_file.decide(due.state, command)
        try:
            self.append(event, due.batch_id, due.file_id, due.seq)
        except Conflict:
            assert self.scheduler.position < len(self.log.records), (
                "a conflict that reading on would not settle"
            )

    # -- runners ----------------------------------------------------------------------------------

    def take(self, pick: int, *, removes: bool = False) -> None:
        """A delivery, perhaps of what another runner holds: a lease that ran out, or a duplicate."""
        if self.queue:
            key = sorted(self.queue)[pick % len(self.queue)]
            self.runs.append(Run(self.queue[key], key not in self.delivered))
            self.delivered.add(key)
            if removes:
                self._forget(key)

    def begin(self, run: Run) -> None:
        """Reads the file's state and position at once, then says that it starts."""
        item, key = run.item, run.key
        if item.group:
            self._begin_group(run)
            return
        run.state, run.seq = self.truth.files[key], self._last(key)
        if run.state.status not in ("queued", "processing") or run.state.attempt != item.attempt:
            self._end(run)
            return
        if run.state.deliveries >= DELIVERIES_MAX:
            self._write(run, c.FailFile(error=BROKEN))
            self._end(run)
        elif not self._write(run, start_file()):
            self.runs.remove(run)

    def _begin_group(self, run: Run) -> None:
        """Nothing is read: its outcome expects what was released. What somebody has lost is parted."""
        run.state, run.seq = of_file.queued_state(run.item.attempt), run.item.seq
        if not run.is_first:
            self._write_group(run, e.FilesParted())
            self._end(run)

    def _finish_group(self, run: Run, how: str, *, ack_lost: bool) -> None:
        event: e.FilesCompleted | e.FilesParted = e.FilesParted()
        if how == "complete":
            begun_at = rfc3339(self.log.now_ms)
            told = [(one.file_id, self.truth.files[one.batch_id, one.file_id].queued) for one in run.items]
            event = e.FilesCompleted(
                files=[(file_id, complete_at_once(queued, begun_at)) for file_id, queued in told if queued]
            )
        self._write_group(run, event)
        self._end(run, ack_lost=ack_lost)

    def _write_group(self, run: Run, event: e.FilesCompleted | e.FilesParted) -> None:
        """On top of what was released; another event that came first stands."""
        with suppress(Conflict):
            self.append(event, *run.key, run.seq)

    def finish(self, run: Run, how: str, *, ack_lost: bool = False) -> None:
        """The outcome of a run that may have become a zombie meanwhile, then the acknowledgement."""
        if run.item.group:
            self._finish_group(run, how, ack_lost=ack_lost)
            return
        command: c.Command = complete_file()
        if how == "wait":
            command = c.AwaitFile(token_sha256="", deadline=rfc3339(self.log.now_ms + 20_000))
        elif how == "break":
            command = c.FailFile(error=BROKEN)
        elif how == "fail":
            assert run.state is not None
            at = decide_retry(
                BUSY,
                run.state.attempt,
                attempts_max=3,
                now_ms=self.log.now_ms,
                entropy=0.5,
                retry_after_s=None,
            )
            command = c.FailFile(error=BUSY, retry_at=None if at is None else rfc3339(at))
        self._write(run, command)
        self._end(run, ack_lost=ack_lost)

    def run_on(self, run: Run, how: str, *, ack_lost: bool = False) -> None:
        """The next thing that a runner does."""
        if run.state is None:
            self.begin(run)
        elif any((one.batch_id, one.file_id) in self.poison for one in run.items):
            self.runs.remove(run)
        else:
            self.finish(run, how, ack_lost=ack_lost)

    def _write(self, run: Run, command: c.Command) -> bool:
        """Decides on what the run has read, on top of exactly that; False where another was first."""
        assert run.state is not None
        (event,) = of_file.decide(run.state, command)
        try:
            self.append(event, run.item.batch_id, run.item.file_id, run.seq)
        except Conflict:
            return False
        run.state = of_file.evolve(run.state, event)
        run.seq = len(self.log.records)
        return True

    def _end(self, run: Run, *, ack_lost: bool = False) -> None:
        self.runs.remove(run)
        if not ack_lost:
            self._forget(run.key)

    # -- storage ----------------------------------------------------------------------------------

    def complete(self, batch_id: str) -> None:
        """Asks for a batch's completion, whether or not it is time."""
        counts = Counter(str(state.status) for key, state in self.truth.files.items() if key[0] == batch_id)
        command = c.CompleteBatch(
            through_seq=len(self.log.records),
            results=RESULTS,
            counts=dict(counts),  # pyright: ignore[reportArgumentType]
        )
        self.command(batch_id, command)

    # -- what must hold ---------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold at every moment, whatever has gone wrong."""
        expected = Counter(state.status for state in self.truth.files.values())
        assert {status: count for status, count in self.counts.items() if count} == dict(expected)
        check_places(self.scheduler, self.seen)
        dumped = self.scheduler.dump()
        assert new_scheduler(dumped).dump() == dumped

    def settle(self) -> None:
        """Faults stop, pauses end, uploads are sealed: then everything is settled in bounded time."""
        self.runs.clear()
        self.rival = None
        for batch_id in self.truth.batches:
            self.command(batch_id, c.ResumeBatch())
            self.seal(batch_id)
        for _ in range(400):
            self.log.now_ms += 6_000
            self.fold()
            self.schedule()
            self.sweep()
            while self.queue:
                self.take(0)
                run = self.runs[0]
                self.run_on(run, "complete")
                if run in self.runs:
                    self.run_on(run, "complete")
            for batch_id in self.truth.batches:
                self.complete(batch_id)
            self.fold()
            self.check()
            if self.scheduler.unfinished() == 0:
                break
        assert not self.truth.live(), "files that nobody will ever finish"
        assert all(state.settled for state in self.truth.batches.values())
        assert self.scheduler.unfinished() == 0, "a finished batch is remembered"
