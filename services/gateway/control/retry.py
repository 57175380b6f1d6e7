"""Starting settled files of a batch again.

The batch's ``FilesRetried`` and the files' ``FileQueued`` are one append, so that no file is asked for and
never queued. A large retry takes several such appends; a crash between two of them leaves the rest as
it was, and the same request again takes it up.
"""

from collections.abc import Iterable, Sequence

import msgspec

from services.gateway.batches.accept import CHUNK_EVENTS, DECISIONS_MAX, Accept, last_of_batch, state_of
from services.gateway.problems import InvalidFields
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import NewEvent, Origin, Recorded, new_event
from tanda.contracts.http import Retried
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_subject, file_subject
from tanda.contracts.work import Presence
from tanda.domain import batch, file
from tanda.domain.errors import Conflict, NotFound, StateForbids, Unavailable

#: Of one append: the batch's own event goes first.
CHUNK_FILES = CHUNK_EVENTS - 1


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which files: these, or all of a status."""

    file_ids: list[str] | None = None
    status: e.FileStatus = "failed"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A file as its events make it."""

    file_id: str
    state: file.FileState
    #: The last position on its own subject.
    seq: int


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """With what: another processor than before, and that in one version only; None: as it comes."""

    processor: str | None = None
    version: str | None = None


AS_BEFORE = Pinned()


def check_offered(pinned: Pinned, services: Iterable[Presence]) -> None:
    """InvalidFields where no worker runs that has the version that is asked for."""
    if pinned.version is None:
        return
    if pinned.processor is None:
        raise InvalidFields(("processor", "is needed with processor_version"))
    found = {one.processors.get(pinned.processor) for one in services if one.name == "worker"} - {None}
    if pinned.version not in found:
        there = ", ".join(sorted(filter(None, found))) or "none"
        raise InvalidFields(
            ("processor_version", f"no running worker has it; of {pinned.processor} they have: {there}")
        )


async def retry(
    accept: Accept, tenant: str, batch_id: str, selection: Selection, pinned: Pinned, origin: Origin
) -> tuple[Retried, int]:
    """Queues the selected files again; how many, and the last position.

    Raises NotFound for a file that is not there, StateForbids where the batch or a named file forbids it,
    ``empty_selection`` where nothing matches.
    """
    done: set[str] = set()
    seq = 0
    for _ in range(DECISIONS_MAX):
        records = await accept.all_records(tenant, batch_id)
        files = [one for one in _chosen(_known(records), selection) if one.file_id not in done]
        if done and not files:
            break
        command = c.RetryFiles(
            file_ids=[one.file_id for one in files], processor=pinned.processor,
            processor_version=pinned.version, total=len(done) + len(files),
        )  # fmt: skip
        batch.decide(state_of(records), command)
        try:
            seq = await _append_all(accept, tenant, batch_id, records, files, command, origin, done)
        except Conflict:
            continue
        return Retried(retried=len(done)), seq
    if done and seq:
        return Retried(retried=len(done)), seq
    raise Unavailable("nats", "the batch is being written by others all the time")


def _known(records: Sequence[Recorded]) -> dict[str, Known]:
    """Every file of a batch, with its source where it is now."""
    files: dict[str, Known] = {}
    sources: dict[str, BlobRef] = {}
    for record in records:
        match record.event:
            case e.SourcesArchived() as event:
                sources |= event.sources
            case e.SourceForceArchived() as event:
                sources[event.file_id] = event.source
            case event if record.file_id is not None:
                before = files.get(record.file_id)
                state = file.evolve(before.state if before else file.initial(), event)
                files[record.file_id] = Known(file_id=record.file_id, state=state, seq=record.subject_seq)
            case _:
                pass
    for file_id, source in sources.items():
        if known := files.get(file_id):
            state = file.archived_source(known.state, source)
            files[file_id] = msgspec.structs.replace(known, state=state)
    return files


def _chosen(files: dict[str, Known], selection: Selection) -> list[Known]:
    if selection.file_ids is None:
        return [one for one in files.values() if one.state.status == selection.status]
    missing = [one for one in selection.file_ids if one not in files]
    if missing:
        raise NotFound("file_not_found", f"There is no file {missing[0]} in this batch.")
    return [files[one] for one in dict.fromkeys(selection.file_ids)]


async def _append_all(
    accept: Accept,
    tenant: str,
    batch_id: str,
    records: Sequence[Recorded],
    files: Sequence[Known],
    command: c.RetryFiles,
    origin: Origin,
    done: set[str],
) -> int:
    """Each chunk with the batch's event before it; ``done`` tells how far it came."""
    expected_seq, seq = last_of_batch(records), 0
    requeue = c.RequeueFile(
        processor=command.processor, processor_version=command.processor_version, forced=True
    )
    subject = batch_subject(tenant, batch_id)
    for start in range(0, len(files), CHUNK_FILES):
        part = files[start : start + CHUNK_FILES]
        mine = msgspec.structs.replace(command, file_ids=[one.file_id for one in part])
        now = accept.now_ms()
        head = new_event(subject, _retried(mine), expected_seq=expected_seq, time_ms=now, origin=origin)
        body = [_queued(tenant, batch_id, one, requeue, now, origin) for one in part]
        written = await accept.append([head, *body])
        expected_seq, seq = written[0].seq, written[-1].seq
        done.update(mine.file_ids)
    return seq


def _retried(command: c.RetryFiles) -> e.FilesRetried:
    return e.FilesRetried(
        file_ids=command.file_ids, processor=command.processor,
        processor_version=command.processor_version, total=command.total,
    )  # fmt: skip


def _queued(
    tenant: str, batch_id: str, one: Known, requeue: c.RequeueFile, now: int, origin: Origin
) -> NewEvent:
    try:
        (event,) = file.decide(one.state, requeue)
    except StateForbids as refusal:
        detail = f"The file {one.file_id} is {one.state.status}: only settled files are retried."
        raise StateForbids("file_state_forbids", detail, str(one.state.status)) from refusal
    subject = file_subject(tenant, batch_id, one.file_id)
    return new_event(subject, event, expected_seq=one.seq, time_ms=now, origin=origin)
