"""The view of batches: each with its counts, times and results."""

from collections.abc import Callable, Sequence
from typing import Any

from services.projector.views.rows import Rows, clean
from services.projector.views.schema import ddl
from services.projector.views.view import View
from tanda.contracts import events as e
from tanda.contracts.codec import encode
from tanda.contracts.envelope import Recorded
from tanda.contracts.views import Column, Table, Write

_COUNT = Column("int", "add", 0)

BATCHES = Table(
    name="batches",
    key=("batch_id",),
    columns={
        "batch_id": Column("text"),
        "tenant": Column("text"),
        "name": Column("text"),
        "search": Column("text"),
        "processor": Column("text"),
        "priority": Column("text"),
        "metadata": Column("text"),
        "tags": Column("text[]"),
        "owner": Column("text"),
        "files_at_once": Column("int"),
        "created_at": Column("text"),
        "start_at": Column("text"),
        "expires_at": Column("text"),
        "sealed_at": Column("text"),
        "started_at": Column("text", "first"),
        "paused_at": Column("text"),
        "completed_at": Column("text"),
        "cancelled_at": Column("text"),
        "retried_at": Column("text"),
        "retried": Column("int", default=0),
        "total": _COUNT,
        "queued": _COUNT,
        "processing": _COUNT,
        "waiting": _COUNT,
        "retrying": _COUNT,
        "completed": _COUNT,
        "failed": _COUNT,
        "rejected": _COUNT,
        "cancelled": _COUNT,
        "bytes": Column("bigint", "add", 0),
        "effort": Column("bigint", "add", 0),
        "effort_done": Column("bigint", "add", 0),
        "results_version": Column("int", default=0),
        "results": Column("text"),
        "seq": Column("bigint"),
    },
)


class Batches(View):
    """``GET /v1/batches``; its ``status`` is computed by the table from these facts."""

    name = "batches"
    version = 3
    ddl = ddl("batches")
    tables = (BATCHES,)

    def folding(self) -> "_Folding":
        return _Folding()


class _Folding:
    def __init__(self) -> None:
        self._rows = Rows(BATCHES)

    def add(self, events: Sequence[Recorded]) -> None:
        rows = self._rows
        for record in events:
            kind = type(record.event)
            key = (record.batch_id,)
            if kind is e.BatchCreated:
                rows.new(key, _created(record))
            elif (status := e.STATUS_AFTER.get(kind)) is not None:
                rows.change(key, _counted(record, status))
            elif (change := _CHANGES.get(kind)) is not None:
                rows.change(key, change(record))
            elif kind not in _NO_NEWS:
                rows.change(key, {"seq": record.seq})

    def writes(self) -> list[Write]:
        return self._rows.writes()


def _counted(record: Recorded, status: e.FileStatus) -> dict[str, Any]:
    """A file moved from one status to another."""
    event: Any = record.event
    previous: e.FileStatus | None = getattr(event, "previous", None)
    change: dict[str, Any] = {"seq": record.seq}
    if previous != status:
        change[status] = 1
        if previous is not None:
            change[previous] = -1
    if previous is None:
        change["total"] = 1
        change["bytes"] = event.bytes
    elif status == "processing":
        change["started_at"] = record.time
    elif status == "completed" and event.started_at:
        change["started_at"] = event.started_at
    # Both only grow: what is queued again after its outcome is more to do, a further attempt is not.
    if status == "queued" and previous != "retrying":
        change["effort"] = event.effort
    elif status in ("completed", "failed"):
        change["effort_done"] = event.effort
    return change


def _queued_together(record: Recorded) -> dict[str, Any]:
    """New files of a group, counted as one."""
    event = record.event
    assert isinstance(event, e.FilesQueued)
    files = [file for _, file in event.files]
    return {
        "queued": len(files),
        "total": len(files),
        "bytes": sum(file.bytes for file in files),
        "effort": sum(file.effort for file in files),
        "seq": record.seq,
    }


def _completed_together(record: Recorded) -> dict[str, Any]:
    event = record.event
    assert isinstance(event, e.FilesCompleted)
    files = [file for _, file in event.files]
    return {
        "queued": -len(files),
        "completed": len(files),
        "started_at": files[0].started_at,
        "effort_done": sum(file.effort for file in files),
        "seq": record.seq,
    }


def _created(record: Recorded) -> dict[str, Any]:
    event = record.event
    assert isinstance(event, e.BatchCreated)
    name = clean(event.name)
    return {
        "tenant": record.tenant,
        "name": name,
        "search": name.casefold(),
        "processor": clean(event.processor),
        "priority": event.priority,
        "metadata": encode(event.metadata).decode(),
        "tags": [clean(tag) for tag in event.tags],
        "owner": None if event.owner is None else clean(event.owner),
        "created_at": record.time,
        "start_at": event.start_at,
        "expires_at": event.expires_at,
        "files_at_once": event.limit,
        "seq": record.seq,
    }


def _changed(record: Recorded) -> dict[str, Any]:
    event = record.event
    assert isinstance(event, e.BatchChanged)
    columns = {name: "files_at_once" if name == "limit" else name for name in event.changed}
    return {column: getattr(event, name) for name, column in columns.items()} | {"seq": record.seq}


def _sealed(record: Recorded) -> dict[str, Any]:
    return {"sealed_at": record.time, "seq": record.seq}


def _paused(record: Recorded) -> dict[str, Any]:
    return {"paused_at": record.time, "seq": record.seq}


def _resumed(record: Recorded) -> dict[str, Any]:
    return {"paused_at": None, "seq": record.seq}


def _cancelled(record: Recorded) -> dict[str, Any]:
    return {"cancelled_at": record.time, "paused_at": None, "seq": record.seq}


def _retried(record: Recorded) -> dict[str, Any]:
    """A finished batch is at work again; its last results keep their version."""
    event = record.event
    assert isinstance(event, e.FilesRetried)
    return {
        "completed_at": None,
        "cancelled_at": None,
        "retried_at": record.time,
        "retried": event.total or len(event.file_ids),
        "seq": record.seq,
    }


def _completed(record: Recorded) -> dict[str, Any]:
    event = record.event
    assert isinstance(event, e.BatchCompleted)
    return {
        "completed_at": record.time,
        "paused_at": None,
        "results_version": event.version,
        "results": encode(event.results).decode(),
        "seq": record.seq,
    }


_CHANGES: dict[type[e.Event], Callable[[Recorded], dict[str, Any]]] = {
    e.BatchSealed: _sealed,
    e.BatchPaused: _paused,
    e.BatchResumed: _resumed,
    e.BatchCancelled: _cancelled,
    e.FilesRetried: _retried,
    e.BatchChanged: _changed,
    e.BatchCompleted: _completed,
    e.FilesQueued: _queued_together,
    e.FilesCompleted: _completed_together,
}
#: What changes nothing that is shown of a batch.
_NO_NEWS: frozenset[type[e.Event]] = frozenset({*e.LIMIT_EVENTS, e.FilesParted})
