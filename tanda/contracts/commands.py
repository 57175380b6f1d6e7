"""What can be asked of a batch or a file. Imperative; the aggregates decide what comes of it."""

from typing import Any

import msgspec

from tanda.contracts.events import Changeable, FileStatus, Priority
from tanda.contracts.results import BlobRef, FileError, StoredArtifact, Usage


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """An intent; refused by a ``Refusal`` where the state forbids it."""


# -- of a batch -----------------------------------------------------------------------------------


class CreateBatch(Command, frozen=True, kw_only=True):
    name: str
    processor: str = "auto"
    options: dict[str, Any] = {}
    priority: Priority = "normal"
    start_at: str | None = None
    expires_at: str | None = None
    metadata: dict[str, Any] = {}
    tags: list[str] = []
    open: bool = False
    owner: str | None = None
    limit: int | None = None


class SealBatch(Command, frozen=True, kw_only=True):
    total: int
    rejected: int = 0
    bytes: int = 0


class PauseBatch(Command, frozen=True, kw_only=True):
    reason: str | None = None


class ResumeBatch(Command, frozen=True, kw_only=True):
    pass


class CancelBatch(Command, frozen=True, kw_only=True):
    reason: str | None = None


class RetryFiles(Command, frozen=True, kw_only=True):
    file_ids: list[str]
    processor: str | None = None
    processor_version: str | None = None
    total: int = 0


class ChangeBatch(Command, frozen=True, kw_only=True):
    changed: list[Changeable]
    priority: Priority | None = None
    start_at: str | None = None
    expires_at: str | None = None
    limit: int | None = None


class CompleteBatch(Command, frozen=True, kw_only=True):
    through_seq: int
    results: BlobRef
    counts: dict[FileStatus, int]
    eta_ratio: float | None = None


class ArchiveSources(Command, frozen=True, kw_only=True):
    sources: dict[str, BlobRef]


class ForceArchiveSource(Command, frozen=True, kw_only=True):
    file_id: str
    source: BlobRef
    reason: str


# -- of a file ------------------------------------------------------------------------------------


class QueueFile(Command, frozen=True, kw_only=True):
    name: str
    index: int
    content_type: str
    bytes: int
    sha256: str
    source: BlobRef
    processor: str
    options: dict[str, Any] = {}


class RejectFile(Command, frozen=True, kw_only=True):
    name: str
    index: int
    content_type: str
    bytes: int
    error: FileError
    sha256: str | None = None


class RequeueFile(Command, frozen=True, kw_only=True):
    """The next attempt: its time has come, or someone asked for it."""

    #: Another processor than before, by name.
    processor: str | None = None
    #: Only this version of it, in this and the attempts that follow by themselves.
    processor_version: str | None = None
    #: Asked for by a person: also a failed, completed or cancelled file starts again.
    forced: bool = False


class StartFile(Command, frozen=True, kw_only=True):
    worker: str
    processor: str
    processor_version: str
    provider: str | None = None


class AwaitFile(Command, frozen=True, kw_only=True):
    token_sha256: str
    deadline: str


class CompleteFile(Command, frozen=True, kw_only=True):
    processor: str
    processor_version: str
    duration_ms: int
    result_sha256: str
    result_bytes: int
    result: msgspec.Raw
    result_ref: BlobRef | None = None
    artifacts: list[StoredArtifact] = []
    warnings: list[str] = []
    reused: bool = False
    provider: str | None = None
    usage: Usage | None = None
    #: RFC 3339, where no ``StartFile`` went before.
    started_at: str | None = None


class FailFile(Command, frozen=True, kw_only=True):
    """An attempt failed; whether another follows is the retry policy's decision."""

    error: FileError
    duration_ms: int = 0
    #: RFC 3339, or None for good.
    retry_at: str | None = None
    provider: str | None = None
    #: RFC 3339; nobody calls the provider before.
    braked_until: str | None = None
    quarantined: bool = False
    usage: Usage | None = None


class CancelFile(Command, frozen=True, kw_only=True):
    pass
