"""An operator's override: sources into the archive without waiting for their results.

The bytes first, durable, then the events with their reason. The original stays until storage sees that
nothing needs it any more.
"""

from collections.abc import Iterable, Sequence

import structlog

from services.gateway.batches.accept import CHUNK_EVENTS, DECISIONS_MAX, Accept, last_of_batch
from tanda.contracts import events as e
from tanda.contracts.envelope import FOLLOWS, Origin, Recorded, new_event
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_subject
from tanda.domain.errors import Conflict, NotFound, Refusal, StateForbids, Unavailable
from tanda.domain.settling import archive_key, archived_ref
from tanda.ports import Blobs

REASON_CHARS_MAX = 1_000

_log = structlog.get_logger("tanda.gateway")


async def force_archive(
    accept: Accept,
    blobs: Blobs,
    tenant: str,
    batch_id: str,
    file_ids: Sequence[str],
    reason: str,
    origin: Origin,
) -> int:
    """Archives the sources of these files and returns the last position.

    409 ``source_archived`` where one is there already, 404 where a file or its source is not there.
    """
    _check(file_ids, reason)
    for _ in range(DECISIONS_MAX):
        records = await accept.all_records(tenant, batch_id)
        sources = {one: _stored(records, one) for one in dict.fromkeys(file_ids)}
        await _copy(blobs, sources.values())
        expected_seq, now = last_of_batch(records), accept.now_ms()
        new = [
            new_event(
                batch_subject(tenant, batch_id),
                e.SourceForceArchived(file_id=file_id, source=archived_ref(source), reason=reason.strip()),
                expected_seq=FOLLOWS if number else expected_seq,
                time_ms=now,
                origin=origin,
            )
            for number, (file_id, source) in enumerate(sources.items())
        ]
        try:
            written = await accept.append(new)
        except Conflict:
            continue
        _log.info("sources were archived by an operator", batch=batch_id, files=len(new), reason=reason,
                  actor=origin.actor)  # fmt: skip
        return written[-1].seq
    raise Unavailable("nats", "the batch is being written by others all the time")


def _check(file_ids: Sequence[str], reason: str) -> None:
    if not file_ids:
        raise Refusal("empty_selection", "Name the files whose sources are to be archived.")
    if len(file_ids) > CHUNK_EVENTS:
        raise Refusal("too_many_files", f"At most {CHUNK_EVENTS:,} files at once.")
    if not reason.strip() or len(reason) > REASON_CHARS_MAX:
        raise Refusal("reason_missing", f"Say why, in 1 to {REASON_CHARS_MAX:,} characters.")


def _stored(records: Sequence[Recorded], file_id: str) -> BlobRef:
    """Where a file's source is; refused where it is archived already or was never stored."""
    source: BlobRef | None = None
    known = False
    for record in records:
        match record.event:
            case e.FileQueued() as event if record.file_id == file_id:
                source, known = source or event.source, True
            case e.FileRejected() if record.file_id == file_id:
                known = True
            case e.SourcesArchived() as event if file_id in event.sources:
                source = event.sources[file_id]
            case e.SourceForceArchived() as event if event.file_id == file_id:
                source = event.source
            case _:
                pass
    if not known:
        raise NotFound("file_not_found", f"There is no file {file_id} in this batch.")
    if source is None:
        raise StateForbids(
            "no_source", f"The file {file_id} was rejected; its source was not kept.", "rejected"
        )
    if archive_key(source.key) is None:
        raise StateForbids("source_archived", f"The source of {file_id} is archived already.", "archived")
    return source


async def _copy(blobs: Blobs, sources: Iterable[BlobRef]) -> None:
    """Whole objects, each once; what is there already is not copied again."""
    keys = {source.key for source in sources}
    for key in sorted(keys):
        target = archive_key(key)
        assert target is not None, "only stored sources get here"
        if await blobs.stat(target) is None:
            try:
                await blobs.copy(key, target)
            except KeyError as error:
                raise NotFound("source_missing", "The stored bytes of this file are gone.") from error
    await blobs.barrier()
