"""What a write answers with: the batch or file as the events just written make it, without any view."""

from collections.abc import Sequence

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import STATUS_AFTER, FileStatus
from tanda.contracts.http import (
    Batch,
    BatchStatus,
    BatchUrls,
    Counts,
    File,
    Progress,
    Results,
    SourceInfo,
    file_problem,
)  # fmt: skip
from tanda.domain import batch as aggregate


def batch_urls(batch_id: str) -> BatchUrls:
    base = f"/v1/batches/{batch_id}"
    return BatchUrls(self=base, files=f"{base}/files", events=f"{base}/events", results=f"{base}/results")


def batch_of(batch_id: str, records: Sequence[Recorded]) -> Batch:
    """The batch that a list of its events tells of: complete only when all of them are given."""
    created, first = _created(records)
    statuses = _statuses(records)
    state = aggregate.initial()
    for record in records:
        if record.file_id is None:
            state = aggregate.evolve(state, record.event)
    counts = _counts(statuses)
    total = counts.total or 1
    settled = counts.completed + counts.failed + counts.rejected + counts.cancelled
    urls = batch_urls(batch_id)
    done = _last(records, e.BatchCompleted)
    return Batch(
        id=batch_id,
        name=created.name,
        status=_status(state, counts, statuses),
        processor=created.processor,
        priority=created.priority,
        counts=counts,
        progress=Progress(
            settled_pct=round(100 * settled / total, 1),
            succeeded_pct=round(100 * counts.completed / total, 1),
            waiting_reason=_waiting_reason(state, created),
        ),
        created_at=first.time,
        sealed_at=_time(records, e.BatchSealed),
        started_at=_first_time(records, e.FileStarted),
        paused_at=_time(records, e.BatchPaused) if state.phase == "paused" else None,
        completed_at=done.time if done and state.settled else None,
        cancelled_at=_time(records, e.BatchCancelled) if state.phase == "cancelled" else None,
        results=_results(done, urls.results, ready=state.settled),
        metadata=created.metadata,
        tags=created.tags,
        seq=max(record.seq for record in records),
        urls=urls,
    )


def file_of(record: Recorded) -> File:
    """The file that its first event tells of."""
    event = record.event
    assert isinstance(event, e.FileQueued | e.FileRejected), "a file begins queued or rejected"
    base = f"/v1/batches/{record.batch_id}/files/{record.file_id}"
    queued = isinstance(event, e.FileQueued)
    return File(
        id=str(record.file_id),
        batch_id=record.batch_id,
        name=event.name,
        index=event.index,
        status="queued" if queued else "rejected",
        attempt=event.attempt if queued else 0,
        content_type=event.content_type,
        bytes=event.bytes,
        sha256=event.sha256,
        processor=event.processor if queued else None,
        error=None if queued else file_problem(event.error, 0),
        queued_at=record.time if queued else None,
        finished_at=None if queued else record.time,
        source=SourceInfo(state="stored", url=f"{base}/source") if queued else None,
        seq=record.seq,
    )


def _created(records: Sequence[Recorded]) -> tuple[e.BatchCreated, Recorded]:
    for record in records:
        if isinstance(record.event, e.BatchCreated):
            return record.event, record
    raise AssertionError("a batch begins with its creation")


def _statuses(records: Sequence[Recorded]) -> dict[str, FileStatus]:
    statuses: dict[str, FileStatus] = {}
    for record in records:
        status = STATUS_AFTER.get(type(record.event))
        if record.file_id is not None and status is not None:
            statuses[record.file_id] = status
    return statuses


def _counts(statuses: dict[str, FileStatus]) -> Counts:
    numbers = dict.fromkeys(Counts.__struct_fields__, 0)
    for status in statuses.values():
        numbers["queued" if status == "retrying" else status] += 1
    numbers["total"] = len(statuses)
    return Counts(**numbers)


def _status(state: aggregate.BatchState, counts: Counts, statuses: dict[str, FileStatus]) -> BatchStatus:
    if state.phase in ("open", "paused", "cancelled"):
        return state.phase
    if state.phase == "completed":
        if counts.completed == counts.total:
            return "completed"
        return "completed_with_errors" if counts.completed else "failed"
    moved = any(status not in ("queued", "rejected") for status in statuses.values())
    return "processing" if moved else "queued"


def _waiting_reason(state: aggregate.BatchState, created: e.BatchCreated) -> str | None:
    if state.phase == "paused":
        return "paused"
    return "scheduled" if created.start_at and state.phase in ("open", "sealed") else None


def _results(done: Recorded | None, url: str, *, ready: bool) -> Results:
    if done is None or not isinstance(done.event, e.BatchCompleted):
        return Results(ready=False, version=0, url=url)
    event = done.event
    return Results(
        ready=ready, version=event.version, url=url, sha256=event.results.sha256, bytes=event.results.bytes
    )


def _last(records: Sequence[Recorded], kind: type[e.Event]) -> Recorded | None:
    return next((record for record in reversed(records) if isinstance(record.event, kind)), None)


def _time(records: Sequence[Recorded], kind: type[e.Event]) -> str | None:
    found = _last(records, kind)
    return found.time if found else None


def _first_time(records: Sequence[Recorded], kind: type[e.Event]) -> str | None:
    return next((record.time for record in records if isinstance(record.event, kind)), None)
