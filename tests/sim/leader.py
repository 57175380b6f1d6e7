"""Those who act on the log in a schedule: a scheduler that leads, and runners."""

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded, singly
from tanda.contracts.events import FINAL_STATUSES, GROUP_EVENTS, STATUS_AFTER
from tanda.contracts.work import LANE_QUICK, WorkItem
from tanda.domain import batch as of_batch
from tanda.domain import file as of_file
from tanda.domain.scheduling.fair import FairScheduler

#: Batch and file or group; None for the batch itself.
Key = tuple[str, str | None]


class Leader:
    """A scheduler, what its part of the log says, and what it may therefore release."""

    __slots__ = ("asked_at", "braked", "doomed", "fair", "phases", "statuses", "whole")

    def __init__(self, fair: FairScheduler) -> None:
        self.fair = fair
        self.phases: dict[str, of_batch.BatchState] = {}
        self.statuses: dict[Key, e.FileStatus] = {}
        self.doomed: set[Key] = set()
        #: The files of the batch's group as long as it is whole.
        self.whole: list[str] = []
        #: Until when the provider wants to be left alone; times of fixed width compare as text.
        self.braked = ""
        #: The log's end and the time at its last round: until one of them moves there is nothing new to ask.
        self.asked_at: tuple[int, int] = (-1, 0)

    def fold(self, records: list[Recorded], through: int) -> None:
        if through <= self.fair.position:
            return
        # The ones before are told again: a reader that reopens may get events twice.
        for record in records[max(self.fair.position - 2, 0) : through]:
            if record.seq > self.fair.position:
                self.note(record)
            self.fair.apply(record)

    def note(self, record: Recorded) -> None:
        if type(record.event) in GROUP_EVENTS:
            self.whole = [file_id for file_id, _ in getattr(record.event, "files", ())]
            if type(record.event) is not e.FilesQueued:
                self.whole = []
        for one in singly((record,)):
            self._note((one.batch_id, one.file_id), one.event)

    def _note(self, key: Key, event: e.Event) -> None:
        status = STATUS_AFTER.get(type(event))
        if status is not None:
            self.statuses[key] = status
            self.braked = max(self.braked, getattr(event, "braked_until", None) or "")
            if status == "queued" and self.phases[key[0]].phase != "cancelled":
                self.doomed.discard(key)
            return
        state = self.phases.get(key[0]) or of_batch.initial()
        self.phases[key[0]] = of_batch.evolve(state, event)
        if type(event) is e.BatchCancelled:
            self.doomed |= {one for one, status in self.statuses.items() if status not in FINAL_STATUSES}

    def may_run(self, items: list[WorkItem], now_ms: int, start_ms: int) -> None:
        """What must hold of a file or a group that it releases."""
        state, group = self.phases[items[0].batch_id], items[0].group
        assert state.phase == "sealed", f"released in phase {state.phase}"
        assert now_ms >= start_ms, "released before its start"
        if group:
            assert [item.file_id for item in items] == self.whole, "released as a group that is none"
            assert all(item.lane == LANE_QUICK for item in items), "released slow work as a group"
            assert not self.fair.limits.tenants, "released a group under a limit"
        for item in items:
            key = (item.batch_id, item.file_id)
            assert group or item.file_id not in self.whole, "released out of a whole group"
            assert self.statuses[key] == "queued", f"released: {self.statuses[key]}"
            assert key not in self.doomed, "released after a cancel"


class Run:
    """A runner with a file or a group in its hands, and what it knows of it from its one read."""

    __slots__ = ("is_first", "item", "items", "key", "seq", "state")

    def __init__(self, key: Key, items: list[WorkItem], is_first: bool) -> None:
        self.items = items
        self.item = items[0]
        self.key = key
        self.is_first = is_first
        self.state: of_file.FileState | None = None
        self.seq = 0
