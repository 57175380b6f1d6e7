"""Every event of the log: past-tense facts, frozen, each with the sentence that says when it happens.

The subject names the aggregate (tenant, batch, file), the envelope says when and by whom; neither is
repeated here. A new field has a default, or it is a new version. Every event ever written has a
golden sample in ``tests/golden`` that decodes for ever.

File events carry ``previous``, the status that the file left: the writer knows it, since the log
accepts an event only on top of the one its writer had seen. A view therefore counts by adding and
subtracting and never looks anything up.
"""

from typing import Any, Literal

import msgspec

from tanda.contracts.results import BlobRef, FileError, StoredArtifact, Usage

#: The default of an inline result: this event carries none.
NO_RESULT = msgspec.Raw(b"")

FileStatus = Literal[
    "queued", "processing", "waiting", "retrying", "completed", "failed", "rejected", "cancelled"
]
#: A file that is in one of these will not change without a command.
FINAL_STATUSES: frozenset[FileStatus] = frozenset({"completed", "failed", "rejected", "cancelled"})

Priority = Literal["interactive", "normal", "bulk"]
#: What ``BatchChanged`` may change.
Changeable = Literal["priority", "start_at", "expires_at", "limit"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact. Its class name and version are the envelope's type: ``tanda.FileQueued.v1``."""


# -- on the batch's subject -----------------------------------------------------------------------


class BatchCreated(Event, frozen=True, kw_only=True):
    """A batch was accepted; its files follow, and ``BatchSealed`` closes it."""

    name: str
    #: As asked for: ``auto`` or a processor's name; each file carries what it came to.
    processor: str = "auto"
    options: dict[str, Any] = {}
    priority: Priority = "normal"
    #: RFC 3339; nothing of the batch is released before.
    start_at: str | None = None
    #: RFC 3339; what is still queued then is cancelled.
    expires_at: str | None = None
    metadata: dict[str, Any] = {}
    tags: list[str] = []
    #: Files are still being added one by one until the batch is sealed.
    open: bool = False
    #: The user it belongs to, where the tenant has several.
    owner: str | None = None
    #: Files of this batch that may run at once, over all workers; None is no limit of its own.
    limit: int | None = None


class BatchSealed(Event, frozen=True, kw_only=True):
    """The batch is whole: no file is added any more, and the scheduler may release it."""

    #: All files, rejected ones included.
    total: int
    rejected: int = 0
    #: Of all sources, in bytes.
    bytes: int = 0


class BatchPaused(Event, frozen=True, kw_only=True):
    """Nothing more of the batch is released until it is resumed; what runs is finished."""

    reason: str | None = None


class BatchResumed(Event, frozen=True, kw_only=True):
    """A paused batch goes on."""


class BatchCancelled(Event, frozen=True, kw_only=True):
    """What was not yet running will never run; each such file gets its own ``FileCancelled``."""

    reason: str | None = None


class FilesRetried(Event, frozen=True, kw_only=True):
    """Someone asked for these files again; each is queued again by its own ``FileQueued``."""

    file_ids: list[str]
    #: Another processor than before, by name.
    processor: str | None = None
    #: Only this version of it; None: the one that the worker has.
    processor_version: str | None = None
    #: Files of the whole retry so far, where it takes several of these events; 0: just these.
    total: int = 0


class BatchChanged(Event, frozen=True, kw_only=True):
    """Someone changed how a batch is scheduled; the fields named in ``changed`` have new values."""

    changed: list[Changeable]
    priority: Priority | None = None
    #: RFC 3339, or None: it may start at once.
    start_at: str | None = None
    #: RFC 3339, or None: it does not expire.
    expires_at: str | None = None
    #: None: no limit of its own.
    limit: int | None = None


class BatchCompleted(Event, frozen=True, kw_only=True):
    """Every file is settled and the result JSON is durable in the object store."""

    #: 1, and one more with every retry of a finished batch.
    version: int
    #: The last event that the result JSON tells of.
    through_seq: int
    #: Where the result JSON is, its length and its digest.
    results: BlobRef
    #: Files by status; the statuses that nothing is in are left out.
    counts: dict[FileStatus, int]
    #: How long the second half of the work took, as a multiple of what the first half let expect; None where
    #: that says nothing (few files, a pause, a retry).
    eta_ratio: float | None = None


class SourcesArchived(Event, frozen=True, kw_only=True):
    """These files' sources were moved to the archive, their results being in the log."""

    #: Each file's source as it is archived.
    sources: dict[str, BlobRef]


class SourceForceArchived(Event, frozen=True, kw_only=True):
    """An operator archived a source without waiting for its result."""

    file_id: str
    source: BlobRef
    reason: str


# -- on the subject of the limits, which is nobody's batch ------------------------------------------


class LimitsChanged(Event, frozen=True, kw_only=True):
    """An operator set how many files may run at once; a name with None has its default again."""

    #: By outside provider.
    providers: dict[str, int | None] = {}
    #: By processor.
    processors: dict[str, int | None] = {}
    tenants: dict[str, int | None] = {}


# -- on the file's subject ------------------------------------------------------------------------


class FileQueued(Event, frozen=True, kw_only=True):
    """A file is stored and wants to be processed: for the first time, or again."""

    #: As the user named it, made safe to show; data, never a path.
    name: str
    #: Its place in the upload, from 0.
    index: int
    content_type: str
    bytes: int
    sha256: str
    source: BlobRef
    #: The processor by name; ``auto`` is already resolved.
    processor: str
    options: dict[str, Any] = {}
    #: From 1; every retry is a new attempt.
    attempt: int = 1
    #: None for a new file.
    previous: FileStatus | None = None
    #: Only this version of the processor, where a person asked for it; None: the one that the worker has.
    processor_version: str | None = None
    #: What it is expected to cost beside other files, in milliseconds: the time left is told by it.
    #: 0 where nobody said.
    effort: int = 0


class FileRejected(Event, frozen=True, kw_only=True):
    """A file is of no supported type, or lies about it; it is never queued."""

    name: str
    index: int
    content_type: str
    bytes: int
    error: FileError
    sha256: str | None = None


class FileStarted(Event, frozen=True, kw_only=True):
    """A worker began an attempt; written before any work is done, so that a killed worker counts."""

    attempt: int
    #: Which delivery of this attempt, from 1: more than one where a worker was lost.
    delivery: int
    worker: str
    processor: str
    processor_version: str
    previous: FileStatus
    #: The outside provider that is called, if any.
    provider: str | None = None


class FileWaiting(Event, frozen=True, kw_only=True):
    """The work went out and its confirmation is awaited from outside."""

    attempt: int
    #: Digest of the callback's token; the token itself is never written.
    token_sha256: str
    #: RFC 3339; without a confirmation until then the attempt has failed.
    deadline: str
    previous: FileStatus = "processing"


class FileCompleted(Event, frozen=True, kw_only=True):
    """A file's result is durable: in this event, or in the object that it names."""

    attempt: int
    processor: str
    processor_version: str
    duration_ms: int
    #: Digest of the result's JSON.
    result_sha256: str
    #: Length of the result's JSON in bytes.
    result_bytes: int
    #: The result's JSON itself, up to ``RESULT_INLINE_BYTES_MAX``; else empty.
    result: msgspec.Raw = NO_RESULT
    #: Where a larger result is.
    result_ref: BlobRef | None = None
    artifacts: list[StoredArtifact] = []
    #: What is incomplete, in words: ``no_text_layer`` …
    warnings: list[str] = []
    #: The stored result of the same bytes, version and options was taken.
    reused: bool = False
    previous: FileStatus = "processing"
    #: The outside provider that was called, and what that cost.
    provider: str | None = None
    usage: Usage | None = None
    #: RFC 3339: of quick work its start is told with its outcome, and no ``FileStarted`` goes before.
    started_at: str | None = None
    #: As its ``FileQueued`` has it.
    effort: int = 0


class FileAttemptFailed(Event, frozen=True, kw_only=True):
    """An attempt failed and another follows at ``retry_at``."""

    attempt: int
    error: FileError
    #: RFC 3339.
    retry_at: str
    duration_ms: int = 0
    previous: FileStatus = "processing"
    #: The outside provider that was called.
    provider: str | None = None
    #: RFC 3339; the provider asked for a pause, and nobody calls it before.
    braked_until: str | None = None
    #: What the provider was paid for an answer of no use, if it gave one.
    usage: Usage | None = None


class FileFailed(Event, frozen=True, kw_only=True):
    """A file failed for good: the error is not retryable, or it was the last attempt."""

    attempt: int
    error: FileError
    duration_ms: int = 0
    previous: FileStatus = "processing"
    #: The outside provider that was called.
    provider: str | None = None
    #: RFC 3339; the provider asked for a pause, and nobody calls it before.
    braked_until: str | None = None
    #: Its attempts are used up though the trouble was of a passing kind, or its workers died: for a person
    #: to look at, and to retry.
    quarantined: bool = False
    #: What the provider was paid for an answer of no use, if it gave one.
    usage: Usage | None = None
    #: As its ``FileQueued`` has it.
    effort: int = 0


class FileCancelled(Event, frozen=True, kw_only=True):
    """A file of a cancelled batch, not yet running, will not run."""

    attempt: int
    previous: FileStatus


# -- on the subject of a group of files -------------------------------------------------------------


class FilesQueued(Event, frozen=True, kw_only=True):
    """Files of one upload are stored and want to be processed: the ``FileQueued`` of each, at one position.

    They are a group until it is completed or parted. A file's later events of its own are on its own subject.
    """

    #: Each file's id and event, in upload order; each is new and has no previous status.
    files: list[tuple[str, FileQueued]]


class FilesCompleted(Event, frozen=True, kw_only=True):
    """All files of a group have their results: the ``FileCompleted`` of each, at one position."""

    #: Each file's id and event, in the order of ``FilesQueued``.
    files: list[tuple[str, FileCompleted]]


class FilesParted(Event, frozen=True, kw_only=True):
    """The files of a group go on one by one: only from here on does anybody write events of their own."""


#: What each file event makes of the file. Batch events are not in it.
STATUS_AFTER: dict[type[Event], FileStatus] = {
    FileQueued: "queued",
    FileRejected: "rejected",
    FileStarted: "processing",
    FileWaiting: "waiting",
    FileCompleted: "completed",
    FileAttemptFailed: "retrying",
    FileFailed: "failed",
    FileCancelled: "cancelled",
}

BATCH_EVENTS: tuple[type[Event], ...] = (
    BatchCreated, BatchSealed, BatchPaused, BatchResumed, BatchCancelled,
    FilesRetried, BatchChanged, BatchCompleted, SourcesArchived, SourceForceArchived,
)  # fmt: skip
#: Events of the whole installation: no batch's and no file's, and no view of those counts them.
LIMIT_EVENTS: tuple[type[Event], ...] = (LimitsChanged,)
FILE_EVENTS: tuple[type[Event], ...] = tuple(STATUS_AFTER)
#: Events of several files at once; ``envelope.singly`` takes them apart.
GROUP_EVENTS: tuple[type[Event], ...] = (FilesQueued, FilesCompleted, FilesParted)

#: The registry: the envelope's type and the class that decodes it. Nothing is ever removed from it.
EVENT_TYPES: dict[str, type[Event]] = {
    f"tanda.{event.__name__}.v1": event
    for event in (*BATCH_EVENTS, *LIMIT_EVENTS, *FILE_EVENTS, *GROUP_EVENTS)
}
TYPE_NAMES: dict[type[Event], str] = {event: name for name, event in EVENT_TYPES.items()}
