"""The front end of scheduled publications (002): a clip is a file, its user the owner of the batch.

A batch of it comes into being by ``POST /v1/batches`` with ``owner`` and, in ``metadata``, ``jobId``,
``publishMode`` and ``scheduledDate``; see docs/legacy.md.
"""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import read
from services.gateway.batches.writes import owner_of
from services.gateway.control.retry import AS_BEFORE, Selection, retry
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.idempotency import IdempotencyKey
from services.gateway.legacy.commanding import Deed, act, commanded
from services.gateway.legacy.metricool_live import Message, stream
from services.gateway.legacy.metricool_words import STATUS, clip_status, current_index, percent_settled
from services.gateway.legacy.reading import Fresh, all_files, batch_seen, message_of
from services.gateway.legacy.whose import owner_named
from services.gateway.live.routes import EVENT_STREAM
from services.gateway.openapi import answers
from tanda.contracts import commands as c
from tanda.contracts.envelope import Origin
from tanda.contracts.http import Batch, BatchQuery, Body, File

router = APIRouter(tags=["older front ends"], dependencies=[Depends(authenticate)])

#: Rows of one query for the active batches.
BATCHES_ROWS = 200


class Clip(Body, frozen=True, kw_only=True):
    #: From 0, in upload order.
    index: int
    title: str
    status: Literal["pending", "uploading", "waiting_confirmation", "published", "failed"]
    fileId: str
    attempt: int
    error: str | None
    resultUrl: str | None


class MetricoolBatch(Body, frozen=True, kw_only=True):
    batchId: str
    jobId: Any
    status: str
    publishMode: Any
    total: int
    published: int
    #: Rejected and cancelled ones too.
    failed: int
    currentIndex: int
    #: Settled of all, whole percent; 100 only for all of them.
    progress: int
    createdAt: str
    startAt: str | None
    clips: list[Clip]


class OneBatch(Body, frozen=True, kw_only=True):
    success: Literal[True] = True
    batch: MetricoolBatch


class ActiveBatches(Body, frozen=True, kw_only=True):
    success: Literal[True] = True
    batches: list[MetricoolBatch]
    count: int


@router.get("/api/metricool/batches/active", openapi_extra=answers(200, ActiveBatches))
async def active_batches(
    request: Request,
    caller: CallerDep,
    gateway: GatewayDep,
    position: Fresh,
    userId: Annotated[str, Query(min_length=1, max_length=255)],  # the old name
) -> Response:
    """The unfinished batches of one user, newest first."""
    owner = owner_named(caller, "userId", userId)
    query, found = BatchQuery(status="active", owner=owner, limit=BATCHES_ROWS), list[MetricoolBatch]()
    while True:
        page = (await gateway.views.batches(caller.tenant, query)).found
        found += [await _told(gateway, caller, batch) for batch in page.data]
        if not page.has_more:
            return read(request, ActiveBatches(batches=found, count=len(found)), position)
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


@router.get("/api/metricool/batch/{batch_id}", openapi_extra=answers(200, OneBatch))
async def one_batch(
    request: Request, batch_id: str, caller: CallerDep, gateway: GatewayDep, position: Fresh
) -> Response:
    """A batch with its clips."""
    batch = await batch_seen(gateway, caller, batch_id)
    return read(request, OneBatch(batch=await _told(gateway, caller, batch)), position)


@router.get("/api/metricool/status", openapi_extra=answers(200, OneBatch))
async def status(
    request: Request,
    caller: CallerDep,
    gateway: GatewayDep,
    position: Fresh,
    batchId: Annotated[str, Query(max_length=255)],  # the old name
) -> Response:
    """The same, by the query."""
    return await one_batch(request, batchId, caller, gateway, position)


@router.post("/api/metricool/batch/{batch_id}/pause", openapi_extra=answers(200, OneBatch))
async def pause(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Lets no further clip begin."""
    deed = commanded(gateway, batch_id, c.PauseBatch())
    return await _press(request, caller, gateway, idempotency_key, batch_id, deed)


@router.post("/api/metricool/batch/{batch_id}/resume", openapi_extra=answers(200, OneBatch))
async def resume(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Goes on after a pause."""
    deed = commanded(gateway, batch_id, c.ResumeBatch())
    return await _press(request, caller, gateway, idempotency_key, batch_id, deed)


@router.post("/api/metricool/batch/{batch_id}/cancel", openapi_extra=answers(200, OneBatch))
async def cancel(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Stops what has not begun."""
    deed = commanded(gateway, batch_id, c.CancelBatch())
    return await _press(request, caller, gateway, idempotency_key, batch_id, deed)


@router.post("/api/metricool/batch/{batch_id}/retry-failed", openapi_extra=answers(200, OneBatch))
async def retry_failed(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Starts the failed clips again."""

    async def deed(tenant: str, origin: Origin) -> int:
        _, seq = await retry(gateway.accept, tenant, batch_id, Selection(), AS_BEFORE, origin)
        return seq

    return await _press(request, caller, gateway, idempotency_key, batch_id, deed)


@router.get(
    "/api/metricool/batch/{batch_id}/events", openapi_extra=answers(200, Message, media_type=EVENT_STREAM)
)
async def follow(
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The batch live; with ``Last-Event-ID`` from there on, without a gap."""
    tenant = await owner_of(gateway, caller, batch_id)
    return await stream(gateway, tenant, batch_id, last_event_id)


async def _press(
    request: Request, caller: Caller, gateway: Gateway, key: str | None, batch_id: str, deed: Deed
) -> Response:
    async def tell(batch: Batch) -> OneBatch:
        return OneBatch(batch=await _told(gateway, caller, batch))

    return await act(request, caller, gateway, key, batch_id, deed, tell)


async def _told(gateway: Gateway, caller: Caller, batch: Batch) -> MetricoolBatch:
    clips = [_clip(file) for file in await all_files(gateway, caller, batch.id)]
    counts = batch.counts
    return MetricoolBatch(
        batchId=batch.id,
        jobId=batch.metadata.get("jobId"),
        status=STATUS[batch.status],
        publishMode=batch.metadata.get("publishMode"),
        total=counts.total,
        published=counts.completed,
        failed=counts.failed + counts.rejected + counts.cancelled,
        currentIndex=current_index([clip.status for clip in clips]),
        progress=percent_settled(counts),
        createdAt=batch.created_at,
        startAt=batch.start_at,
        clips=clips,
    )


def _clip(file: File) -> Clip:
    return Clip(
        index=file.index,
        title=file.name,
        status=clip_status(file.status),
        fileId=file.id,
        attempt=file.attempt,
        error=message_of(file),
        resultUrl=file.result_url,
    )
