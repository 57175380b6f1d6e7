"""The view of files: each as the API shows it, and where its source, result and artifacts are."""

from collections.abc import Callable, Sequence
from typing import Any

from services.projector.views.rows import Key, Rows, clean
from services.projector.views.schema import ddl
from tanda.contracts import events as e
from tanda.contracts.codec import encode
from tanda.contracts.envelope import Recorded
from tanda.contracts.http import file_problem
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.views import Column, Table, Write

FILES = Table(
    name="files",
    key=("batch_id", "file_id"),
    columns={
        "batch_id": Column("text"),
        "file_id": Column("text"),
        "tenant": Column("text"),
        "index": Column("int"),
        "first_seq": Column("bigint"),
        "name": Column("text"),
        "search": Column("text"),
        "status": Column("text"),
        "attempt": Column("int"),
        "content_type": Column("text"),
        "bytes": Column("bigint"),
        "sha256": Column("text"),
        "processor": Column("text"),
        "error": Column("text"),
        "warnings": Column("text"),
        "queued_at": Column("text"),
        "started_at": Column("text"),
        "finished_at": Column("text"),
        "duration_ms": Column("bigint"),
        "source_state": Column("text"),
        "source": Column("text"),
        "result_seq": Column("bigint"),
        "artifacts": Column("text"),
        "quarantined_seq": Column("bigint"),
        "provider": Column("text"),
        "cost": Column("text"),
        "reused": Column("boolean", default=False),
        "seq": Column("bigint"),
    },
)

Change = dict[str, Any]


class Files:
    """``GET /v1/batches/{id}/files``."""

    name = "files"
    version = 3
    ddl = ddl("files")
    tables = (FILES,)

    def fold(self, events: Sequence[Recorded]) -> list[Write]:
        rows = Rows(FILES)
        for record in events:
            event = record.event
            if isinstance(event, e.FilesQueued | e.FilesCompleted):
                for file_id, one in event.files:
                    _told(rows, record, (record.batch_id, file_id), one)
            elif (sources := _ARCHIVED.get(type(event))) is not None:
                for file_id, source in sources(event).items():
                    rows.change((record.batch_id, file_id), _archived(record, source))
            else:
                _told(rows, record, (record.batch_id, record.file_id), event)
        return rows.writes()


def _told(rows: Rows, record: Recorded, key: Key, event: e.Event) -> None:
    """What a record tells of one file; nothing where it is of none."""
    kind = type(event)
    if (change := _CHANGES.get(kind)) is not None:
        rows.change(key, change(record, event))
    elif (new := _NEW.get(kind)) is not None:
        new(rows, record, key, event)


def _queued(rows: Rows, record: Recorded, key: Key, event: e.FileQueued) -> None:
    """A new file, or a further attempt of a known one, whose outcome so far is void."""
    if event.previous is None:
        row = _new(record, event)
        row.update(_attempt(record, event), source_state="stored", source=_json(event.source))
        rows.new(key, row)
    else:
        rows.change(key, _again(record, event))


def _again(record: Recorded, event: e.FileQueued) -> Change:
    void = dict.fromkeys(
        (
            *("error", "warnings", "started_at", "finished_at", "duration_ms", "result_seq", "artifacts"),
            *("provider", "cost", "quarantined_seq"),
        )
    )
    return void | _attempt(record, event) | {"reused": False, "seq": record.seq}


def _attempt(record: Recorded, event: e.FileQueued) -> Change:
    return {
        "status": "queued",
        "attempt": event.attempt,
        "processor": clean(event.processor),
        "queued_at": record.time,
    }


def _rejected(rows: Rows, record: Recorded, key: Key, event: e.FileRejected) -> None:
    outcome = {
        "status": "rejected",
        "attempt": 0,
        "error": _error(event.error, 0),
        "finished_at": record.time,
    }
    rows.new(key, _new(record, event) | outcome)


def _new(record: Recorded, event: e.FileQueued | e.FileRejected) -> Change:
    name = clean(event.name)
    return {
        "tenant": record.tenant,
        "index": event.index,
        "first_seq": record.seq,
        "name": name,
        "search": name.casefold(),
        "content_type": clean(event.content_type),
        "bytes": event.bytes,
        "sha256": event.sha256,
        "seq": record.seq,
    }


def _started(record: Recorded, event: e.FileStarted) -> Change:
    return {
        "status": "processing",
        "attempt": event.attempt,
        "processor": clean(event.processor),
        "started_at": record.time,
        "provider": event.provider,
        "seq": record.seq,
    }


def _waiting(record: Recorded, _: e.Event) -> Change:
    return {"status": "waiting", "seq": record.seq}


def _completed(record: Recorded, event: e.FileCompleted) -> Change:
    at_once = {"started_at": event.started_at} if event.started_at else {}
    return at_once | {
        "status": "completed",
        "processor": clean(event.processor),
        "error": None,
        "warnings": _json(event.warnings) if event.warnings else None,
        "artifacts": _json(event.artifacts) if event.artifacts else None,
        "finished_at": record.time,
        "duration_ms": event.duration_ms,
        "result_seq": record.seq,
        "cost": None if event.usage is None else _json(event.usage),
        "reused": event.reused,
        "seq": record.seq,
    }


def _attempt_failed(record: Recorded, event: e.FileAttemptFailed) -> Change:
    error = _error(event.error, event.attempt)
    return {"status": "retrying", "error": error, "duration_ms": event.duration_ms, "seq": record.seq}


def _failed(record: Recorded, event: e.FileFailed) -> Change:
    return {
        "status": "failed",
        "error": _error(event.error, event.attempt),
        "finished_at": record.time,
        "duration_ms": event.duration_ms,
        "quarantined_seq": record.seq if event.quarantined else None,
        "seq": record.seq,
    }


def _cancelled(record: Recorded, _: e.Event) -> Change:
    return {"status": "cancelled", "finished_at": record.time, "seq": record.seq}


def _archived(record: Recorded, source: BlobRef) -> Change:
    """The batch tells where a file's source is now; it counts as the file's latest news."""
    return {"source_state": "archived", "source": _json(source), "seq": record.seq}


def _sources(event: Any) -> dict[str, BlobRef]:
    return event.sources


def _one_source(event: Any) -> dict[str, BlobRef]:
    return {event.file_id: event.source}


def _json(value: Any) -> str:
    return encode(value).decode()


def _error(error: FileError, attempt: int) -> str:
    return _json(file_problem(error, attempt))


_NEW: dict[type[e.Event], Callable[[Rows, Recorded, Key, Any], None]] = {
    e.FileQueued: _queued,
    e.FileRejected: _rejected,
}
_CHANGES: dict[type[e.Event], Callable[[Recorded, Any], Change]] = {
    e.FileStarted: _started,
    e.FileWaiting: _waiting,
    e.FileCompleted: _completed,
    e.FileAttemptFailed: _attempt_failed,
    e.FileFailed: _failed,
    e.FileCancelled: _cancelled,
}
_ARCHIVED: dict[type[e.Event], Callable[[Any], dict[str, BlobRef]]] = {
    e.SourcesArchived: _sources,
    e.SourceForceArchived: _one_source,
}
