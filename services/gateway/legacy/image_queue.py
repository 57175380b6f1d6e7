"""The front end of one machine's image queue (003): an image stays in its place until its result is durable.

The queue is every source of the tenant that is not archived yet, in order of arrival.
"""

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import Answer, read, written
from services.gateway.control.archive import force_archive
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.idempotency import IdempotencyKey
from services.gateway.legacy.commanding import once
from services.gateway.legacy.reading import Fresh
from services.gateway.openapi import answers
from services.gateway.upload.body import json_body
from tanda.contracts.http import Body, File
from tanda.contracts.http import Request as Asked
from tanda.domain.errors import StateForbids

router = APIRouter(tags=["older front ends"], dependencies=[Depends(authenticate)])

#: The old call gave no reason; who called is recorded beside it.
REASON = "Archivado por el operador con force_archive_image."


class QueueSystem(Body, frozen=True, kw_only=True):
    """What the old answer told of its machine, as far as it means something here."""

    #: Positions of the log and of the views; equal where nothing is behind.
    log_position: int
    view_position: int
    #: Files of the tenant that are at work.
    processing_count: int
    failed_count: int
    #: Whether the scheduler has a leader, else images wait.
    scheduler_running: bool


class ProcessingStatus(Body, frozen=True, kw_only=True):
    is_processing: bool
    #: The name of the image at the head of the queue: what ``force_archive_image`` would archive.
    current_image: str | None
    #: That image is through; its result or its archive is awaited.
    awaiting_upload: bool
    #: Images that are through and not archived yet.
    pending_upload_count: int
    queued_count: int
    archived_count: int
    system: QueueSystem


class ForceArchiveImage(Asked, frozen=True, kw_only=True):
    reason: str | None = None


class ArchivedImage(Body, frozen=True, kw_only=True):
    success: bool = True
    archived_image: str
    batch_id: str
    file_id: str
    reason: str
    message: str = "Imagen archivada."


@router.get("/processing_status", openapi_extra=answers(200, ProcessingStatus))
async def processing_status(
    request: Request, caller: CallerDep, gateway: GatewayDep, position: Fresh
) -> Response:
    """The queue of the caller's tenant."""
    places = await gateway.views.places(caller.tenant)
    totals = (await gateway.views.stats(caller.tenant, 1)).totals
    status = await gateway.reasons.status()
    head = places.head
    body = ProcessingStatus(
        is_processing=totals.processing > 0,
        current_image=head.name if head else None,
        awaiting_upload=head is not None and head.status in ("completed", "waiting"),
        pending_upload_count=places.through,
        queued_count=totals.queued,
        archived_count=places.archived,
        system=QueueSystem(
            log_position=await gateway.log.position(),
            view_position=position,
            processing_count=totals.processing,
            failed_count=totals.failed,
            scheduler_running=status is not None,
        ),
    )
    return read(request, body, position)


@router.post("/force_archive_image", openapi_extra=answers(200, ArchivedImage, body=ForceArchiveImage))
async def force_archive_image(
    request: Request, caller: CallerDep, gateway: GatewayDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Archives the image at the head of the queue: an override, recorded with who and why."""
    asked, raw = await json_body(request, gateway.settings, ForceArchiveImage)
    reason = (asked.reason or "").strip() or REASON
    origin = gateway.accept.origin(idempotency_key, caller.actor)

    async def work() -> Answer:
        head = await _head(gateway, caller)
        of_head = caller.tenant, head.batch_id, [head.id]
        seq = await force_archive(gateway.accept, gateway.blobs, *of_head, reason, origin)
        body = ArchivedImage(archived_image=head.name, batch_id=head.batch_id, file_id=head.id, reason=reason)
        return written(200, body, seq)

    return await once(request, caller, gateway, idempotency_key, work, raw)


async def _head(gateway: Gateway, caller: Caller) -> File:
    """The head as of now: what was archived a moment ago is not archived again."""
    seq = await gateway.log.position()
    await gateway.positions.reached(seq, gateway.settings.min_seq_wait_s)
    head = (await gateway.views.places(caller.tenant)).head
    if head is None:
        raise StateForbids("no_stored_image", "There is no stored image to archive.", "empty")
    return head
