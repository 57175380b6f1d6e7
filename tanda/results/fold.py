"""What a result document says of each file: the fold of a batch's events, with its entries in a spool.

The entry of a file with a result is written when the result comes; what is then left to do at a batch's end
is to put pieces together.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import STATUS_AFTER, FileStatus
from tanda.contracts.results import BlobRef, FileError
from tanda.domain.errors import LogDamaged
from tanda.results import entry

#: Entries that lie together are given out in pieces of about this size.
PIECE_BYTES = 1024**2
#: Before each entry but the first, of which the comma is left out.
SEPARATOR = b",\n"


class Spooled(msgspec.Struct, frozen=True, gc=False):
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
    processor: tuple[str, str] | None = None
    #: A result that is an object of its own.
    result_ref: BlobRef | None = None
    #: Where the spool has the whole entry of a file with a result, the separator before it included.
    entry: Spooled | None = None


class DocumentFold:
    """A batch's files as they are after the events so far."""

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
            if isinstance(event, e.FilesQueued):
                for file_id, queued in event.files:
                    self._begin(file_id, queued, queued.attempt)
            elif isinstance(event, e.FilesCompleted):
                self._complete([(self._known(file_id, record), one) for file_id, one in event.files])
            elif type(event) in STATUS_AFTER:
                self._file_event(str(record.file_id), event, record)
            elif isinstance(event, e.BatchCreated):
                self.name = event.name

    def files(self) -> list[DocumentFile]:
        """Every file, in upload order."""
        return sorted(self._files.values(), key=lambda file: (file.index, file.order))

    def pieces(self) -> Iterator[bytes | DocumentFile]:
        """Every file in upload order: entries that are written, as many as lie together at once; of any
        other file what is known of it.
        """
        begin = end = 0
        for file in self.files():
            place = file.entry
            if place is not None and place.offset == end and end - begin < PIECE_BYTES:
                end += place.bytes
                continue
            if end > begin:
                yield self._read(begin, end)
            begin = end = 0
            if place is None:
                yield file
            else:
                begin, end = place.offset, place.offset + place.bytes
        if end > begin:
            yield self._read(begin, end)

    def counts(self) -> dict[FileStatus, int]:
        """Files by status, without the statuses that nothing is in."""
        return dict(Counter(file.status for file in self._files.values()))

    def processor_versions(self) -> dict[str, str]:
        """By name; where files of one batch were made by several versions, all of them: ``1,2``."""
        ended = {file.processor for file in self._files.values() if file.status in ("completed", "failed")}
        found: dict[str, list[str]] = {}
        for name, version in sorted(filter(None, ended)):
            found.setdefault(name, []).append(version)
        return {name: ",".join(versions) for name, versions in found.items()}

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
                self._complete([(file, event)])
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

    def _complete(self, files: Sequence[tuple[DocumentFile, e.FileCompleted]]) -> None:
        """Their entries are spooled in one piece, but for those whose result is an object of its own."""
        pieces: list[bytes] = []
        end = self._spooled
        for file, event in files:
            file.status, file.attempt, file.error = "completed", event.attempt, None
            file.processor = (event.processor, event.processor_version)
            file.result_ref = event.result_ref
            if event.result_ref is None:
                piece = SEPARATOR + entry.whole(
                    self.batch_id,
                    file.file_id,
                    file.name,
                    file.index,
                    event.attempt,
                    file.sha256,
                    event.result,
                )
                pieces.append(piece)
                file.entry = Spooled(end, len(piece))
                end += len(piece)
        self._spool.seek(self._spooled)
        self._spool.write(b"".join(pieces))
        self._spooled = end

    def _known(self, file_id: str, record: Recorded) -> DocumentFile:
        file = self._files.get(file_id)
        if file is None:
            raise LogDamaged(
                f"{record.name} at {record.seq} tells of a file that was never queued: {file_id}"
            )
        return file

    def _read(self, begin: int, end: int) -> bytes:
        self._spool.seek(begin)
        return self._spool.read(end - begin)
