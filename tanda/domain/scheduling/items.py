"""What of a batch's file goes to the work queue."""

import msgspec

from tanda.contracts.results import BlobRef
from tanda.contracts.work import WorkItem
from tanda.domain.scheduling.backlog import BatchEntry


def work_item(batch: BatchEntry, file_id: str) -> WorkItem:
    """What a runner needs to process a file."""
    file = batch.files[file_id]
    queued = file.queued
    return WorkItem(
        tenant=batch.tenant,
        batch_id=batch.batch_id,
        file_id=file_id,
        seq=file.seq,
        attempt=queued.attempt,
        name=queued.name,
        content_type=queued.content_type,
        bytes=queued.bytes,
        sha256=queued.sha256,
        source=queued.source,
        processor=queued.processor,
        processor_version=queued.processor_version,
        options=queued.options,
        lane=file.lane,
        effort=queued.effort,
        group=file.group,
    )


def move_source(batch: BatchEntry, file_id: str, source: BlobRef) -> None:
    """A file that is still under way reads its bytes elsewhere from now on."""
    file = batch.files.get(file_id)
    if file is not None:
        file.queued = msgspec.structs.replace(file.queued, source=source)
