"""A whole Tanda in memory, for the model test: log, work queue, scheduler, runners, storage.

Everything that may go wrong is a method: deliveries come twice, late and in any order, the queue
forgets, acknowledgements are lost, runners die or freeze, the scheduler falls back to a snapshot. What
must hold all the same is checked on every append and by ``check``.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.contracts.work import WorkItem
from tanda.domain import batch as of_batch
from tanda.domain import file as of_file
from tanda.domain.errors import Conflict, StateForbids
from tanda.domain.retries import decide_retry
from tanda.domain.scheduling.due import Due
from tanda.domain.scheduling.fair import FairScheduler
from tests.unit.domain.folding import BROKEN, BUSY, RESULTS, FoldedLog, complete_file, queue_file, start_file

WINDOW = 4
DELIVERIES_MAX = 3
TENANT = "acme"

FileKey = tuple[str, str]


@dataclass
class Shadow:
    """What the log up to a position says, folded by the aggregates: the truth to compare with."""

    position: int = 0
    batches: dict[str, of_batch.BatchState] = field(default_factory=dict)
    files: dict[FileKey, of_file.FileState] = field(default_factory=dict)
    #: Files that were under way when their batch was cancelled, until they are queued anew.
    doomed: set[FileKey] = field(default_factory=set)
    start_ms: dict[str, int] = field(default_factory=dict)

    def apply(self, record: Recorded) -> None:
        self.position = record.seq
        if record.file_id is None:
            state = self.batches.get(record.batch_id, of_batch.initial())
            self.batches[record.batch_id] = of_batch.evolve(state, record.event)
            if isinstance(record.event, e.BatchCreated) and record.event.start_at:
                self.start_ms[record.batch_id] = epoch_ms(record.event.start_at)
            if isinstance(record.event, e.BatchCancelled):
                self.doomed |= {key for key in self.live() if key[0] == record.batch_id}
            return
        key = (record.batch_id, record.file_id)
        self.files[key] = of_file.evolve(self.files.get(key, of_file.initial()), record.event)
        cancelled = self.batches[record.batch_id].phase == "cancelled"
        if isinstance(record.event, e.FileQueued) and not cancelled:
            self.doomed.discard(key)

    def live(self) -> list[FileKey]:
        return [key for key, state in self.files.items() if state.status not in FINAL_STATUSES]

    def may_run(self, key: FileKey, now_ms: int) -> bool:
        """Whether the rules let this file be released."""
        state = self.batches[key[0]]
        return (
            state.phase == "sealed"
            and self.files[key].status == "queued"
            and key not in self.doomed
            and self.start_ms.get(key[0], 0) <= now_ms
        )


@dataclass
class Run:
    """A runner with a file in its hands, and what it knows of it from its one read."""

    item: WorkItem
    state: of_file.FileState | None = None
    seq: int = 0


@dataclass
class World:
    log: FoldedLog = field(default_factory=FoldedLog)
    truth: Shadow = field(default_factory=Shadow)
    counts: Counter[e.FileStatus] = field(default_factory=Counter)
    finals: Counter[tuple[FileKey, int]] = field(default_factory=Counter)
    scheduler: FairScheduler = field(default_factory=FairScheduler)
    #: The log as far as the scheduler has folded it.
    seen: Shadow = field(default_factory=Shadow)
    snapshot: bytes = field(default_factory=lambda: FairScheduler().dump())
    queue: dict[FileKey, WorkItem] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    poison: set[FileKey] = field(default_factory=set)
    uploads: int = 0

    # -- the log ----------------------------------------------------------------------------------

    def append(
        self, event: e.Event, batch_id: str, file_id: str | None = None, expected: int | None = None
    ) -> None:
        """Writes an event; what must hold of every event is checked here."""
        record = self.log.append(event, batch_id, file_id, expected=expected)
        if file_id is not None:
            self._check_event((batch_id, file_id), event)
        self.truth.apply(record)

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

    def upload(self, count: int, *, sealed: bool, poisoned: bool, start_in_ms: int) -> None:
        self.uploads += 1
        batch_id = f"b{self.uploads}"
        start_at = rfc3339(self.log.now_ms + start_in_ms) if start_in_ms else None
        self.command(batch_id, c.CreateBatch(name=batch_id, open=not sealed, start_at=start_at))
        for index in range(count):
            (event,) = of_file.decide(of_file.initial(), queue_file(index))
            self.append(event, batch_id, f"{batch_id}-{index}")
        if poisoned:
            self.poison.add((batch_id, f"{batch_id}-0"))
        if sealed:
            self.command(batch_id, c.SealBatch(total=count))

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

    def retry(self, batch_id: str) -> None:
        """Everything that failed or was cancelled, the wish and its files in one append."""
        again = [
            key
            for key, state in self.truth.files.items()
            if key[0] == batch_id and state.status in ("failed", "cancelled")
        ]
        if again and self.command(batch_id, c.RetryFiles(file_ids=[file_id for _, file_id in again])):
            for key in again:
                (event,) = of_file.decide(self.truth.files[key], c.RequeueFile(forced=True))
                self.append(event, *key)

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
        room = WINDOW - self.scheduler.in_flight()
        items = self.scheduler.release(self.log.now_ms, room)
        assert len(items) <= max(room, 0), "more than the window has room for"
        for item in items:
            assert self.seen.may_run((item.batch_id, item.file_id), self.log.now_ms), f"released: {item}"
        if not put_fails:
            self._put(items)
        for due in self.scheduler.due(self.log.now_ms):
            self._do(due)

    def sweep(self) -> None:
        self._put(self.scheduler.outstanding(self.log.now_ms, 5_000))

    def keep(self) -> None:
        """A snapshot that the scheduler falls back to."""
        self.snapshot = self.scheduler.dump()

    def fall_back(self) -> None:
        """The scheduler dies; the next one begins from the snapshot."""
        self.scheduler = FairScheduler.restore(self.snapshot)
        self.seen = Shadow()
        for record in self.log.records[: self.scheduler.position]:
            self.seen.apply(record)

    def _put(self, items: list[WorkItem]) -> None:
        for item in items:
            self.queue.setdefault((item.batch_id, item.file_id), item)

    def _drop(self, batch_id: str) -> None:
        held = {(run.item.batch_id, run.item.file_id) for run in self.runs}
        for key in [key for key in self.queue if key[0] == batch_id and key not in held]:
            del self.queue[key]

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
            self.runs.append(Run(self.queue[key]))
            if removes:
                del self.queue[key]

    def begin(self, run: Run) -> None:
        """Reads the file's state and position at once, then says that it starts."""
        item, key = run.item, (run.item.batch_id, run.item.file_id)
        run.state, run.seq = self.truth.files[key], self.log.last[f"ev.{TENANT}.{key[0]}.{key[1]}"]
        if run.state.status not in ("queued", "processing") or run.state.attempt != item.attempt:
            self._end(run)
            return
        if run.state.deliveries >= DELIVERIES_MAX:
            self._write(run, c.FailFile(error=BROKEN))
            self._end(run)
        elif not self._write(run, start_file()):
            self.runs.remove(run)

    def finish(self, run: Run, how: str, *, ack_lost: bool = False) -> None:
        """The outcome of a run that may have become a zombie meanwhile, then the acknowledgement."""
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
        elif (run.item.batch_id, run.item.file_id) in self.poison:
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
            self.queue.pop((run.item.batch_id, run.item.file_id), None)

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
        self._check_places()
        dumped = self.scheduler.dump()
        assert FairScheduler.restore(dumped).dump() == dumped

    def _check_places(self) -> None:
        """The scheduler knows every file that is under way, where it is, and no other."""
        backlog = self.scheduler._backlog
        known = {
            (batch.batch_id, file_id): file
            for batch in backlog.batches.values()
            for file_id, file in batch.files.items()
        }
        assert {key: file.status for key, file in known.items()} == {
            key: self.seen.files[key].status for key in self.seen.live()
        }
        queued = {
            (batch.batch_id, file_id)
            for batch in backlog.batches.values()
            for queue in batch.queues.values()
            for file_id in queue
        }
        flying = {(batch_id, file_id) for _, batch_id, file_id in backlog.flying}
        resting = {
            key for key, file in known.items() if file.doomed or file.status in ("retrying", "waiting")
        }
        assert queued | flying | resting == set(known)
        assert len(queued) + len(flying) + len(resting) == len(known), "a file in two places"
        assert (len(queued), len(flying)) == (self.scheduler.unreleased(), self.scheduler.in_flight())

    def settle(self) -> None:
        """Faults stop, pauses end, uploads are sealed: then everything is settled in bounded time."""
        self.runs.clear()
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
