"""The bodies of the HTTP API. The same types encode, decode and describe them (OpenAPI)."""

from typing import Any, Generic, Literal, TypeVar

import msgspec

from tanda.contracts.events import FileStatus, Priority
from tanda.contracts.results import BlobRef, FileError, StoredArtifact

BatchStatus = Literal[
    "open", "queued", "processing", "paused", "completed", "completed_with_errors", "failed", "cancelled"
]
#: Batches that are not finished yet: what ``?status=active`` selects.
ACTIVE_STATUSES: frozenset[BatchStatus] = frozenset({"open", "queued", "processing", "paused"})

T = TypeVar("T")


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the HTTP contract; answers carry every field, also the empty ones."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that a client sends; an unknown field is an error, never ignored."""


class Problem(Body, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457. ``code`` is stable; ``errors`` names the fields that are wrong."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: list[dict[str, str]] = []
    #: The state that forbade a command.
    state: str | None = None


class Counts(Body, frozen=True, kw_only=True):
    """A batch's files by status; ``retrying`` files count as queued."""

    total: int = 0
    queued: int = 0
    processing: int = 0
    waiting: int = 0
    completed: int = 0
    failed: int = 0
    rejected: int = 0
    cancelled: int = 0


class Progress(Body, frozen=True, kw_only=True):
    #: Percent of all files in a final status, one decimal.
    settled_pct: float
    #: Percent of all files that are completed, one decimal.
    succeeded_pct: float
    #: Seconds until the last file is settled, or null where nothing tells.
    eta_s: float | None = None
    #: Why nothing moves: ``paused``, ``scheduled``, ``limit`` … or null.
    waiting_reason: str | None = None


class Results(Body, frozen=True, kw_only=True):
    ready: bool
    #: 0 before the first results; raised by every retry.
    version: int
    url: str
    sha256: str | None = None
    bytes: int | None = None


class BatchUrls(Body, frozen=True, kw_only=True):
    self: str
    files: str
    events: str
    results: str


class Batch(Body, frozen=True, kw_only=True):
    id: str
    object: Literal["batch"] = "batch"
    name: str
    status: BatchStatus
    processor: str
    priority: Priority
    counts: Counts
    progress: Progress
    created_at: str
    sealed_at: str | None = None
    started_at: str | None = None
    paused_at: str | None = None
    completed_at: str | None = None
    cancelled_at: str | None = None
    results: Results
    metadata: dict[str, Any] = {}
    tags: list[str] = []
    #: The log position of the batch's latest event, its files' included.
    seq: int
    urls: BatchUrls


class SourceInfo(Body, frozen=True, kw_only=True):
    state: Literal["stored", "archived"]
    url: str


class ArtifactInfo(Body, frozen=True, kw_only=True):
    name: str
    content_type: str
    url: str


class File(Body, frozen=True, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    batch_id: str
    name: str
    index: int
    status: FileStatus
    attempt: int
    content_type: str
    bytes: int
    sha256: str | None
    processor: str | None = None
    error: dict[str, Any] | None = None
    warnings: list[str] = []
    queued_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    source: SourceInfo | None = None
    result_url: str | None = None
    artifacts: list[ArtifactInfo] = []
    #: The log position of the file's latest event.
    seq: int


class FileBlobs(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file's bytes are: for the gateway's own use, never shown."""

    tenant: str
    source: BlobRef | None
    #: The position of the ``FileCompleted`` that carries or names the result.
    result_seq: int | None
    artifacts: list[StoredArtifact] = []


class Page(Body, Generic[T], frozen=True, kw_only=True):
    data: list[T]
    next_cursor: str | None
    has_more: bool


class BatchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/batches``. ``status`` may also be ``active``."""

    status: str | None = None
    tag: str | None = None
    q: str | None = None
    created_after: str | None = None
    sort: Literal["-created_at", "created_at"] = "-created_at"
    limit: int = 50
    cursor: str | None = None


class FileQuery(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v1/batches/{id}/files``; in upload order."""

    status: str | None = None
    q: str | None = None
    limit: int = 50
    cursor: str | None = None


class DayStats(Body, frozen=True, kw_only=True):
    #: UTC date: ``2026-11-21``.
    day: str
    batches: int
    files: int
    completed: int
    failed: int
    rejected: int
    cancelled: int
    bytes: int
    #: Milliseconds of processing, over completed files of that day; null where there are none.
    duration_p50_ms: float | None = None
    duration_p95_ms: float | None = None


class Stats(Body, frozen=True, kw_only=True):
    #: Files by their status now.
    totals: Counts
    batches: int
    #: Completed files per second over the last minute that had any.
    throughput_per_s: float
    days: list[DayStats]


class OpenBatch(Request, frozen=True, kw_only=True):
    """``POST /v1/batches`` as JSON: an open batch, filled by PUTs and then sealed."""

    name: str | None = None
    processor: str = "auto"
    options: dict[str, Any] = {}
    priority: Priority = "normal"
    start_at: str | None = None
    expires_at: str | None = None
    metadata: dict[str, Any] = {}
    tags: list[str] = []
    open: Literal[True] = True
    owner: str | None = None


def file_problem(error: FileError, attempt: int) -> dict[str, Any]:
    """The ``error`` of a file on the wire."""
    return {
        "code": error.code,
        "message": error.message,
        "attempt": attempt,
        "retryable": error.retryable,
    }
