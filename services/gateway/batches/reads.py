"""The routes that read the views. Every answer tells its log position, and waits for one if asked to."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import read
from services.gateway.batches.accept import batch_not_found
from services.gateway.batches.writes import owner_of
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.openapi import answers
from services.gateway.problems import InvalidFields
from tanda.contracts import ids
from tanda.contracts.envelope import CloudEvent, Recorded, singly, to_cloudevent
from tanda.contracts.events import NO_RESULT, Event, FileCompleted, FileQueued, FileRejected, FileStatus
from tanda.contracts.http import Batch, BatchQuery, BatchStatus, File, FileQuery, Page, Stats
from tanda.contracts.subjects import batch_subject, file_subject
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.domain.errors import NotFound
from tanda.domain.groups import group_of
from tanda.ports import AsOf

router = APIRouter(prefix="/v1", tags=["reading"], dependencies=[Depends(authenticate)])

T = TypeVar("T")
LIST_MAX = 200
DAYS_MAX = 366


async def waited_for(
    gateway: GatewayDep,
    min_seq: Annotated[int, Query(ge=0, description="Wait until the view has seen this position.")] = 0,
    wait: Annotated[float | None, Query(ge=0, le=30, description="Seconds to wait at most.")] = None,
) -> int:
    """A position that the views have reached, at least ``min_seq``; 0 where nobody asked for one."""
    if not min_seq:
        return 0
    wait_s = gateway.settings.min_seq_wait_s if wait is None else wait
    return await gateway.positions.reached(min_seq, wait_s)


#: Of a route whose read tells the position itself.
MIN_SEQ = Depends(waited_for)


async def view_position(gateway: GatewayDep, waited_for: Annotated[int, MIN_SEQ]) -> int:
    """The position of the views, at least ``min_seq``; taken before the read, so it never says too much."""
    return waited_for or await gateway.positions.now()


Position = Annotated[int, Depends(view_position)]
Limit = Annotated[int, Query(ge=1, le=LIST_MAX)]
Text = Annotated[str | None, Query(max_length=255)]
Cursor = Annotated[str | None, Query(max_length=512)]


@router.get("/batches", openapi_extra=answers(200, Page[Batch]), dependencies=[MIN_SEQ])
async def list_batches(
    request: Request,
    caller: CallerDep,
    gateway: GatewayDep,
    status: BatchStatus | Annotated[str, Query(pattern="^active$")] | None = None,
    tag: Text = None,
    q: Text = None,
    created_after: Text = None,
    owner: Text = None,
    sort: Annotated[str, Query(pattern="^-?created_at$")] = "-created_at",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The tenant's batches, newest first; ``status=active`` are those not finished yet."""
    query = BatchQuery(
        status=status,
        tag=tag,
        q=q,
        created_after=_time(created_after),
        owner=owner,
        sort="created_at" if sort == "created_at" else "-created_at",
        limit=limit,
        cursor=cursor,
    )
    seq, page = await gateway.views.batches(caller.tenant, query)
    page = msgspec.structs.replace(page, data=await gateway.reasons.explained(page.data))
    return read(request, page, seq)


@router.get("/batches/{batch_id}", openapi_extra=answers(200, Batch), dependencies=[MIN_SEQ])
async def get_batch(request: Request, batch_id: str, caller: CallerDep, gateway: GatewayDep) -> Response:
    """A batch with its counts and progress; the operator is told whose it is where it is another tenant's."""
    seq, mine = await gateway.views.batch(caller.tenant, batch_id)
    batch = mine
    if batch is None:
        seq, batch = await seen(gateway, caller, batch_id, None, gateway.views.batch)
    (explained,) = await gateway.reasons.explained([batch])
    answer = read(request, explained, seq)
    owner = caller.tenant if mine else await owner_of(gateway, caller, batch_id)
    if owner != caller.tenant:
        answer.headers["Tanda-Tenant"] = owner
    return answer


@router.get("/batches/{batch_id}/files", openapi_extra=answers(200, Page[File]), dependencies=[MIN_SEQ])
async def list_files(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    status: FileStatus | None = None,
    q: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The files of a batch in upload order."""
    query = FileQuery(status=status, q=q, limit=limit, cursor=cursor)

    async def look(scope: str | None, batch_id: str) -> AsOf[Page[File] | None]:
        return await gateway.views.files(scope, batch_id, query)

    seq, page = await seen(gateway, caller, batch_id, None, look)
    return read(request, page, seq)


@router.get("/batches/{batch_id}/files/{file_id}", openapi_extra=answers(200, File), dependencies=[MIN_SEQ])
async def get_file(
    request: Request, batch_id: str, file_id: str, caller: CallerDep, gateway: GatewayDep
) -> Response:
    """One file."""
    seq, file = await seen(gateway, caller, batch_id, file_id, gateway.views.file)
    return read(request, file, seq)


@router.get("/batches/{batch_id}/files/{file_id}/history", openapi_extra=answers(200, Page[dict[str, Any]]),
            dependencies=[MIN_SEQ])  # fmt: skip
async def get_history(
    request: Request, batch_id: str, file_id: str, caller: CallerDep, gateway: GatewayDep
) -> Response:
    """Every event of a file, oldest first, all attempts."""
    seq, _ = await seen(gateway, caller, batch_id, file_id, gateway.views.file)
    events = await file_history(gateway, await owner_of(gateway, caller, batch_id), batch_id, file_id)
    told = [_without_result(record) for record in events]
    return read(request, Page(data=told, next_cursor=None, has_more=False), seq)


@router.get("/stats", openapi_extra=answers(200, Stats))
async def get_stats(
    request: Request,
    caller: CallerDep,
    gateway: GatewayDep,
    position: Position,
    days: Annotated[int, Query(ge=1, le=DAYS_MAX)] = 30,
) -> Response:
    """Totals by status and day, throughput and durations."""
    return read(request, await gateway.views.stats(caller.tenant, days), position)


async def seen(
    gateway: Gateway,
    caller: Caller,
    batch_id: str,
    file_id: str | None,
    look: Callable[..., Awaitable[AsOf[T | None]]],
) -> AsOf[T]:
    """What a view knows; what the log knows already is waited for: no 404 for something that exists."""
    arguments = (batch_id,) if file_id is None else (batch_id, file_id)
    again = partial(look, caller.scope, *arguments)
    known = gateway.accept.known(batch_id)
    if known is not None and caller.scope in (None, known.tenant):
        await gateway.positions.announced(known.seq)
    seq, found = await again()
    if found is None:
        last = await last_event(gateway, caller, batch_id, file_id)
        seq, found = await gateway.positions.told(last.seq, gateway.settings.min_seq_wait_s, again)
    if found is None:
        raise file_not_found() if file_id else batch_not_found()
    return AsOf(seq, found)


async def last_event(gateway: Gateway, caller: Caller, batch_id: str, file_id: str | None) -> Recorded:
    """The last event of a file, or on a batch's own subject; NotFound where there is none."""
    tenant = await owner_of(gateway, caller, batch_id)
    if file_id is None:
        record = await gateway.log.last(batch_subject(tenant, batch_id))
    else:
        known = ids.is_id(file_id, ids.FILE)
        record = await _last_of_file(gateway, tenant, batch_id, file_id) if known else None
    if record is None:
        raise file_not_found() if file_id else batch_not_found()
    return record


async def _last_of_file(gateway: Gateway, tenant: str, batch_id: str, file_id: str) -> Recorded | None:
    """On its own subject where there is anything, else what its group tells of it."""
    record = await gateway.log.last(file_subject(tenant, batch_id, file_id))
    return record or next(reversed(await _told_by_group(gateway, tenant, batch_id, file_id)), None)


async def file_history(gateway: Gateway, tenant: str, batch_id: str, file_id: str) -> list[Recorded]:
    """Every event of a file, oldest first: the log has them under the file's own subject, or its group's."""
    subject = file_subject(tenant, batch_id, file_id)
    own = [record async for chunk in gateway.log.read(subject) for record in chunk]
    if own and _is_first(own[0].event):
        return own
    return await _told_by_group(gateway, tenant, batch_id, file_id) + own


async def _told_by_group(gateway: Gateway, tenant: str, batch_id: str, file_id: str) -> list[Recorded]:
    subject = file_subject(tenant, batch_id, group_of(file_id))
    chunks = gateway.log.read(subject)
    return [one async for chunk in chunks for one in singly(chunk) if one.file_id == file_id]


def _is_first(event: Event) -> bool:
    """Whether nothing can have been told of its file before."""
    return isinstance(event, FileRejected) or (isinstance(event, FileQueued) and event.previous is None)


def _without_result(record: Recorded) -> CloudEvent:
    """CloudEvents JSON; of an inline result its digest and size tell."""
    event = record.event
    if isinstance(event, FileCompleted):
        event = msgspec.structs.replace(event, result=NO_RESULT)
    return to_cloudevent(record, event)


def file_not_found() -> NotFound:
    return NotFound("file_not_found", "There is no such file in this batch.")


def _time(text: str | None) -> str | None:
    if not text:
        return None
    try:
        return rfc3339(epoch_ms(text))
    except (ValueError, OverflowError) as error:
        raise InvalidFields(("created_after", "is no RFC 3339 time with an offset")) from error
