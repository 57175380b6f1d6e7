"""The file aggregate: one file's life, from queued to a final status.

The table below is the whole state machine::

    (none) ──QueueFile──▶ queued ──StartFile──▶ processing ──CompleteFile──▶ completed
       └────RejectFile──▶ rejected   ▲  │            │  │ ├──FailFile──▶ failed
                                     │  └CancelFile─▶│  │ └──FailFile with retry_at──▶ retrying
                       RequeueFile───┴───────────────┼──┼─────────────────────────────────┘
                                     cancelled ◀─────┘  └──AwaitFile──▶ waiting

Quick work is completed straight from queued, and its event tells when it began.
``StartFile`` on a processing file is a redelivery after a lost worker. A person's retry
(``RequeueFile(forced=True)``) starts a failed, completed or cancelled file again. ``decide`` raises
a ``StateForbids`` and changes nothing where the table has no arrow. No clock, no I/O.
"""

from typing import Any

import msgspec

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.events import STATUS_AFTER, FileStatus
from tanda.contracts.results import BlobRef
from tanda.domain.effort import expected_effort
from tanda.domain.errors import StateForbids

_ALLOWED: dict[type[c.Command], frozenset[FileStatus | None]] = {
    c.QueueFile: frozenset({None}),
    c.RejectFile: frozenset({None}),
    c.StartFile: frozenset({"queued", "processing"}),
    c.AwaitFile: frozenset({"processing"}),
    c.CompleteFile: frozenset({"processing", "waiting"}),
    c.FailFile: frozenset({"processing", "waiting"}),
    c.RequeueFile: frozenset({"retrying"}),
    c.CancelFile: frozenset({"queued", "retrying", "waiting"}),
}
_COMPLETED_AT_ONCE: frozenset[FileStatus | None] = frozenset({"queued"})
_FORCED_REQUEUE: frozenset[FileStatus | None] = frozenset({"retrying", "failed", "completed", "cancelled"})


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """What the next decision about a file needs to know."""

    status: FileStatus | None = None
    attempt: int = 0
    #: Starts of the current attempt: more than one where workers were lost.
    deliveries: int = 0
    #: What its outcome repeats of the ``FileQueued``.
    effort: int = 0
    #: The facts that a further attempt repeats.
    queued: e.FileQueued | None = None


_UNKNOWN = FileState()


def initial() -> FileState:
    """A file that nothing is known of."""
    return _UNKNOWN


def decide(state: FileState, command: c.Command) -> list[e.Event]:
    """The events that a command brings about; StateForbids where the state has no arrow for it."""
    _check(state, command)
    match command:
        case c.QueueFile():
            return [_queued(command)]
        case c.RejectFile():
            return [e.FileRejected(**_fields(command))]
        case c.StartFile():
            return [_started(state, command)]
        case c.AwaitFile():
            return [e.FileWaiting(attempt=state.attempt, **_fields(command))]
        case c.CompleteFile():
            return [_completed(state, command)]
        case c.FailFile():
            return [_failed(state, command)]
        case c.RequeueFile():
            return [_requeued(state, command)]
        case c.CancelFile():
            return [e.FileCancelled(attempt=state.attempt, previous=_status(state))]
        case _:
            raise TypeError(f"not a file command: {type(command).__name__}")


def evolve(state: FileState, event: e.Event) -> FileState:
    """The state after an event; an event of no meaning here leaves it as it is."""
    status = STATUS_AFTER.get(type(event))
    if status is None:
        return state
    match event:
        case e.FileQueued():
            return FileState(status=status, attempt=event.attempt, effort=event.effort, queued=event)
        case e.FileStarted():
            return msgspec.structs.replace(
                state, status=status, attempt=event.attempt, deliveries=event.delivery
            )
        case _:
            return msgspec.structs.replace(state, status=status)


def completed_at_once(attempt: int, effort: int, command: c.CompleteFile, begun_at: str) -> e.FileCompleted:
    """What ``decide`` makes of quick work on a queued file: thousands a second, and nothing to be decided."""
    return e.FileCompleted(
        attempt=attempt,
        processor=command.processor,
        processor_version=command.processor_version,
        duration_ms=command.duration_ms,
        result_sha256=command.result_sha256,
        result_bytes=command.result_bytes,
        result=command.result,
        result_ref=command.result_ref,
        artifacts=command.artifacts,
        warnings=command.warnings,
        reused=command.reused,
        previous="queued",
        provider=command.provider,
        usage=command.usage,
        started_at=begun_at,
        effort=effort,
    )


def queued_state(item_attempt: int, item_effort: int = 0) -> FileState:
    """The state of a file whose last event is known to be the ``FileQueued`` of this attempt."""
    return FileState(status="queued", attempt=item_attempt, effort=item_effort)


def archived_source(state: FileState, source: BlobRef) -> FileState:
    """The same file with its source in the archive: a retry reads it there."""
    if state.queued is None:
        return state
    return msgspec.structs.replace(state, queued=msgspec.structs.replace(state.queued, source=source))


def _check(state: FileState, command: c.Command) -> None:
    allowed = _ALLOWED.get(type(command), frozenset())
    if isinstance(command, c.RequeueFile) and command.forced:
        allowed = _FORCED_REQUEUE
    if isinstance(command, c.CompleteFile) and command.started_at is not None:
        allowed = _COMPLETED_AT_ONCE
    if state.status not in allowed:
        status = state.status or "unknown"
        raise StateForbids(
            "file_state_forbids", f"{type(command).__name__} is not possible: the file is {status}.", status
        )


def _status(state: FileState) -> FileStatus:
    assert state.status is not None, "only a known file gets here"
    return state.status


def _started(state: FileState, command: c.StartFile) -> e.FileStarted:
    return e.FileStarted(
        attempt=state.attempt,
        delivery=state.deliveries + 1,
        worker=command.worker,
        processor=command.processor,
        processor_version=command.processor_version,
        previous=_status(state),
        provider=command.provider,
    )


def _completed(state: FileState, command: c.CompleteFile) -> e.FileCompleted:
    return e.FileCompleted(
        attempt=state.attempt, previous=_status(state), effort=state.effort, **_fields(command)
    )


def _failed(state: FileState, command: c.FailFile) -> e.Event:
    common: dict[str, Any] = {
        "attempt": state.attempt,
        "error": command.error,
        "duration_ms": command.duration_ms,
        "previous": _status(state),
        "provider": command.provider,
        "braked_until": command.braked_until,
        "usage": command.usage,
    }
    if command.retry_at is None:
        return e.FileFailed(quarantined=command.quarantined, effort=state.effort, **common)
    return e.FileAttemptFailed(retry_at=command.retry_at, **common)


def _requeued(state: FileState, command: c.RequeueFile) -> e.FileQueued:
    assert state.queued is not None, "a file that was never queued is not retrying"
    processor = command.processor or state.queued.processor
    return msgspec.structs.replace(
        state.queued,
        attempt=state.attempt + 1,
        previous=state.status,
        processor=processor,
        # What a person asked for holds until a person asks again.
        processor_version=command.processor_version if command.forced else state.queued.processor_version,
        effort=expected_effort(processor, state.queued.bytes) if command.forced else state.queued.effort,
    )


def _queued(command: c.QueueFile) -> e.FileQueued:
    """Field by field: an upload has thousands of them."""
    return e.FileQueued(
        name=command.name,
        index=command.index,
        content_type=command.content_type,
        bytes=command.bytes,
        sha256=command.sha256,
        source=command.source,
        processor=command.processor,
        options=command.options,
        effort=expected_effort(command.processor, command.bytes),
    )


def _fields(command: c.Command) -> dict[str, Any]:
    return msgspec.structs.asdict(command)
