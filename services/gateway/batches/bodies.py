"""What a write answers with: the batch or file as the events just written make it, without any view."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import STATUS_AFTER, FileStatus
from tanda.contracts.http import Batch, BatchUrls, Counts, File, Results, SourceInfo, file_problem
from tanda.contracts.times import epoch_ms
from tanda.domain.effort import effort_change
from tanda.domain.progress import BatchFacts, batch_status, progress


def batch_urls(batch_id: str) -> BatchUrls:
    base = f"/v1/batches/{batch_id}"
    return BatchUrls(self=base, files=f"{base}/files", events=f"{base}/events", results=f"{base}/results")


def batch_of(batch_id: str, records: Sequence[Recorded]) -> Batch:
    """The batch that all of its events so far tell of, as of the last one."""
    facts = BatchFacts()
    created: e.BatchCreated | None = None
    done: e.BatchCompleted | None = None
    statuses: dict[str, FileStatus] = {}
    changes: dict[str, Any] = {}
    for record in records:
        if record.file_id is not None:
            statuses |= _statuses(record)
        match record.event:
            case e.BatchCreated() as event:
                created = event
            case e.BatchCompleted() as event:
                done = event
            case e.BatchChanged() as event:
                changes |= {name: getattr(event, name) for name in event.changed}
            case _:
                pass
        facts = facts_after(facts, record)
    assert created is not None, "a batch begins with its creation"
    counts = _counts(statuses)
    retrying = sum(status == "retrying" for status in statuses.values())
    facts = msgspec.structs.replace(facts, retrying=retrying)
    priority = changes.get("priority", created.priority)
    expires_at, limit = changes.get("expires_at", created.expires_at), changes.get("limit", created.limit)
    urls, last = batch_urls(batch_id), records[-1]
    began = facts.retried_at or facts.started_at
    return Batch(
        id=batch_id,
        name=created.name,
        status=batch_status(facts, counts),
        processor=created.processor,
        priority=priority,
        counts=counts,
        progress=progress(
            facts,
            counts,
            now=last.time,
            now_ms=epoch_ms(last.time),
            since_ms=epoch_ms(began) if began else None,
        ),
        created_at=records[0].time,
        sealed_at=facts.sealed_at,
        started_at=facts.started_at,
        paused_at=facts.paused_at,
        completed_at=facts.completed_at,
        cancelled_at=facts.cancelled_at,
        results=Results(
            ready=facts.completed_at is not None,
            version=done.version if done else 0,
            url=urls.results,
            sha256=done.results.sha256 if done else None,
            bytes=done.results.bytes if done else None,
        ),
        metadata=created.metadata,
        tags=created.tags,
        start_at=facts.start_at,
        expires_at=expires_at,
        limit=limit,
        owner=created.owner,
        effort=facts.effort,
        effort_done=facts.effort_done,
        seq=last.seq,
        urls=urls,
    )


def _statuses(record: Recorded) -> dict[str, FileStatus]:
    """Of the files that an event tells of, alone or as a group that has just been written."""
    assert record.file_id is not None, "it is an event of files"
    event = record.event
    if isinstance(event, e.FilesQueued):
        return dict.fromkeys([file_id for file_id, _ in event.files], "queued")
    return {record.file_id: STATUS_AFTER[type(event)]}


def facts_after(facts: BatchFacts, record: Recorded) -> BatchFacts:
    """What is known of a batch after one more of its events."""
    replace, time = msgspec.structs.replace, record.time
    effort, done = effort_change(record.event)
    if effort or done:
        facts = replace(facts, effort=facts.effort + effort, effort_done=facts.effort_done + done)
    match record.event:
        case e.BatchCreated() as event:
            return replace(facts, start_at=event.start_at)
        case e.BatchChanged() as event if "start_at" in event.changed:
            return replace(facts, start_at=event.start_at)
        case e.BatchSealed():
            return replace(facts, sealed_at=time)
        case e.FileStarted():
            return replace(facts, started_at=facts.started_at or time)
        case e.FileCompleted() as event if event.started_at:
            return replace(facts, started_at=facts.started_at or event.started_at)
        case e.BatchPaused():
            return replace(facts, paused_at=time)
        case e.BatchResumed():
            return replace(facts, paused_at=None)
        case e.BatchCancelled():
            return replace(facts, cancelled_at=time, paused_at=None)
        case e.FilesRetried() as event:
            return replace(
                facts,
                completed_at=None,
                cancelled_at=None,
                retried_at=time,
                retried=event.total or len(event.file_ids),
            )
        case e.BatchCompleted():
            return replace(facts, completed_at=time, paused_at=None)
        case _:
            return facts


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


def _counts(statuses: dict[str, FileStatus]) -> Counts:
    numbers = dict.fromkeys(Counts.__struct_fields__, 0)
    for status in statuses.values():
        numbers["queued" if status == "retrying" else status] += 1
    numbers["total"] = len(statuses)
    return Counts(**numbers)
