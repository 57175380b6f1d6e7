"""What time has brought about: an alarm of the backlog as something to be done."""

from typing import Literal

import msgspec

from tanda.domain.file import FileState
from tanda.domain.scheduling.backlog import BatchEntry


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is to be done now, with all that is needed to decide it.

    ``retry``: RequeueFile. ``deadline``: FailFile, since the confirmation did not come. ``cancel``:
    CancelFile. ``expiry``: CancelBatch. Where another writer was first, the log says so.
    """

    kind: Literal["retry", "deadline", "cancel", "expiry"]
    tenant: str
    batch_id: str
    #: None for the batch itself.
    file_id: str | None = None
    #: The last position on the file's subject: what the next event expects. 0 for a batch.
    seq: int = 0
    #: The file as of that position; None for a batch.
    state: FileState | None = None


def file_due(batch: BatchEntry, file_id: str) -> Due | None:
    """What a file's alarm asks for; None where it asks for nothing any more."""
    file = batch.files[file_id]
    if file.doomed:
        kind = "cancel"
    elif file.status == "retrying":
        kind = "retry"
    elif file.status == "waiting":
        kind = "deadline"
    else:
        return None
    return Due(
        kind=kind,
        tenant=batch.tenant,
        batch_id=batch.batch_id,
        file_id=file_id,
        seq=file.last_seq,
        state=FileState(
            status=file.status, attempt=file.queued.attempt, effort=file.queued.effort, queued=file.queued
        ),
    )


def batch_due(batch: BatchEntry) -> Due | None:
    """The same of a batch's alarm."""
    if batch.cancelled or batch.completed:
        return None
    return Due(kind="expiry", tenant=batch.tenant, batch_id=batch.batch_id)
