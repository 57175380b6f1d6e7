"""What storage knows of unfinished batches, as a fold of the log: which are settled, what to archive.

A batch's results are due when it is sealed, every file of it is in a final status and no retry is
under way that has not queued its files yet. A source is due for the archive when its result is in
the log; the object that it is (or shares) is due for deletion when every file in it is archived.

A batch that is completed and archived is forgotten; of its objects that are still to be deleted the keys
are kept, so that a fold of a long log takes no more memory than what is unfinished. An event of a batch
that is not known makes it ``unknown``: its events are to be read and handed to ``adopt``. No clock, no I/O.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER, FileStatus
from tanda.contracts.results import BlobRef
from tanda.domain import batch as batches
from tanda.domain.batch import BatchState
from tanda.domain.pace import Pace

#: The events that change what a result document says: the last of them is its ``through_seq``, so
#: that two writers of one version write the same bytes, whatever else they have seen.
TELLING: frozenset[type[e.Event]] = frozenset(
    {e.BatchCreated, e.BatchSealed, e.FilesRetried, e.FilesQueued, e.FilesCompleted, *STATUS_AFTER}
)
#: Events that a forgotten batch may still get from another storage process.
_AFTERWARDS: frozenset[type[e.Event]] = frozenset({e.BatchCompleted, e.SourcesArchived, *e.LIMIT_EVENTS})
_SOURCE_PART = "/src/"
_ARCHIVE_PART = "/archive/"


def archive_key(source_key: str) -> str | None:
    """Where an object of sources is archived; None for one that is no such object (any more)."""
    head, found, digest = source_key.rpartition(_SOURCE_PART)
    return f"{head}{_ARCHIVE_PART}{digest}" if found else None


def archived_ref(source: BlobRef) -> BlobRef:
    """The same bytes in the archive: a packed object is archived whole, so the range stays."""
    key = archive_key(source.key)
    return source if key is None else moved_ref(source, key)


def moved_ref(source: BlobRef, key: str) -> BlobRef:
    """The same bytes of the same object under another key."""
    return BlobRef(key=key, offset=source.offset, bytes=source.bytes, sha256=source.sha256)


class SettlingFile(msgspec.Struct, array_like=True):
    """What is known of a file; without a source where it was rejected."""

    status: FileStatus
    source: BlobRef | None
    #: The key under which its source is archived.
    archived: str | None = None


class SettlingBatch(msgspec.Struct, kw_only=True):
    """One batch until it is completed and archived."""

    tenant: str
    batch_id: str
    state: BatchState = BatchState()
    #: The last event of the batch, its files' included.
    seq: int = 0
    #: The last event on the batch's own subject: what its next event expects.
    subject_seq: int = 0
    #: The last event that its results tell of.
    through_seq: int = 0
    files: dict[str, SettlingFile] = {}
    #: Files in a final status.
    final: int = 0
    #: Completed files whose source is not archived.
    unarchived: int = 0
    #: Files that someone asked for again and that are not queued yet.
    awaited: set[str] = set()
    #: Sources were archived since the last look at what may be deleted.
    deletable_news: bool = False
    #: Objects whose deletion is done.
    deleted: set[str] = set()
    pace: Pace = Pace()

    # -- questions

    @property
    def complete_due(self) -> bool:
        """The next version of the results can be written."""
        return self.state.sealed and not self.state.settled and self._all_final

    @property
    def is_settled(self) -> bool:
        return self.state.sealed and self.state.settled and self._all_final

    @property
    def is_over(self) -> bool:
        """Nothing is left to do for it but to delete what is archived."""
        if self.state.phase == "cancelled" and not self.state.sealed:
            return self._all_final  # never whole, so without results
        return self.is_settled and not self.unarchived

    @property
    def is_done(self) -> bool:
        """Nothing is left to do for it: it may be forgotten."""
        return self.is_over and not (self.deletable_news and self.state.sealed)

    def archivable(self) -> dict[str, dict[str, BlobRef]]:
        """Sources to archive, by object; while the batch runs, only objects that go as a whole."""
        if not self.state.sealed or not self.unarchived:
            return {}
        objects: dict[str, dict[str, BlobRef]] = {}
        held: set[str] = set()
        for file_id, file in self.files.items():
            source = file.source
            if source is None:
                continue
            if file.status != "completed" or file_id in self.awaited:
                held.add(source.key)
            elif file.archived is None:
                if source.key not in objects:
                    objects[source.key] = {}
                objects[source.key][file_id] = source
        if self.is_settled:
            held.clear()
        return {key: files for key, files in objects.items() if _SOURCE_PART in key and key not in held}

    def deletable(self) -> dict[str, str]:
        """Objects that no file needs any more, each with the key of its archived copy."""
        if not self.state.sealed:
            return {}
        copies: dict[str, str] = {}
        held: set[str] = set(self.deleted)
        for file_id, file in self.files.items():
            if file.source is None:
                continue
            key = file.source.key
            at_rest = file.status in FINAL_STATUSES and file_id not in self.awaited
            if file.archived in (None, key) or not at_rest:
                held.add(key)
            else:
                copies[key] = str(file.archived)
        return {key: copy for key, copy in copies.items() if key not in held}

    @property
    def _all_final(self) -> bool:
        return self.final == len(self.files) and not self.awaited

    # -- the fold

    def apply(self, record: Recorded) -> None:
        """Folds one event of the batch in; one that is already in is passed over."""
        if record.seq <= self.seq:
            return
        self.seq = record.seq
        if type(record.event) in TELLING:
            self.through_seq = record.seq
        self.pace = self.pace.after(record, len(self.files), self.final)
        event = record.event
        if isinstance(event, e.FilesQueued):
            self._files_queued(event)
        elif isinstance(event, e.FilesCompleted):
            self._files_completed(event)
        elif record.file_id is None:
            self.subject_seq = record.seq
            self.state = batches.evolve(self.state, event)
            self._batch_event(event)
        else:
            self._file_event(record.file_id, event)

    def _batch_event(self, event: e.Event) -> None:
        match event:
            case e.FilesRetried():
                self.awaited.update(one for one in event.file_ids if self._can_be_retried(one))
            case e.BatchCancelled():
                self.deletable_news |= bool(self.awaited)
                self.awaited.clear()
            case e.SourcesArchived():
                for file_id, source in event.sources.items():
                    self._archived(file_id, source)
            case e.SourceForceArchived():
                self._archived(event.file_id, event.source)
            case _:
                pass

    def _can_be_retried(self, file_id: str) -> bool:
        """Not one that was queued again in the same breath, before the batch's own event."""
        file = self.files.get(file_id)
        return file is not None and file.status in FINAL_STATUSES and file.status != "rejected"

    def _archived(self, file_id: str, source: BlobRef) -> None:
        file = self.files.get(file_id)
        if file is None:
            return
        if _wants_archive(file):
            self.unarchived -= 1
        file.archived = source.key
        self.deletable_news = True

    def _files_queued(self, group: e.FilesQueued) -> None:
        for file_id, event in group.files:
            if file_id in self.files:
                self._file_event(file_id, event)
            else:
                self.files[file_id] = SettlingFile("queued", event.source)

    def _files_completed(self, group: e.FilesCompleted) -> None:
        """What ``_file_event`` makes of each, where all is as it nearly always is."""
        final = unarchived = 0
        for file_id, event in group.files:
            file = self.files.get(file_id)
            if file is None or file.status != "queued" or file.archived is not None:
                self._file_event(file_id, event)
            else:
                file.status = "completed"
                final += 1
                unarchived += file.source is not None and _SOURCE_PART in file.source.key
        self.final += final
        self.unarchived += unarchived

    def _file_event(self, file_id: str, event: e.Event) -> None:
        status = STATUS_AFTER.get(type(event))
        if status is None:
            return
        file = self.files.get(file_id)
        if file is None:
            file = self.files[file_id] = SettlingFile(status, None)
        else:
            self._count(file, -1)
        file.status = status
        self._count(file, +1)
        if isinstance(event, e.FileQueued):
            self.awaited.discard(file_id)
            if file.source is None:
                file.source = event.source
        if file.archived is not None:
            self.deletable_news = True  # an object may have been kept for this file's sake

    def _count(self, file: SettlingFile, by: int) -> None:
        if file.status in FINAL_STATUSES:
            self.final += by
        if _wants_archive(file):
            self.unarchived += by


def _wants_archive(file: SettlingFile) -> bool:
    if file.status != "completed" or file.archived is not None or file.source is None:
        return False
    return _SOURCE_PART in file.source.key


class _Snapshot(msgspec.Struct):
    #: Another number is another shape: what reads like this one and means something else is refused.
    shape: Literal[2]
    position: int
    batches: list[SettlingBatch]
    unknown: list[tuple[str, str]]
    leavings: list[tuple[tuple[str, str], dict[str, str]]]


class Settling:
    """Every batch that storage has something to do for, or will have."""

    def __init__(self) -> None:
        self.position = 0
        self.batches: dict[tuple[str, str], SettlingBatch] = {}
        #: Batches to be read from the log and adopted, each with its events since that was seen.
        self.unknown: dict[tuple[str, str], list[Recorded]] = {}
        #: Of batches that are over, objects to delete, each with the key of its archived copy.
        self.leavings: dict[tuple[str, str], dict[str, str]] = {}

    def apply(self, records: Iterable[Recorded]) -> set[tuple[str, str]]:
        """Folds events in and returns the batches that they were of."""
        touched: set[tuple[str, str]] = set()
        for record in records:
            self.position = record.seq
            key = (record.tenant, record.batch_id)
            if self._apply_to(key, record):
                touched.add(key)
        return touched

    def adopt(self, tenant: str, batch_id: str, records: Sequence[Recorded]) -> None:
        """Takes a batch from all of its events, read after it had become unknown."""
        batch = SettlingBatch(tenant=tenant, batch_id=batch_id)
        for record in (*records, *self.unknown.pop((tenant, batch_id), ())):
            batch.apply(record)
        # What was archived before was deleted then or is deleted again: deleting twice is harmless.
        batch.deletable_news = any(file.archived for file in batch.files.values())
        self.batches[(tenant, batch_id)] = batch

    def forget(self, key: tuple[str, str]) -> None:
        """Drops a batch that is done."""
        self.batches.pop(key, None)

    def dump(self) -> bytes:
        batches, leavings = list(self.batches.values()), list(self.leavings.items())
        return msgspec.msgpack.encode(_Snapshot(2, self.position, batches, sorted(self.unknown), leavings))

    @staticmethod
    def restore(data: bytes) -> "Settling":
        """The dumped state; ValueError (msgspec's kin) where it is of another shape."""
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
        settling = Settling()
        settling.position = snapshot.position
        settling.batches = {(batch.tenant, batch.batch_id): batch for batch in snapshot.batches}
        settling.unknown = {key: [] for key in snapshot.unknown}
        settling.leavings = dict(snapshot.leavings)
        return settling

    def _apply_to(self, key: tuple[str, str], record: Recorded) -> bool:
        if key in self.unknown:
            self.unknown[key].append(record)
            return True
        batch = self.batches.get(key)
        if batch is None and isinstance(record.event, e.BatchCreated):
            batch = self.batches[key] = SettlingBatch(tenant=record.tenant, batch_id=record.batch_id)
        if batch is not None:
            batch.apply(record)
            if batch.is_over:
                self._leave(key, batch)
        elif type(record.event) not in _AFTERWARDS:
            self.unknown[key] = [record]
            self.leavings.pop(key, None)  # whoever adopts it sees what may be deleted
        return batch is not None or key in self.unknown

    def _leave(self, key: tuple[str, str], batch: SettlingBatch) -> None:
        del self.batches[key]
        if copies := batch.deletable():
            self.leavings[key] = copies
