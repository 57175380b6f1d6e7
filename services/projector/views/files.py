"""The view of files: each as the API shows it, and where its source, result and artifacts are."""

from collections.abc import Callable, Sequence
from typing import Any

from services.projector.views.latest import LatestRows, Shape
from services.projector.views.rows import clean
from services.projector.views.schema import ddl
from services.projector.views.view import View
from tanda.contracts import events as e
from tanda.contracts.codec import encode
from tanda.contracts.envelope import Recorded
from tanda.contracts.http import file_problem
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.views import Column, Table, Write

FILES = Table(
    name="files",
    # A file's id is made from its batch's and nowhere twice. A key of one column is a smaller index, and no
    # change of a row can be looked for among all those of its batch.
    key=("file_id",),
    # In an order in which the most frequent changes are of columns that follow one another.
    columns={
        "file_id": Column("text"),
        "batch_id": Column("text"),
        "tenant": Column("text"),
        "index": Column("int"),
        "first_seq": Column("bigint"),
        "name": Column("text"),
        "search": Column("text"),
        "content_type": Column("text"),
        "bytes": Column("bigint"),
        "sha256": Column("text"),
        "attempt": Column("int"),
        "queued_at": Column("text"),
        "provider": Column("text"),
        "quarantined_seq": Column("bigint"),
        "stopped_seq": Column("bigint"),
        "started_at": Column("text"),
        "processor": Column("text"),
        "warnings": Column("text"),
        "artifacts": Column("text"),
        "result_seq": Column("bigint"),
        "cost": Column("text"),
        "reused": Column("boolean", default=False),
        "error": Column("text"),
        "finished_at": Column("text"),
        "duration_ms": Column("bigint"),
        "status": Column("text"),
        "seq": Column("bigint"),
        "source_state": Column("text"),
        "source": Column("text"),
    },
)

#: What a row takes from one event: columns, and their values.
Change = tuple[Shape, Sequence[Any]]

_AGAIN = Shape(
    FILES,
    *("attempt", "queued_at", "provider", "quarantined_seq", "stopped_seq", "started_at", "processor"),
    *("warnings", "artifacts", "result_seq", "cost", "reused", "error", "finished_at", "duration_ms"),
    *("status", "seq"),
)
_STARTED = Shape(FILES, "attempt", "provider", "started_at", "processor", "status", "seq")
_WAITING = Shape(FILES, "status", "seq")
_COMPLETED = Shape(
    FILES,
    *("processor", "warnings", "artifacts", "result_seq", "cost", "reused", "error", "finished_at"),
    *("duration_ms", "status", "seq"),
)
_COMPLETED_AT_ONCE = Shape(FILES, "started_at", *_COMPLETED.names)
_ATTEMPT_FAILED = Shape(FILES, "error", "duration_ms", "status", "seq")
_FAILED = Shape(
    FILES, "quarantined_seq", "stopped_seq", "error", "finished_at", "duration_ms", "status", "seq"
)  # fmt: skip
_CANCELLED = Shape(FILES, "stopped_seq", "finished_at", "status", "seq")
#: The batch tells where a file's source is now; it counts as the file's latest news.
_ARCHIVED = Shape(FILES, "seq", "source_state", "source")


class Files(View):
    """``GET /v1/batches/{id}/files``."""

    name = "files"
    version = 6
    ddl = ddl("files")
    tables = (FILES,)

    def folding(self) -> "_Folding":
        return _Folding()


class _Folding:
    def __init__(self) -> None:
        self._rows = LatestRows(FILES)

    def add(self, events: Sequence[Recorded]) -> None:
        rows = self._rows
        for record in events:
            event = record.event
            if isinstance(event, e.FilesQueued):
                for file_id, one in event.files:
                    rows.new((file_id,), _queued(record, file_id, one))
            elif isinstance(event, e.FilesCompleted):
                for file_id, one in event.files:
                    rows.change((file_id,), *_completed(record, one))
            elif (sources := _SOURCES.get(type(event))) is not None:
                for file_id, source in sources(event).items():
                    rows.change((file_id,), _ARCHIVED, (record.seq, "archived", _json(source)))
            else:
                _told(rows, record, event)

    def writes(self) -> list[Write]:
        return self._rows.writes()


def _told(rows: LatestRows, record: Recorded, event: Any) -> None:
    """What a record tells of one file; nothing where it is of none."""
    kind, file_id = type(event), record.file_id
    if file_id is None:
        return
    if kind is e.FileQueued and event.previous is None:
        rows.new((file_id,), _queued(record, file_id, event))
    elif (change := _CHANGES.get(kind)) is not None:
        rows.change((file_id,), *change(record, event))
    elif kind is e.FileRejected:
        rows.new((file_id,), _rejected(record, file_id, event))


def _queued(record: Recorded, file_id: str, event: e.FileQueued) -> list[Any]:
    """A new file's row, in the order of the table's columns."""
    name = clean(event.name)
    return [
        file_id, record.batch_id, record.tenant, event.index, record.seq, name, name.casefold(),
        clean(event.content_type), event.bytes, event.sha256, event.attempt, record.time,
        None, None, None, None, clean(event.processor), None, None, None, None, False, None, None, None,
        "queued", record.seq, "stored", _json(event.source),
    ]  # fmt: skip


def _rejected(record: Recorded, file_id: str, event: e.FileRejected) -> list[Any]:
    """The row of a file that is never queued."""
    name = clean(event.name)
    return [
        file_id, record.batch_id, record.tenant, event.index, record.seq, name, name.casefold(),
        clean(event.content_type), event.bytes, event.sha256, 0, None, None, None, record.seq, None,
        None, None, None, None, None, False, _error(event.error, 0), record.time, None,
        "rejected", record.seq, None, None,
    ]  # fmt: skip


def _again(record: Recorded, event: e.FileQueued) -> Change:
    """A further attempt of a known file, whose outcome so far is void."""
    return _AGAIN, (
        event.attempt, record.time, None, None, None, None, clean(event.processor), None,
        None, None, None, False, None, None, None, "queued", record.seq,
    )  # fmt: skip


def _started(record: Recorded, event: e.FileStarted) -> Change:
    return _STARTED, (
        event.attempt, event.provider, record.time, clean(event.processor), "processing", record.seq,
    )  # fmt: skip


def _waiting(record: Recorded, _: e.Event) -> Change:
    return _WAITING, ("waiting", record.seq)


def _completed(record: Recorded, event: e.FileCompleted) -> Change:
    values = (
        clean(event.processor),
        _json(event.warnings) if event.warnings else None,
        _json(event.artifacts) if event.artifacts else None,
        record.seq,
        None if event.usage is None else _json(event.usage),
        event.reused, None, record.time, event.duration_ms, "completed", record.seq,
    )  # fmt: skip
    return (_COMPLETED_AT_ONCE, (event.started_at, *values)) if event.started_at else (_COMPLETED, values)


def _attempt_failed(record: Recorded, event: e.FileAttemptFailed) -> Change:
    error = _error(event.error, event.attempt)
    return _ATTEMPT_FAILED, (error, event.duration_ms, "retrying", record.seq)


def _failed(record: Recorded, event: e.FileFailed) -> Change:
    quarantined_seq = record.seq if event.quarantined else None
    error = _error(event.error, event.attempt)
    return _FAILED, (quarantined_seq, record.seq, error, record.time, event.duration_ms, "failed", record.seq)


def _cancelled(record: Recorded, _: e.Event) -> Change:
    return _CANCELLED, (record.seq, record.time, "cancelled", record.seq)


def _sources(event: Any) -> dict[str, BlobRef]:
    return event.sources


def _one_source(event: Any) -> dict[str, BlobRef]:
    return {event.file_id: event.source}


def _json(value: Any) -> str:
    return encode(value).decode()


def _error(error: FileError, attempt: int) -> str:
    return _json(file_problem(error, attempt))


_CHANGES: dict[type[e.Event], Callable[[Recorded, Any], Change]] = {
    e.FileQueued: _again,
    e.FileStarted: _started,
    e.FileWaiting: _waiting,
    e.FileCompleted: _completed,
    e.FileAttemptFailed: _attempt_failed,
    e.FileFailed: _failed,
    e.FileCancelled: _cancelled,
}
_SOURCES: dict[type[e.Event], Callable[[Any], dict[str, BlobRef]]] = {
    e.SourcesArchived: _sources,
    e.SourceForceArchived: _one_source,
}
