"""What a result document says of each file: the fold of a batch's events, its results in a spool."""

from collections.abc import Sequence
from typing import IO

import msgspec

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import STATUS_AFTER, FileStatus
from tanda.contracts.results import BlobRef, FileError
from tanda.domain.errors import LogDamaged


class Spooled(msgspec.Struct, frozen=True):
    """A range of the spool."""

    offset: int
    bytes: int


class DocumentFile(msgspec.Struct, kw_only=True):
    """What the document says of a file, as of the last event that was folded."""

    file_id: str
    name: str
    index: int
    #: Its place among the batch's files as the log has them: decides between equal indices.
    order: int
    sha256: str | None
    status: FileStatus
    attempt: int
    error: FileError | None = None
    result: Spooled | BlobRef | None = None
    processor: tuple[str, str] | None = None


class DocumentFold:
    """A batch's files as they are after the events so far, with their inline results in a spool."""

    def __init__(self, batch_id: str, spool: IO[bytes]) -> None:
        self.batch_id = batch_id
        self.name: str | None = None
        self.seq = 0
        self.time = ""
        self._files: dict[str, DocumentFile] = {}
        self._spool = spool
        self._spooled = 0

    @property
    def files_known(self) -> int:
        return len(self._files)

    @property
    def bytes_spooled(self) -> int:
        return self._spooled

    def apply(self, records: Sequence[Recorded]) -> None:
        for record in records:
            event = record.event
            self.seq, self.time = record.seq, record.time
            if isinstance(event, e.FilesQueued | e.FilesCompleted):
                for file_id, one in event.files:
                    self._file_event(file_id, one, record)
            elif type(event) in STATUS_AFTER:
                self._file_event(str(record.file_id), event, record)
            elif isinstance(event, e.BatchCreated):
                self.name = event.name

    def files(self) -> list[DocumentFile]:
        """Every file, in upload order."""
        return sorted(self._files.values(), key=lambda file: (file.index, file.order))

    def spooled(self, place: Spooled) -> bytes:
        self._spool.seek(place.offset)
        return self._spool.read(place.bytes)

    def counts(self) -> dict[FileStatus, int]:
        """Files by status, without the statuses that nothing is in."""
        counts: dict[FileStatus, int] = {}
        for file in self._files.values():
            counts[file.status] = counts.get(file.status, 0) + 1
        return counts

    def processor_versions(self) -> dict[str, str]:
        """By name; where files of one batch were made by several versions, all of them: ``1,2``."""
        found: dict[str, set[str]] = {}
        for file in self._files.values():
            if file.processor is not None and file.status in ("completed", "failed"):
                found.setdefault(file.processor[0], set()).add(file.processor[1])
        return {name: ",".join(sorted(versions)) for name, versions in sorted(found.items())}

    def _file_event(self, file_id: str, event: e.Event, record: Recorded) -> None:
        match event:
            case e.FileQueued():
                self._begin(file_id, event, event.attempt)
                return
            case e.FileRejected():
                self._begin(file_id, event, attempt=0).error = event.error
                return
            case _:
                file = self._known(file_id, record)
        file.status = STATUS_AFTER.get(type(event), file.status)
        match event:
            case e.FileStarted():
                file.attempt = event.attempt
                file.processor = (event.processor, event.processor_version)
            case e.FileCompleted():
                file.attempt, file.error = event.attempt, None
                file.processor = (event.processor, event.processor_version)
                file.result = event.result_ref or self._store(bytes(event.result))
            case e.FileFailed() | e.FileAttemptFailed():
                file.attempt, file.error = event.attempt, event.error
            case e.FileCancelled():
                file.error = None
            case _:
                pass

    def _begin(self, file_id: str, event: e.FileQueued | e.FileRejected, attempt: int) -> DocumentFile:
        before = self._files.get(file_id)
        file = DocumentFile(
            file_id=file_id,
            name=event.name,
            index=event.index,
            order=before.order if before else len(self._files),
            sha256=event.sha256,
            status=STATUS_AFTER[type(event)],
            attempt=attempt,
        )
        self._files[file_id] = file
        return file

    def _known(self, file_id: str, record: Recorded) -> DocumentFile:
        file = self._files.get(file_id)
        if file is None:
            raise LogDamaged(
                f"{record.name} at {record.seq} tells of a file that was never queued: {file_id}"
            )
        return file

    def _store(self, result: bytes) -> Spooled:
        place = Spooled(self._spooled, len(result))
        self._spool.seek(self._spooled)
        self._spool.write(result)
        self._spooled += len(result)
        return place
