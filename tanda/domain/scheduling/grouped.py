"""Groups of files in the backlog: released as one, or parted first (``tanda.domain.groups``).

A group is released whole where its work is quick and nothing limits how many of its files may run at once.
Any other is to be parted: its files are nowhere until the log tells that they are, and go on one by one.
"""

from collections.abc import Iterable

import msgspec

from tanda.contracts import events as e
from tanda.contracts.work import LANE_QUICK, LANE_SMALL, WorkItem, lane_provider
from tanda.domain.scheduling.backlog import (
    Backlog,
    BatchEntry,
    BatchKey,
    FileEntry,
    GroupEntry,
)
from tanda.domain.scheduling.items import work_item

#: What was asked for and nobody did is asked for again after this time, as an alarm is.
PART_AGAIN_MS = 10_000


class Parting(msgspec.Struct, frozen=True):
    """A group that is to be parted, and the position that its next event expects."""

    tenant: str
    batch_id: str
    group: str
    seq: int


class Grouped:
    """The steps of groups; the steps of files are the backlog's."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog

    def queue(
        self, batch: BatchEntry, group: str, seq: int, files: Iterable[tuple[e.FileQueued, str, str]]
    ) -> None:
        """A new group, by each file's ``FileQueued``, id and lane."""
        entry = batch.groups[group] = GroupEntry(seq, [])
        for queued, file_id, lane in files:
            entry.files.append(file_id)
            batch.files[file_id] = FileEntry(queued, seq, 0, lane, group=group)
        if batch.cancelled:
            self.doom(batch, group)
        elif any(batch.files[one].lane != LANE_QUICK for one in entry.files):
            self.part(batch, group)
        else:
            for file_id in entry.files:
                self._backlog.line_up(batch, file_id)

    def part(self, batch: BatchEntry, group: str) -> None:
        """It is to be parted; until then its files are nowhere."""
        entry = batch.groups[group]
        if not entry.parting:
            entry.parting = True
            self._backlog.parting[batch.key, group] = 0
        for file_id in entry.files:
            self._backlog.take_out(batch, file_id)

    def doom(self, batch: BatchEntry, group: str) -> None:
        """Its batch is cancelled: each of its files is to be as well once it is by itself, also if something
        else of the batch is retried before that.
        """
        self.part(batch, group)
        for file_id in batch.groups[group].files:
            batch.files[file_id].doomed = True

    def partings(self, now_ms: int) -> list[Parting]:
        """The groups that are to be parted now."""
        found: list[Parting] = []
        for (key, group), asked_ms in self._backlog.parting.items():
            if now_ms - asked_ms >= PART_AGAIN_MS:
                self._backlog.parting[key, group] = now_ms
                found.append(Parting(*key, group, self._backlog.batches[key].groups[group].seq))
        return found

    def parted(self, batch: BatchEntry, group: str) -> list[str]:
        """The files of what is no group any more: each is nowhere, and its own subject is empty."""
        files = self._forget(batch, group)
        for file_id in files:
            self._backlog.take_out(batch, file_id)
            file = batch.files[file_id]
            file.group, file.seq = "", 0
        return files

    def completed(self, batch: BatchEntry, group: str) -> None:
        """All of its files are settled."""
        if files := self._forget(batch, group):
            self._backlog.settle_together(batch, files)

    def release(self, batch: BatchEntry, group: str, since: str) -> list[WorkItem]:
        """A group whose turn it is, as one; none where it is to be parted first."""
        files = batch.groups[group].files
        if self._is_limited(batch, files):
            self.part(batch, group)
            return []
        self._backlog.take_off_together(batch, files, since)
        return self.items(batch, group)

    def hurry(self, batch: BatchEntry) -> None:
        """A small batch does not wait for what was released of large ones. A provider's lane stays, and
        so does a group that goes as one.
        """
        for file_id, file in batch.files.items():
            if file.status != "queued" or file.doomed or lane_provider(file.lane) is not None:
                continue
            if not file.group:
                self._backlog.take_out(batch, file_id)
                file.lane = LANE_SMALL
                self._backlog.line_up(batch, file_id)
            elif batch.groups[file.group].parting:
                file.lane = LANE_SMALL

    def adopt(self, batch: BatchEntry, token: str, since: str) -> None:
        """Counts a file, or a group that may be worked on as one, as in flight."""
        group = batch.groups.get(token)
        for file_id in group.files if group and not group.parting else [token]:
            file = batch.files.get(file_id)
            if file is None or file.group not in ("", token):
                continue
            if file.status == "queued" and not file.flying and not file.doomed:
                self._backlog.take_out(batch, file_id)
                self._backlog.take_off(batch, file_id, since)

    def items(self, batch: BatchEntry, group: str) -> list[WorkItem]:
        """All of a group's files, as the work queue takes them."""
        return [work_item(batch, file_id) for file_id in batch.groups[group].files]

    def silent(self, now: str, released_before: str, started_before: str) -> list[WorkItem]:
        """What has been in flight since then, groups as a whole; it is looked at again from now on."""
        items: list[WorkItem] = []
        groups: dict[tuple[BatchKey, str], None] = {}
        for (tenant, batch_id, file_id), file in self._backlog.flying.items():
            before = started_before if file.status == "processing" else released_before
            if file.since > before:
                continue
            file.since = now
            if file.group:
                groups[(tenant, batch_id), file.group] = None
            else:
                items.append(work_item(self._backlog.batches[tenant, batch_id], file_id))
        for key, group in groups:
            items += self.items(self._backlog.batches[key], group)
        return items

    def _is_limited(self, batch: BatchEntry, files: Iterable[str]) -> bool:
        limits = self._backlog.limits
        if batch.limit is not None or batch.tenant in limits.tenants:
            return True
        return any(batch.files[one].queued.processor in limits.processors for one in files)

    def _forget(self, batch: BatchEntry, group: str) -> list[str]:
        """The files that it had."""
        self._backlog.parting.pop((batch.key, group), None)
        entry = batch.groups.pop(group, None)
        return [one for one in entry.files if one in batch.files] if entry else []
