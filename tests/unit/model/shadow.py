"""What the log up to a position says, folded by the aggregates: the truth to compare the scheduler with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded, singly
from tanda.contracts.events import FINAL_STATUSES
from tanda.contracts.times import epoch_ms
from tanda.contracts.work import LANE_QUICK, WorkItem
from tanda.domain import batch as of_batch
from tanda.domain import file as of_file
from tanda.domain.scheduling.limits import Limits

#: Batch and file, or batch and group.
FileKey = tuple[str, str]


@dataclass
class Shadow:
    """See the module's docstring."""

    tenant: str
    position: int = 0
    batches: dict[str, of_batch.BatchState] = field(default_factory=dict)
    files: dict[FileKey, of_file.FileState] = field(default_factory=dict)
    #: Files that were under way when their batch was cancelled, until they are queued anew.
    doomed: set[FileKey] = field(default_factory=set)
    start_ms: dict[str, int] = field(default_factory=dict)
    #: Groups that are whole: the position and the files of each ``FilesQueued``.
    groups: dict[FileKey, tuple[int, list[str]]] = field(default_factory=dict)
    #: The group of each file whose group is whole.
    group_of: dict[FileKey, str] = field(default_factory=dict)
    #: What an item of a file has to name: the position of its ``FileQueued`` on the subject it is on.
    asked: dict[FileKey, int] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    #: By batch.
    own_limits: dict[str, int | None] = field(default_factory=dict)

    def apply(self, record: Recorded) -> None:
        self.position = record.seq
        key = (record.batch_id, str(record.file_id))
        match record.event:
            case e.LimitsChanged() as event:
                self.limits = self.limits.after(event)
                return
            case e.FilesQueued() as event:
                members = [file_id for file_id, _ in event.files]
                self.groups[key] = record.seq, members
                self.group_of |= {(key[0], one): key[1] for one in members}
                self.asked |= {(key[0], one): record.seq for one in members}
            case e.FilesCompleted() | e.FilesParted():
                for one in self.groups.pop(key)[1]:
                    del self.group_of[key[0], one]
                    self.asked[key[0], one] = 0
            case _:
                pass
        for one in singly([record]):
            if one.file_id is None:
                self._apply_to_batch(one)
            else:
                self._apply_to_file((one.batch_id, one.file_id), one)

    def _apply_to_batch(self, record: Recorded) -> None:
        state = self.batches.get(record.batch_id, of_batch.initial())
        self.batches[record.batch_id] = of_batch.evolve(state, record.event)
        match record.event:
            case e.BatchCreated(start_at=start_at):
                self.start_ms[record.batch_id] = epoch_ms(start_at) if start_at else 0
            case e.BatchChanged() as event:
                self.own_limits[record.batch_id] = event.limit
            case e.BatchCompleted():
                self.own_limits.pop(record.batch_id, None)  # it is forgotten with the batch
            case e.BatchCancelled():
                self.doomed |= {key for key in self.live() if key[0] == record.batch_id}
            case _:
                pass

    def _apply_to_file(self, key: FileKey, record: Recorded) -> None:
        self.files[key] = of_file.evolve(self.files.get(key, of_file.initial()), record.event)
        if not isinstance(record.event, e.FileQueued):
            return
        if record.part is None:
            self.asked[key] = record.seq
        if self.batches[key[0]].phase != "cancelled":
            self.doomed.discard(key)

    def live(self) -> list[FileKey]:
        return [key for key, state in self.files.items() if state.status not in FINAL_STATUSES]

    def may_run(self, items: Sequence[WorkItem], now_ms: int) -> bool:
        """Whether the rules let these files be released together: one, or a group."""
        first = items[0]
        if first.group:
            known = self.groups.get((first.batch_id, first.group), (0, []))
            if [item.file_id for item in items] != known[1] or self.is_limited(first):
                return False
            if any(item.lane != LANE_QUICK for item in items):
                return False
        return all(self._may_run(item, now_ms) for item in items)

    def _may_run(self, item: WorkItem, now_ms: int) -> bool:
        key = (item.batch_id, item.file_id)
        return (
            self.batches[item.batch_id].phase == "sealed"
            and self.files[key].status == "queued"
            and key not in self.doomed
            and self.start_ms.get(item.batch_id, 0) <= now_ms
            and self.group_of.get(key, "") == item.group
            and self.asked[key] == item.seq
        )

    def is_limited(self, item: WorkItem) -> bool:
        """Whether any limit counts a file's neighbours."""
        return (
            self.own_limits.get(item.batch_id) is not None
            or self.tenant in self.limits.tenants
            or item.processor in self.limits.processors
        )
