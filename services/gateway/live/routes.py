"""``GET /v1/events`` as server-sent events, and a batch's events as a JSON feed for pollers."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Depends, Header, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import read
from services.gateway.batches.writes import batch_from_log, owner_of
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.live.chunks import Audience, chunk_of
from services.gateway.live.connection import CONNECTION, GatewayProtocol
from services.gateway.live.hub import Hub, Subscription
from services.gateway.live.wire import SEND_S_MAX
from services.gateway.openapi import answers
from services.gateway.problems import Busy
from tanda.contracts import codec
from tanda.contracts.envelope import CloudEvent, singly, to_cloudevent
from tanda.contracts.http import Batch, BatchQuery, Page
from tanda.contracts.subjects import batch_all, tenant_all
from tanda.domain.errors import NotFound, WorldFailure
from tanda.ports import AsOf

router = APIRouter(prefix="/v1", tags=["live"], dependencies=[Depends(authenticate)])

STREAM_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
EVENT_STREAM = "text/event-stream"
PING = b": ping\n\n"
#: Said at once where no snapshot is, so that proxies and browsers see the stream begin.
HELLO = b": here\n\n"
#: How soon a browser comes back, in milliseconds.
RETRY = b"retry: 1000\n"
SNAPSHOT_BATCHES_MAX = 1_000
FEED_EVENTS_MAX = 1_000
#: No log has a position beyond it, and JetStream takes none.
SEQ_MAX = 2**63 - 1
_SEQ = re.compile(r"[0-9]{1,19}")

log = structlog.get_logger(__name__)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was before the first event of a stream: the active batches, or the one asked for."""

    seq: int
    batches: list[Batch] | msgspec.UnsetType = msgspec.UNSET
    batch: Batch | msgspec.UnsetType = msgspec.UNSET


@router.get("/events", openapi_extra=answers(200, bytes, media_type=EVENT_STREAM))
async def follow_events(
    caller: CallerDep,
    gateway: GatewayDep,
    batch: Annotated[str | None, Query()] = None,
    after: Annotated[int | None, Query(ge=0)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Every event of the tenant, or of one batch, live: a snapshot first, then in log order."""
    resume = _position(last_event_id)
    return await stream(gateway, caller, batch, after if resume is None else resume)


@router.get("/batches/{batch_id}/events", openapi_extra=answers(200, Page[Any]))
async def batch_events(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    after: Annotated[int, Query(ge=0, le=SEQ_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=FEED_EVENTS_MAX)] = 200,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The batch's events after a position as a JSON feed; live where ``Accept`` asks for a stream."""
    if EVENT_STREAM in request.headers.get("accept", ""):
        resume = last_event_id or request.query_params.get("after")
        return await stream(gateway, caller, batch_id, _position(resume))
    tenant = await owner_of(gateway, caller, batch_id)
    found: list[CloudEvent] = []
    seq = after
    async with aclosing(_read(gateway, batch_all(tenant, batch_id), after, None)) as chunks:
        async for records in chunks:
            found += map(to_cloudevent, singly(records))
            if len(found) > limit:
                break
    if not found and after == 0:
        raise NotFound("batch_not_found", "There is no such batch.")
    # What one position tells is never torn: a page goes on to its end.
    seq = found[limit - 1].seq if len(found) >= limit else found[-1].seq if found else after
    page = [one for one in found if one.seq <= seq]
    return read(request, Page(data=page, next_cursor=str(seq), has_more=len(found) > len(page)), seq)


def _position(text: str | None) -> int | None:
    """A position as a client tells it; None, and with it a snapshot, where it is none of ours."""
    return int(text) if text and _SEQ.fullmatch(text) else None


async def stream(gateway: Gateway, caller: Caller, batch_id: str | None, resume: int | None) -> Response:
    """The stream from a position, or from a snapshot where none is given or it is too far behind."""
    hub = gateway.hub
    await admit(hub)
    tenant = caller.tenant
    if batch_id is not None:
        tenant = await owner_of(gateway, caller, batch_id)
        await gateway.accept.batch_records(tenant, batch_id)
    # Registered before anything is read: what is appended from now on is in the queue.
    audience: Audience = (tenant, batch_id)
    subscription = hub.subscribe(audience)
    caught_up_to = hub.position
    try:
        first, seq = await _begin(gateway, tenant, batch_id, resume, caught_up_to)
    except BaseException:
        hub.unsubscribe(subscription)
        raise
    subscription.seq = seq
    opening = _opening(gateway, subscription, first, caught_up_to)
    return LiveResponse(hub, subscription, _frames(gateway, subscription, opening), opening)


async def admit(hub: Hub) -> None:
    """Busy where the process has as many live clients as it takes."""
    if hub.clients >= hub.clients_max:
        raise Busy("busy", "As many live clients as this process takes are connected.")
    await hub.ready()


class LiveResponse(StreamingResponse):
    """A stream whose subscription ends with its connection, also where that ended before its first byte.

    Where its ``opening`` is all that is special to it, the hub takes the connection over after that: no task
    and no request are left of it.
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        hub: Hub,
        subscription: Subscription,
        body: AsyncGenerator[bytes],
        opening: AsyncGenerator[bytes] | None = None,
    ) -> None:
        super().__init__(body, headers=STREAM_HEADERS)
        self._hub = hub
        self._subscription = subscription
        self._body = body
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_S_MAX):
                await send(message)

        scope["state"]["live"] = True
        connection = scope.get("extensions", {}).get(CONNECTION)
        try:
            if self._opening and connection is not None and scope["http_version"] == "1.1":
                await self._open(self._opening, connection, send_in_time)
            else:
                await super().__call__(scope, receive, send_in_time)
        except* TimeoutError:
            log.info("A live client took nothing for too long and was left.", clients=self._hub.clients)
        finally:
            self._hub.unsubscribe(self._subscription)
            await self._body.aclose()

    async def _open(self, opening: AsyncGenerator[bytes], connection: GatewayProtocol, send: Send) -> None:
        """The snapshot, or what was missed; then the connection is the hub's."""
        transport = connection.transport
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for piece in opening:
            if transport.is_closing():
                break
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        wire = self._hub.wire(self._subscription, transport)
        if not connection.hand_over(wire):
            wire.lost()
        elif self._subscription.ended:
            wire.end()


async def _begin(
    gateway: Gateway, tenant: str, batch_id: str | None, resume: int | None, position: int
) -> tuple[bytes, int]:
    """The first bytes, and the position that they stand for."""
    if resume is not None and await _resumable(gateway, resume, position):
        return HELLO, resume
    frame, seq = await snapshot_frame(gateway, tenant, batch_id, position)
    return RETRY + frame, seq


async def snapshot_frame(
    gateway: Gateway, tenant: str, batch_id: str | None, position: int
) -> tuple[bytes, int]:
    """A snapshot as it is sent, and its position."""
    snapshot = await _snapshot(gateway, tenant, batch_id, position)
    return b"id: %d\nevent: snapshot\ndata: %s\n\n" % (snapshot.seq, codec.encode(snapshot)), snapshot.seq


async def _resumable(gateway: Gateway, resume: int, position: int) -> bool:
    """Not too far behind; and not ahead, unless another gateway was quicker by a moment."""
    if resume < position - gateway.settings.sse_resume_events_max:
        return False
    return resume <= position or resume <= await gateway.log.position()


async def _snapshot(gateway: Gateway, tenant: str, batch_id: str | None, position: int) -> Snapshot:
    """From the views; one batch that these do not know yet is folded from the log."""
    if batch_id is None:
        seq, batches = await _active(gateway, tenant)
        return Snapshot(seq=seq, batches=batches)
    seq, batch = await gateway.views.batch(tenant, batch_id)
    if batch is None:
        seq = position
        batch = await batch_from_log(gateway.accept, tenant, batch_id)
    return Snapshot(seq=seq, batch=batch)


async def _active(gateway: Gateway, tenant: str) -> AsOf[list[Batch]]:
    """As of the first page: what the later ones know beyond it is told again."""
    query = BatchQuery(status="active", limit=200)
    seq, page = await gateway.views.batches(tenant, query)
    batches = page.data
    while page.has_more and len(batches) < SNAPSHOT_BATCHES_MAX:
        query = msgspec.structs.replace(query, cursor=page.next_cursor)
        page = (await gateway.views.batches(tenant, query)).found
        batches += page.data
    return AsOf(seq, batches)


async def _opening(
    gateway: Gateway, subscription: Subscription, first: bytes, caught_up_to: int
) -> AsyncGenerator[bytes]:
    """What is sent first, and what is missing up to where the hub was when it took the client in."""
    yield first
    tenant, batch_id = subscription.audience
    assert tenant is not None, "a stream has one tenant"
    subject = batch_all(tenant, batch_id) if batch_id else tenant_all(tenant)
    try:
        if subscription.seq < caught_up_to:
            async with aclosing(_read(gateway, subject, subscription.seq, caught_up_to)) as chunks:
                async for records in chunks:
                    if missed := chunk_of(records).joined:
                        yield missed
                    subscription.seq = records[-1].seq
    except WorldFailure:
        subscription.end()  # the client resumes after the last event that it has seen


async def _frames(
    gateway: Gateway, subscription: Subscription, opening: AsyncGenerator[bytes]
) -> AsyncGenerator[bytes]:
    """The whole of a stream, for a connection that cannot be handed over."""
    async with aclosing(opening):
        async for piece in opening:
            yield piece
    while not subscription.ended:
        taken = await subscription.take(gateway.settings.sse_ping_s)
        seq = subscription.seq
        data = b"".join([chunk.after(seq) for chunk in taken])
        subscription.seq = max([seq, *(chunk.last for chunk in taken)])
        if data:
            yield data
        elif not taken and not subscription.ended:
            yield PING
    yield b"id: %d\nevent: drain\ndata: {}\n\n" % subscription.seq


async def _read(gateway: Gateway, subject: str, after: int, through: int | None) -> AsyncGenerator[Any]:
    chunks: AsyncIterator[Any] = gateway.log.read(subject, after=after, through=through)
    async for records in chunks:
        if records:
            yield records
