"""One short schedule of people, a scheduler, runners, storage and a projector, and of all that goes wrong.

The rules are the real ones: the aggregates, ``FairScheduler``, ``SettlingBatch``, the projector's fence. The
log, the queue and the runners around them are lists and dicts, so that a minute of CPU tells very many
schedules. A schedule has one to three files and some thirty steps; every event is checked as it is written,
every release as it is made, and everything when the faults have stopped. ``tests/unit/model/world.py`` tells
longer ones, with more checks.
"""

import random
from collections import Counter
from collections.abc import Callable

from services.projector.projector import unseen
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded, singly
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER, TYPE_NAMES
from tanda.contracts.subjects import group_token
from tanda.contracts.times import rfc3339
from tanda.contracts.views import Checkpoint
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK, WorkItem, bundles, work_token
from tanda.domain import batch as of_batch
from tanda.domain import file as of_file
from tanda.domain.errors import StateForbids
from tanda.domain.scheduling.due import Due
from tanda.domain.settling import SettlingBatch, archived_ref
from tests.sim.given import (
    AT_ONCE,
    BUSY,
    COMPLETE,
    LANE_OUTSIDE,
    NO_FILE,
    OUTSIDE,
    PROVIDER,
    QUEUED,
    QUICK,
    REJECTED_EARLY,
    RESULTS,
    SLOW,
    START,
    START_MS,
    new_scheduler,
)
from tests.sim.leader import Key, Leader, Run

STEPS = 30
WINDOW = 2
DELIVERIES_MAX = 3
ATTEMPTS_MAX = 3
SETTLE_ROUNDS_MAX = 60
TENANT = "acme"
GROUP = ("b", group_token(0))
#: How the work on a file or a group ends where nothing goes wrong.
DONE = 7


class Schedule:
    """One seed's world; ``run`` tells it and raises where something does not hold."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.records: list[Recorded] = []
        self.last: dict[Key, int] = {}
        self.now_ms = START_MS
        self.batch = of_batch.initial()
        self.files: dict[Key, of_file.FileState] = {}
        self.outcomes: set[tuple[Key, int]] = set()
        self.leaders = [Leader(new_scheduler())]
        #: The files of the batch's group as long as it is whole.
        self.whole: list[str] = []
        self.snapshot = b""
        self.start_ms = 0
        self.lanes = (LANE_DEFAULT,)
        #: By file or group.
        self.queue: dict[Key, list[WorkItem]] = {}
        #: What of it somebody has had.
        self.delivered: set[Key] = set()
        self.runs: list[Run] = []
        self.settling = SettlingBatch(tenant=TENANT, batch_id="b")
        #: Files whose result is in the log.
        self.completed: set[str | None] = set()
        #: What storage has read, and found nothing more to do at.
        self.stored = 0
        #: The projector's rows, its checkpoint, and how many files each status has.
        self.rows: dict[Key, e.FileStatus] = {}
        self.shown: dict[e.FileStatus, int] = {}
        self.checkpoint = Checkpoint(seq=0, event_id=None, version="1")

    def run(self, steps: int = STEPS) -> "Schedule":
        self._upload()
        for bits in [self.chance.getrandbits(32) for _ in range(steps)]:
            ACTS[bits & 127](self, bits >> 7)
        self._settle()
        return self

    # -- the log

    def append(self, event: e.Event, key: Key, expected: int | None = None) -> bool:
        """Writes an event on top of what is expected there; False where another came first."""
        if expected is not None and self.last.get(key, 0) != expected:
            return False
        self._group_must_be_right(event, key)
        seq = len(self.records) + 1
        record = Recorded(
            seq=seq, subject="", id=str(seq), type=TYPE_NAMES[type(event)], time=rfc3339(self.now_ms),
            source="/sim", tenant=TENANT, batch_id=key[0], file_id=key[1], event=event,
        )  # fmt: skip
        for one in singly((record,)):
            self._must_be_right(one.event, (one.batch_id, one.file_id))
            if one.file_id is None:
                self.batch = of_batch.evolve(self.batch, one.event)
            else:
                at = (one.batch_id, one.file_id)
                self.files[at] = of_file.evolve(self.files.get(at, NO_FILE), one.event)
        self.records.append(record)
        self.last[key] = seq
        return True

    def _group_must_be_right(self, event: e.Event, key: Key) -> None:
        if isinstance(event, e.FilesQueued):
            assert key not in self.last, "a group twice"
            self.whole = [file_id for file_id, _ in event.files]
        elif isinstance(event, e.FilesCompleted):
            assert [file_id for file_id, _ in event.files] == self.whole, "other files than were queued"
            self.whole = []
        elif isinstance(event, e.FilesParted):
            assert self.whole, "what is no group was parted"
            self.whole = []
        else:
            assert key[1] not in self.whole, f"{event} on a file of a whole group"

    def _must_be_right(self, event: e.Event, key: Key) -> None:
        status = STATUS_AFTER.get(type(event))
        if status is None:
            if isinstance(event, e.BatchCompleted):
                assert all(one.status in FINAL_STATUSES for one in self.files.values()), "completed too early"
            elif isinstance(event, e.SourcesArchived):
                assert self.completed.issuperset(event.sources), "a source archived before its result"
            return
        before = self.files.get(key, NO_FILE)
        assert getattr(event, "previous", None) == before.status, f"{event} on a file that is {before.status}"
        if status in FINAL_STATUSES:
            attempt: int = getattr(event, "attempt", 1)
            assert (key, attempt) not in self.outcomes, f"a second outcome of attempt {attempt}"
            self.outcomes.add((key, attempt))
            if status == "completed":
                self.completed.add(key[1])

    # -- people

    def _upload(self) -> None:
        bits = self.chance.getrandbits(12)
        count = 1 + bits % 3
        of_kind, self.lanes = QUICK, (LANE_QUICK,)
        if bits & 4:
            of_kind, self.lanes = OUTSIDE, (LANE_OUTSIDE,)
        elif bits & 768 == 768:
            of_kind, self.lanes = SLOW, (LANE_DEFAULT,)
        self.start_ms = self.now_ms + 10_000 if bits & 224 == 224 else 0
        start_at = rfc3339(self.start_ms) if self.start_ms else None
        self._ask(c.CreateBatch(name="b", open=True, start_at=start_at))
        files = [(f"f{index}", of_kind[index]) for index in range(count)]
        if bits & 3072 and count > 1:
            self.append(e.FilesQueued(files=files), GROUP, 0)
        else:
            for file_id, event in files:
                self.append(event, ("b", file_id), 0)
        if bits & 24:
            self._ask(c.SealBatch(total=count))

    def _ask(self, command: c.Command) -> bool:
        try:
            decided = of_batch.decide(self.batch, command)
        except StateForbids:
            return False
        for event in decided:
            self.append(event, ("b", None))
        return True

    def pause(self, _pick: int) -> None:
        self._ask(c.PauseBatch())

    def resume(self, _pick: int) -> None:
        self._ask(c.ResumeBatch())

    def cancel(self, _pick: int) -> None:
        self._ask(c.CancelBatch())

    def seal(self, _pick: int) -> None:
        self._ask(c.SealBatch(total=len(self.files)))

    def retry(self, _pick: int) -> None:
        again = [key for key, one in self.files.items() if one.status in ("failed", "cancelled")]
        if again and self._ask(c.RetryFiles(file_ids=[str(key[1]) for key in again])):
            for key in again:
                (event,) = of_file.decide(self.files[key], c.RequeueFile(forced=True))
                self.append(event, key, self.last.get(key, 0))

    def limit(self, pick: int) -> None:
        self.append(e.LimitsChanged(tenants={TENANT: 1 + pick % 3}), ("limits", None))

    # -- the scheduler

    def schedule(self, pick: int) -> None:
        """One round of a leader that has read on, sometimes not to the end."""
        leader = self.leaders[pick % len(self.leaders)]
        through = len(self.records) - (pick & 6 == 6)
        if leader.asked_at == (through, self.now_ms):
            return
        leader.asked_at = (through, self.now_ms)
        leader.fold(self.records, through)
        fair = leader.fair
        for _, batch_id in fair.withdrawn():
            for key in [key for key in self.queue if key[0] == batch_id]:
                self._forget(key)
        for one in fair.partings(self.now_ms):
            if not self.append(e.FilesParted(), (one.batch_id, one.group), one.seq):
                assert fair.position < len(self.records), "a group that cannot be parted"
        for lane in self.lanes:
            most = fair.allowed(lane)
            room = (WINDOW if most is None else most) - fair.in_flight(lane)
            items = fair.release(self.now_ms, room, lane)
            released = bundles(items)
            assert not items or len(items) - len(released[-1]) < room, "more than there is room for"
            if items and (limit := fair.limits.tenants.get(TENANT)):
                assert fair.in_flight_of(tenant=TENANT) <= limit, "released beyond the tenant's limit"
            if items and lane == LANE_OUTSIDE:
                assert leader.braked <= rfc3339(self.now_ms), "released under a brake"
            for bundle in released:
                leader.may_run(bundle, self.now_ms, self.start_ms)
            if pick & 24:
                self._put(released)
        for due in fair.due(self.now_ms):
            self._do(due, leader)

    def _do(self, due: Due, leader: Leader) -> None:
        assert due.file_id is not None and due.state is not None
        command: c.Command = c.RequeueFile()
        if due.kind == "cancel":
            command = c.CancelFile()
        elif due.kind == "deadline":
            command = REJECTED_EARLY
        (event,) = of_file.decide(due.state, command)
        if not self.append(event, (due.batch_id, due.file_id), due.seq):
            assert leader.fair.position < len(self.records), "a conflict that reading on would not settle"

    def sweep(self, _pick: int) -> None:
        self._put(bundles(self.leaders[0].fair.outstanding(self.now_ms, 5_000)))

    def _put(self, released: list[list[WorkItem]]) -> None:
        for bundle in released:
            self.queue.setdefault((bundle[0].batch_id, work_token(bundle[0])), bundle)

    def _forget(self, key: Key) -> None:
        self.queue.pop(key, None)
        self.delivered.discard(key)

    def second(self, pick: int) -> None:
        """Another worker leads as well: the first one does not know yet that its lease is gone."""
        del self.leaders[1:]
        follower = self._restored()
        follower.fold(self.records, len(self.records))
        follower.fair.adopt([(TENANT, key[0], str(key[1])) for key in self.queue], self.now_ms)
        self.leaders.append(follower)
        if pick & 1:
            self.leaders.reverse()

    def dump(self, _pick: int) -> None:
        self.snapshot = self.leaders[0].fair.dump()

    def die(self, _pick: int) -> None:
        """The leader dies; the next one begins from the snapshot."""
        self.leaders = [self._restored()]

    def _restored(self) -> Leader:
        new = new_scheduler(self.snapshot)
        assert not self.snapshot or new.dump() == self.snapshot, "a snapshot that changes on its way"
        leader = Leader(new)
        for record in self.records[: new.position]:
            leader.note(record)
        return leader

    # -- runners

    def take(self, pick: int) -> None:
        """A delivery, perhaps of what another runner holds."""
        if self.queue and len(self.runs) < 3:
            keys = list(self.queue)
            self._take(keys[pick % len(keys)])

    def _take(self, key: Key) -> Run:
        run = Run(key, self.queue[key], key not in self.delivered)
        self.delivered.add(key)
        self.runs.append(run)
        return run

    def work(self, pick: int) -> None:
        if self.runs:
            run = self.runs[pick % len(self.runs)]
            if run.state is None:
                self._begin(run)
            else:
                self._finish(run, pick >> 4)

    def _begin(self, run: Run) -> None:
        if run.item.group:
            run.state, run.seq = QUEUED, run.item.seq
            if not run.is_first:
                self.append(e.FilesParted(), run.key, run.seq)
                self._end(run)
            return
        run.state, run.seq = self.files[run.key], self.last.get(run.key, 0)
        if run.state.status not in ("queued", "processing") or run.state.attempt != run.item.attempt:
            self._end(run)
        elif run.state.deliveries >= DELIVERIES_MAX:
            self._write(run, REJECTED_EARLY)
            self._end(run)
        elif not self._write(run, START):
            self.runs.remove(run)

    def _finish(self, run: Run, pick: int) -> None:
        how = pick & 7
        if run.item.group:
            self._finish_group(run, completes=how > 2)
            self._end(run, ack_lost=how == 3)
            return
        command: c.Command = COMPLETE
        if how == 0:
            command = REJECTED_EARLY
        elif how in (1, 4):
            command = c.AwaitFile(token_sha256="", deadline=rfc3339(self.now_ms + 20_000))
        elif how in (2, 5):
            assert run.state is not None
            later = rfc3339(self.now_ms + 5_000) if run.state.attempt < ATTEMPTS_MAX else None
            braked = rfc3339(self.now_ms + 7_000) if pick & 8 else None
            command = c.FailFile(error=BUSY, retry_at=later, provider=PROVIDER, braked_until=braked)
        self._write(run, command)
        self._end(run, ack_lost=how == 3)

    def _finish_group(self, run: Run, *, completes: bool) -> None:
        """On top of what was released; another event that came first stands."""
        event: e.Event = e.FilesParted()
        if completes:
            event = e.FilesCompleted(files=[(item.file_id, AT_ONCE) for item in run.items])
        self.append(event, run.key, run.seq)

    def _write(self, run: Run, command: c.Command) -> bool:
        assert run.state is not None
        (event,) = of_file.decide(run.state, command)
        if not self.append(event, run.key, run.seq):
            return False
        run.state, run.seq = self.files[run.key], len(self.records)
        return True

    def _end(self, run: Run, *, ack_lost: bool = False) -> None:
        self.runs.remove(run)
        if not ack_lost:
            self._forget(run.key)

    def runner_dies(self, pick: int) -> None:
        if self.runs:
            del self.runs[pick % len(self.runs)]

    def queue_forgets(self, _pick: int) -> None:
        self.queue.clear()
        self.delivered.clear()

    # -- storage and projector

    def settle_storage(self, pick: int) -> None:
        """Storage completes what is due, then archives; now and then it has not read to the end."""
        settling = self.settling
        if self.stored == len(self.records):
            return
        self.stored = len(self.records) - (pick & 3 == 3)
        for record in self.records[settling.seq : self.stored]:
            if record.batch_id == "b":
                settling.apply(record)
        if settling.complete_due:
            counts: dict[e.FileStatus, int] = {}
            for file in settling.files.values():
                counts[file.status] = counts.get(file.status, 0) + 1
            command = c.CompleteBatch(through_seq=settling.through_seq, results=RESULTS, counts=counts)
            if settling.subject_seq == self.last["b", None]:
                self._ask(command)
            return
        for sources in list(settling.archivable().values()):
            moved = {file_id: archived_ref(source) for file_id, source in sources.items()}
            self.append(e.SourcesArchived(sources=moved), ("b", None), settling.subject_seq)
            break

    def project(self, pick: int) -> None:
        """The projector reads a chunk from somewhere before its checkpoint, and may die before its commit."""
        first = max(self.checkpoint.seq - (pick & 1), 0)
        chunk = self.records[first : first + 1 + (pick >> 1) % 12]
        fresh = unseen(chunk, self.checkpoint) if chunk else []
        if not fresh or pick & 14 == 14:
            return
        for record in singly(fresh):
            status = STATUS_AFTER.get(type(record.event))
            if status is not None:
                previous: e.FileStatus | None = getattr(record.event, "previous", None)
                if previous is not None:
                    self.shown[previous] -= 1
                self.shown[status] = self.shown.get(status, 0) + 1
                self.rows[record.batch_id, record.file_id] = status
        self.checkpoint = Checkpoint(seq=fresh[-1].seq, event_id=fresh[-1].id, version="1")

    def wait(self, pick: int) -> None:
        self.now_ms += (100, 1_000, 6_000, 30_000)[pick & 3]

    # -- the end

    def _settle(self) -> None:
        """Faults stop, a pause ends, the upload is sealed: then everything is settled in bounded time."""
        del self.leaders[1:]
        self.runs.clear()
        self._ask(c.ResumeBatch())
        self.seal(0)
        fair = self.leaders[0].fair
        for _ in range(SETTLE_ROUNDS_MAX):
            self.schedule(8)
            self.sweep(0)
            while self.queue:
                run = self._take(next(iter(self.queue)))
                self._begin(run)
                if run in self.runs:
                    self._finish(run, DONE)
            self.settle_storage(0)
            self.settle_storage(0)
            self.settle_storage(0)
            if self._is_settled():
                break
            next_ms = fair.next_ms()
            self.now_ms = max(self.now_ms + 6_000, next_ms or 0)
        self._must_be_settled()

    def _is_settled(self) -> bool:
        settling = self.settling
        if settling.seq < self.last["b", None] or self.now_ms < self.start_ms:
            return False
        return settling.is_done or (settling.is_settled and not settling.unarchived)

    def _must_be_settled(self) -> None:
        assert all(one.status in FINAL_STATUSES for one in self.files.values()), "a file without an end"
        # Cancelled before it was whole it has no results, and the scheduler goes on remembering it.
        never_whole = self.batch.phase == "cancelled" and not self.batch.sealed
        assert self.batch.settled or never_whole, "a batch without an end"
        self.leaders[0].fold(self.records, len(self.records))
        fair = self.leaders[0].fair
        remembered = (fair.unfinished(), fair.in_flight(), fair.unreleased())
        assert remembered == (int(never_whole), 0, 0), f"the scheduler remembers {remembered}"
        while self.checkpoint.seq < len(self.records):
            self.project(22)
        assert self.rows == {key: one.status for key, one in self.files.items()}, "the view differs"
        counts = Counter(self.rows.values())
        assert {status: count for status, count in self.shown.items() if count} == counts, "the counts differ"


Act = Callable[[Schedule, int], None]

#: What happens, and how often of 128.
WEIGHTS: list[tuple[Act, int]] = [
    (Schedule.schedule, 24), (Schedule.take, 24), (Schedule.work, 32), (Schedule.project, 6),
    (Schedule.settle_storage, 6), (Schedule.wait, 7), (Schedule.sweep, 4), (Schedule.seal, 3),
    (Schedule.pause, 3), (Schedule.resume, 4), (Schedule.cancel, 2), (Schedule.retry, 4),
    (Schedule.runner_dies, 2), (Schedule.queue_forgets, 1), (Schedule.dump, 2), (Schedule.die, 1),
    (Schedule.second, 2), (Schedule.limit, 1),
]  # fmt: skip
ACTS: list[Act] = [act for act, weight in WEIGHTS for _ in range(weight)]
assert len(ACTS) == 128


def tell(seed: int, steps: int = STEPS) -> Schedule:
    """One schedule, the same for the same seed."""
    return Schedule(seed).run(steps)
