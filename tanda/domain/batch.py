"""The batch aggregate: what may be asked of a batch, and what has become of it.

Its files are aggregates of their own; what a batch knows of them (how many, how many settled) comes
in with the command. States::

    (none) ──CreateBatch──▶ open ──SealBatch──▶ sealed ──CompleteBatch──▶ completed
                                        ▲                                     │
                                        └──────────────RetryFiles─────────────┘
    open, sealed ──PauseBatch──▶ paused ──ResumeBatch──▶ as before; sealing a paused one keeps it paused
    open, sealed, paused ──CancelBatch──▶ cancelled ──RetryFiles, if it was sealed──▶ sealed
    open, sealed, paused ──ChangeBatch──▶ the same

Every batch ends in a ``BatchCompleted``, a cancelled one as well, whether or not it was ever sealed.

A batch of the wire (``queued``, ``processing`` …) is this state with its counts: see ``progress``.
"""

from typing import Any, Literal

import msgspec

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.domain.errors import Refusal, StateForbids

BatchPhase = Literal["open", "sealed", "paused", "completed", "cancelled"]

_ALLOWED: dict[type[c.Command], frozenset[BatchPhase | None]] = {
    c.CreateBatch: frozenset({None}),
    c.SealBatch: frozenset({"open", "paused"}),
    c.PauseBatch: frozenset({"open", "sealed"}),
    c.ResumeBatch: frozenset({"paused"}),
    c.CancelBatch: frozenset({"open", "sealed", "paused"}),
    c.RetryFiles: frozenset({"sealed", "paused", "completed", "cancelled"}),
    c.ChangeBatch: frozenset({"open", "sealed", "paused"}),
    c.CompleteBatch: frozenset({"sealed", "paused", "cancelled"}),
    c.ArchiveSources: frozenset({"open", "sealed", "paused", "completed", "cancelled"}),
    c.ForceArchiveSource: frozenset({"open", "sealed", "paused", "completed", "cancelled"}),
}


class BatchState(msgspec.Struct, frozen=True, kw_only=True):
    """What the next decision about a batch needs to know."""

    phase: BatchPhase | None = None
    sealed: bool = False
    total: int = 0
    #: Of the results: 0 before the first ones.
    version: int = 0
    #: The batch is complete at ``version``; false again after a retry.
    settled: bool = False


def initial() -> BatchState:
    """A batch that nothing is known of."""
    return BatchState()


def decide(state: BatchState, command: c.Command) -> list[e.Event]:
    """The events that a command brings about; StateForbids where the state has no arrow for it."""
    _check(state, command)
    match command:
        case c.CreateBatch():
            return [e.BatchCreated(**_fields(command))]
        case c.SealBatch():
            if command.total == 0:
                raise Refusal("empty_batch", "A batch needs at least one file.")
            return [e.BatchSealed(**_fields(command))]
        case c.PauseBatch():
            return [e.BatchPaused(reason=command.reason)]
        case c.ResumeBatch():
            return [e.BatchResumed()]
        case c.CancelBatch():
            return [e.BatchCancelled(reason=command.reason)]
        case c.RetryFiles():
            if not command.file_ids:
                raise Refusal("empty_selection", "No file of this batch matches what is to be retried.")
            return [e.FilesRetried(**_fields(command))]
        case c.ChangeBatch():
            return [e.BatchChanged(**_fields(command))]
        case c.CompleteBatch():
            return [e.BatchCompleted(version=state.version + 1, **_fields(command))]
        case c.ArchiveSources():
            return [e.SourcesArchived(sources=command.sources)]
        case c.ForceArchiveSource():
            return [e.SourceForceArchived(**_fields(command))]
        case _:
            raise TypeError(f"not a batch command: {type(command).__name__}")


def evolve(state: BatchState, event: e.Event) -> BatchState:
    """The state after an event; an event of no meaning here leaves it as it is."""
    replace = msgspec.structs.replace
    match event:
        case e.BatchCreated():
            return BatchState(phase="open")
        case e.BatchSealed():
            phase = "sealed" if state.phase == "open" else state.phase
            return replace(state, phase=phase, sealed=True, total=event.total)
        case e.BatchPaused():
            return replace(state, phase="paused")
        case e.BatchResumed():
            return replace(state, phase="sealed" if state.sealed else "open")
        case e.BatchCancelled():
            return replace(state, phase="cancelled")
        case e.FilesRetried():
            phase = "paused" if state.phase == "paused" else "sealed"
            return replace(state, phase=phase, settled=False)
        case e.BatchCompleted():
            phase = "cancelled" if state.phase == "cancelled" else "completed"
            return replace(state, phase=phase, version=event.version, settled=True)
        case _:
            return state


def _check(state: BatchState, command: c.Command) -> None:
    if state.phase not in _ALLOWED.get(type(command), frozenset()):
        raise _forbids(
            state, f"{type(command).__name__} is not possible: the batch is {state.phase or 'unknown'}."
        )
    match command:
        case c.SealBatch() if state.sealed:
            raise _forbids(state, "SealBatch is not possible: the batch is sealed already.")
        case c.RetryFiles() if not state.sealed:
            raise _forbids(state, "RetryFiles is not possible: the batch was cancelled before it was whole.")
        case c.CompleteBatch():
            _check_complete(state, command)
        case _:
            pass


def _check_complete(state: BatchState, command: c.CompleteBatch) -> None:
    if state.settled or not (state.sealed or state.phase == "cancelled"):
        raise _forbids(state, "The batch awaits no results.")
    final = sum(count for status, count in command.counts.items() if status in e.FINAL_STATUSES)
    files = sum(command.counts.values())
    # A file that was added while the batch was being sealed is not in its total, and is waited for too.
    if final < max(files, state.total):
        detail = f"Only {final} of {max(files, state.total)} files are settled."
        raise StateForbids("batch_not_settled", detail, str(state.phase))


def _forbids(state: BatchState, detail: str) -> StateForbids:
    return StateForbids("batch_state_forbids", detail, state.phase or "unknown")


def _fields(command: c.Command) -> dict[str, Any]:
    return {name: getattr(command, name) for name in command.__struct_fields__}
