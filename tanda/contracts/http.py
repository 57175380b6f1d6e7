"""The bodies of the HTTP API. The same types encode, decode and describe them (OpenAPI)."""

from typing import Any, Generic, Literal, TypeVar

import msgspec

from tanda.contracts.events import FileStatus, Priority
from tanda.contracts.results import BlobRef, FileError, StoredArtifact, Usage
from tanda.contracts.work import Presence, SchedulerStatus

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
    #: Why nothing moves, or null: ``paused``, ``scheduled``, ``retry`` (its next attempt has its time),
    #: ``confirmation`` (from outside), ``limit``, ``brake`` (its provider asked for a pause), ``fair_share``.
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
    #: RFC 3339; nothing of it runs before, and what is still queued then is cancelled.
    start_at: str | None = None
    expires_at: str | None = None
    #: Files of it that may run at once; null is no limit of its own.
    limit: int | None = None
    owner: str | None = None
    #: What its files are expected to cost, and what of that is done: the time left goes by it. In
    #: milliseconds; a file that is queued again after its outcome counts again.
    effort: int = 0
    effort_done: int = 0
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
    #: Its attempts are used up though the trouble was of a passing kind, or its workers died.
    quarantined: bool = False
    #: The outside provider that it was given to, and what that cost.
    provider: str | None = None
    cost: Usage | None = None
    #: The stored result of the same bytes, version and options was taken: nobody was asked, nothing paid.
    reused: bool = False
    #: The log position of the file's latest event.
    seq: int


class FileBlobs(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file's bytes are: for the gateway's own use, never shown."""

    tenant: str
    source: BlobRef | None
    artifacts: list[StoredArtifact] = []


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant's sources are: in their place, or in the archive."""

    #: Whose turn it is: what is at work, else the oldest that may still be, else the oldest that failed.
    head: File | None
    #: Completed or waiting for an outside confirmation, and not archived yet.
    through: int
    archived: int


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
    owner: str | None = None
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


class EtaStats(Body, frozen=True, kw_only=True):
    """How far the time left, as told half-way, was from the time it took; over the days asked for."""

    batches: int
    #: Percent of the time that was told.
    median_error_pct: float | None = None
    p95_error_pct: float | None = None


class Stats(Body, frozen=True, kw_only=True):
    #: Files by their status now.
    totals: Counts
    batches: int
    #: Completed files per second over the last minute that had any.
    throughput_per_s: float
    days: list[DayStats]
    eta: EtaStats = EtaStats(batches=0)


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
    limit: int | None = None


class Retry(Request, frozen=True, kw_only=True):
    """``POST /v1/batches/{id}/retry``: these files, or all of a status; all failed ones by default."""

    file_ids: list[str] | None = None
    status: Literal["failed", "cancelled", "completed"] | None = None
    #: Another processor than before, by name.
    processor: str | None = None
    #: Only this version of ``processor``, which a running worker must have; without it the one that it has.
    processor_version: str | None = None


class FilesAdded(Body, frozen=True, kw_only=True):
    """The rest of the files that were sent had been there before."""

    added: int


class Retried(Body, frozen=True, kw_only=True):
    retried: int


class ForceArchive(Request, frozen=True, kw_only=True):
    """``POST /v1/batches/{id}/archive``: an operator's override, recorded with its reason."""

    file_ids: list[str]
    reason: str


class ChangeBatch(Request, frozen=True, kw_only=True):
    """``PATCH /v1/batches/{id}``: what is left out stays; null takes a schedule or a limit away."""

    priority: Priority | msgspec.UnsetType = msgspec.UNSET
    start_at: str | msgspec.UnsetType | None = msgspec.UNSET
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET
    limit: int | msgspec.UnsetType | None = msgspec.UNSET


class CallbackError(Request, frozen=True, kw_only=True):
    code: str
    message: str
    retryable: bool = False


class Callback(Request, frozen=True, kw_only=True):
    """``POST /v1/callbacks/{token}``: what became of work that went out."""

    status: Literal["completed", "failed"]
    #: Any JSON, of a completed one.
    result: Any = None
    #: Of a failed one.
    error: CallbackError | None = None


class BulkFilter(Request, frozen=True, kw_only=True):
    """Which batches; at least one of these has to be named."""

    status: str | None = None
    tag: str | None = None
    q: str | None = None
    created_after: str | None = None
    batch_ids: list[str] | None = None


BulkVerb = Literal["pause", "resume", "cancel", "retry"]


class BulkRequest(Request, frozen=True, kw_only=True):
    """``POST /v1/bulk-actions``."""

    action: BulkVerb
    filter: BulkFilter
    #: Counts and changes nothing.
    dry_run: bool = False


class BulkError(Body, frozen=True, kw_only=True):
    batch_id: str
    code: str
    detail: str


class BulkAction(Body, frozen=True, kw_only=True):
    """One action on many batches, as far as it has come."""

    #: Null for a dry run, which leaves nothing behind.
    id: str | None
    object: Literal["bulk_action"] = "bulk_action"
    action: BulkVerb
    filter: dict[str, Any]
    dry_run: bool
    status: Literal["counted", "running", "completed", "aborted"]
    matched: int
    #: Those of them that it would do something to, by their state when it was counted.
    eligible: int | None = None
    done: int = 0
    #: Batches whose state forbade it, or that had nothing to retry.
    skipped: int = 0
    failed: int = 0
    #: The first of those that failed.
    errors: list[BulkError] = []
    created_at: str
    finished_at: str | None = None


class BulkRun(msgspec.Struct, frozen=True, kw_only=True):
    """One action on a list of batches, and how far it has come."""

    id: str
    tenant: str
    action: BulkVerb
    filter: dict[str, Any]
    actor: str
    #: All that matched when it began.
    batch_ids: list[str]
    #: How many of them the action fits.
    eligible: int | None = None
    created_at: str
    status: Literal["running", "completed", "aborted"] = "running"
    #: Batches that were tried.
    position: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    errors: list[BulkError] = []
    finished_at: str | None = None


class LimitInfo(Body, frozen=True, kw_only=True):
    """A limit, and what of it is used."""

    name: str
    limit: int
    in_flight: int = 0


class BrakeInfo(Body, frozen=True, kw_only=True):
    #: RFC 3339; null where only fewer calls at once are left of it.
    until: str | None
    #: How often the limit is halved.
    level: int
    code: str


class ProviderInfo(Body, frozen=True, kw_only=True):
    """An outside provider: its limit, and what its brake leaves of it."""

    name: str
    limit: int
    allowed_now: int
    in_flight: int = 0
    queued: int = 0
    brake: BrakeInfo | None = None


class LimitsInfo(Body, frozen=True, kw_only=True):
    """``GET /v1/limits``."""

    providers: list[ProviderInfo]
    processors: list[LimitInfo]
    tenants: list[LimitInfo]
    #: The log position of the last change, 0 where there was none.
    changed_seq: int


class SetLimits(Request, frozen=True, kw_only=True):
    """``PUT /v1/limits``: names with their new limit, null for the default; names left out stay."""

    providers: dict[str, int | None] = {}
    processors: dict[str, int | None] = {}
    tenants: dict[str, int | None] = {}


class LogInfo(Body, frozen=True, kw_only=True):
    position: int


class ViewsInfo(Body, frozen=True, kw_only=True):
    position: int
    #: Events of the log that they have not seen.
    lag: int


class SystemInfo(Body, frozen=True, kw_only=True):
    """``GET /v1/system``: what the running services say of themselves."""

    version: str
    log: LogInfo
    views: ViewsInfo
    #: Null where nobody leads at this moment.
    scheduler: SchedulerStatus | None
    services: list[Presence]
    #: Files in quarantine, of every tenant.
    quarantined: int


def file_problem(error: FileError, attempt: int) -> dict[str, Any]:
    """The ``error`` of a file on the wire."""
    return {
        "code": error.code,
        "message": error.message,
        "attempt": attempt,
        "retryable": error.retryable,
    }
