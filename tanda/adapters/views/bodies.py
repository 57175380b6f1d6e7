"""Rows of the views as the bodies of the HTTP contract."""

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from tanda.contracts.http import (
    ArtifactInfo,
    Batch,
    BatchUrls,
    Counts,
    DayStats,
    File,
    FileBlobs,
    Results,
    SourceInfo,
)
from tanda.contracts.results import BlobRef, StoredArtifact, Usage
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.domain.progress import BatchFacts, percentile, progress


class Row(Protocol):
    """A row by column names."""

    def __getitem__(self, column: str, /) -> Any: ...


_artifacts = msgspec.json.Decoder(list[StoredArtifact])
_usage = msgspec.json.Decoder(Usage)
_blob = msgspec.json.Decoder(BlobRef)


def batch_url(batch_id: str) -> str:
    return f"/v1/batches/{batch_id}"


def file_url(batch_id: str, file_id: str) -> str:
    return f"{batch_url(batch_id)}/files/{file_id}"


def batch_body(row: Row, now_ms: int) -> Batch:
    """The batch as it is at this moment: time left and waiting reason depend on it."""
    facts = BatchFacts(**{name: row[name] for name in BatchFacts.__struct_fields__})
    tally = counts(row)
    began = facts.retried_at or facts.started_at
    url = batch_url(row["batch_id"])
    return Batch(
        id=row["batch_id"],
        name=row["name"],
        status=row["status"],
        processor=row["processor"],
        priority=row["priority"],
        counts=tally,
        progress=progress(
            facts, tally, now=rfc3339(now_ms), now_ms=now_ms, since_ms=epoch_ms(began) if began else None
        ),
        created_at=row["created_at"],
        sealed_at=row["sealed_at"],
        started_at=row["started_at"],
        paused_at=row["paused_at"],
        completed_at=row["completed_at"],
        cancelled_at=row["cancelled_at"],
        results=_results(row, f"{url}/results"),
        metadata=msgspec.json.decode(row["metadata"]),
        tags=row["tags"],
        start_at=row["start_at"],
        expires_at=row["expires_at"],
        limit=row["files_at_once"],
        owner=row["owner"],
        effort=facts.effort,
        effort_done=facts.effort_done,
        seq=row["seq"],
        urls=BatchUrls(self=url, files=f"{url}/files", events=f"{url}/events", results=f"{url}/results"),
    )


def counts(row: Row) -> Counts:
    """``retrying`` files count as queued."""
    names = ("queued", "processing", "waiting", "completed", "failed", "rejected", "cancelled")
    tally = {name: int(row[name]) for name in names}
    tally["queued"] += int(row["retrying"])
    return Counts(total=sum(tally.values()), **tally)


def _results(row: Row, url: str) -> Results:
    """Digest and size belong to the version; both are there while a retry works on the next one."""
    ref = _blob.decode(row["results"]) if row["results"] else None
    return Results(
        ready=row["completed_at"] is not None,
        version=row["results_version"],
        url=url,
        sha256=ref.sha256 if ref else None,
        bytes=ref.bytes if ref else None,
    )


def file_body(row: Row) -> File:
    url = file_url(row["batch_id"], row["file_id"])
    source = SourceInfo(state=row["source_state"], url=f"{url}/source") if row["source"] else None
    artifacts = [
        ArtifactInfo(name=one.name, content_type=one.content_type, url=f"{url}/artifacts/{_quoted(one.name)}")
        for one in _stored(row)
    ]
    return File(
        id=row["file_id"],
        batch_id=row["batch_id"],
        name=row["name"],
        index=row["index"],
        status=row["status"],
        attempt=row["attempt"],
        content_type=row["content_type"],
        bytes=row["bytes"],
        sha256=row["sha256"],
        processor=row["processor"],
        error=msgspec.json.decode(row["error"]) if row["error"] else None,
        warnings=msgspec.json.decode(row["warnings"], type=list[str]) if row["warnings"] else [],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        duration_ms=row["duration_ms"],
        source=source,
        result_url=f"{url}/result" if row["result_seq"] is not None else None,
        artifacts=artifacts,
        quarantined=row["quarantined_seq"] is not None,
        provider=row["provider"],
        cost=_usage.decode(row["cost"]) if row["cost"] else None,
        reused=row["reused"],
        seq=row["seq"],
    )


def file_blobs(row: Row) -> FileBlobs:
    source = _blob.decode(row["source"]) if row["source"] else None
    return FileBlobs(tenant=row["tenant"], source=source, artifacts=_stored(row))


def day_body(row: Row, histogram: Mapping[int, int]) -> DayStats:
    names = ("day", "batches", "files", "completed", "failed", "rejected", "cancelled", "bytes")
    return DayStats(
        **{name: row[name] for name in names},
        duration_p50_ms=percentile(histogram, 0.5),
        duration_p95_ms=percentile(histogram, 0.95),
    )


def _stored(row: Row) -> list[StoredArtifact]:
    return _artifacts.decode(row["artifacts"]) if row["artifacts"] else []


def _quoted(name: str) -> str:
    return quote(name, safe="")
