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
        "completions": _COUNT,
        "archived": _COUNT,
        "results_version": Column("int", default=0),
        "results": Column("text"),
        "seq": Column("bigint"),
    },
)


class Batches(View):
    """``GET /v1/batches``; its ``status`` is computed by the table from these facts."""

    name = "batches"
    version = 4
    ddl = ddl("batches")
    tables = (BATCHES,)

    def folding(self) -> "_Folding":
        return _Folding()


class _Sums:
    """What a batch's files add to it: their events are many, and differ in little."""

    __slots__ = ("bytes", "effort", "effort_done", "moves", "started_at")

    def __init__(self) -> None:
        #: How many files came to a status from another, None for new ones.
        self.moves: dict[tuple[e.FileStatus, e.FileStatus | None], int] = {}
        self.bytes = self.effort = self.effort_done = 0
        self.started_at: str | None = None

    def add(self, record: Recorded, event: Any, status: e.FileStatus) -> None:
        """A file moved from one status to another."""
        previous: e.FileStatus | None = None if status == "rejected" else event.previous
        move = (status, previous)
        self.moves[move] = self.moves.get(move, 0) + 1
        if previous is None:
            self.bytes += event.bytes
        elif self.started_at is None:
            if status == "processing":
                self.started_at = record.time
            elif status == "completed":
                self.started_at = event.started_at
        # Both only grow: what is queued again after its outcome is more to do, a further attempt is not.
        if status == "queued":
            if previous != "retrying":
                self.effort += event.effort
        elif status in ("completed", "failed"):
            self.effort_done += event.effort

    def add_queued(self, event: e.FilesQueued) -> None:
        """New files of a group, counted as one."""
        self.moves["queued", None] = self.moves.get(("queued", None), 0) + len(event.files)
        self.bytes += sum([file.bytes for _, file in event.files])
        self.effort += sum([file.effort for _, file in event.files])

    def add_completed(self, event: e.FilesCompleted) -> None:
        self.moves["completed", "queued"] = self.moves.get(("completed", "queued"), 0) + len(event.files)
        self.effort_done += sum([file.effort for _, file in event.files])
        self.started_at = self.started_at or event.files[0][1].started_at

    def change(self) -> dict[str, Any]:
        change: dict[str, Any] = {
            "bytes": self.bytes, "effort": self.effort, "effort_done": self.effort_done,
            "started_at": self.started_at,
        }  # fmt: skip
        for (status, previous), files in self.moves.items():
            if previous is None:
                change["total"] = change.get("total", 0) + files
            if status == "completed":
                change["completions"] = change.get("completions", 0) + files
            if previous != status:
                change[status] = change.get(status, 0) + files
                if previous is not None:
                    change[previous] = change.get(previous, 0) - files
        return {name: value for name, value in change.items() if value}


class _Folding:
    def __init__(self) -> None:
        self._rows = Rows(BATCHES)
        self._sums: dict[str, _Sums] = {}
        #: The last position of each batch that tells something of it.
        self._seqs: dict[str, int] = {}

    def add(self, events: Sequence[Recorded]) -> None:
        for record in events:
            event, kind, batch_id = record.event, type(record.event), record.batch_id
            if kind in _NO_NEWS:
                continue
            self._seqs[batch_id] = record.seq
            if (status := e.STATUS_AFTER.get(kind)) is not None:
                self._of(batch_id).add(record, event, status)
            elif isinstance(event, e.FilesQueued):
                self._of(batch_id).add_queued(event)
            elif isinstance(event, e.FilesCompleted):
                self._of(batch_id).add_completed(event)
            elif isinstance(event, e.BatchCreated):
                self._sums.pop(batch_id, None)
                self._rows.new((batch_id,), _created(record))
            elif (change := _CHANGES.get(kind)) is not None:
                self._rows.change((batch_id,), change(record))

    def writes(self) -> list[Write]:
        for batch_id, sums in self._sums.items():
            self._rows.change((batch_id,), sums.change())
        for batch_id, seq in self._seqs.items():
            self._rows.change((batch_id,), {"seq": seq})
        return self._rows.writes()

    def _of(self, batch_id: str) -> _Sums:
        sums = self._sums.get(batch_id)
        if sums is None:
            sums = self._sums[batch_id] = _Sums()
        return sums


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
    }


def _changed(record: Recorded) -> dict[str, Any]:
    event = record.event
    assert isinstance(event, e.BatchChanged)
    columns = {name: "files_at_once" if name == "limit" else name for name in event.changed}
    return {column: getattr(event, name) for name, column in columns.items()}


def _sealed(record: Recorded) -> dict[str, Any]:
    return {"sealed_at": record.time}


def _paused(record: Recorded) -> dict[str, Any]:
    return {"paused_at": record.time}


def _resumed(record: Recorded) -> dict[str, Any]:
    del record
    return {"paused_at": None}


def _cancelled(record: Recorded) -> dict[str, Any]:
    return {"cancelled_at": record.time, "paused_at": None}


def _retried(record: Recorded) -> dict[str, Any]:
    """A finished batch is at work again; its last results keep their version."""
    event = record.event
    assert isinstance(event, e.FilesRetried)
    return {
        "completed_at": None,
        "cancelled_at": None,
        "retried_at": record.time,
        "retried": event.total or len(event.file_ids),
    }


def _completed(record: Recorded) -> dict[str, Any]:
    event = record.event
    assert isinstance(event, e.BatchCompleted)
    return {
        "completed_at": record.time,
        "paused_at": None,
        "results_version": event.version,
        "results": encode(event.results).decode(),
    }


def _archived(record: Recorded) -> dict[str, Any]:
    """Storage tells a file once; what a person has archived is not among those that wait for it."""
    event = record.event
    assert isinstance(event, e.SourcesArchived)
    return {"archived": len(event.sources)}


_CHANGES: dict[type[e.Event], Callable[[Recorded], dict[str, Any]]] = {
    e.BatchSealed: _sealed,
    e.BatchPaused: _paused,
    e.BatchResumed: _resumed,
    e.BatchCancelled: _cancelled,
    e.FilesRetried: _retried,
    e.BatchChanged: _changed,
    e.BatchCompleted: _completed,
    e.SourcesArchived: _archived,
}
#: What changes nothing that is shown of a batch.
_NO_NEWS: frozenset[type[e.Event]] = frozenset({*e.LIMIT_EVENTS, e.FilesParted})
