"""One follower of the log for all live clients of the process; each event is encoded once for all,
and one that nobody here has asked for is not even decoded.

A client registers first, so that nothing is missed, and catches up from the log to where the hub was
at that moment; then its queue goes on without a gap. What both would tell is told once, by position::

    log.follow ──▶ Hub ──▶ queue of tenant A's client ──▶ its socket
                    └────▶ queue of batch B's client …

Once it has caught up its connection is a ``Wire``, into which the hub writes itself. Where more is to be
written than there is time for, clients fall behind and get snapshots instead.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

import structlog

from services.gateway.live.capacity import clients_max
from services.gateway.live.chunks import Audience, Chunk, Frame, frame_of, joined
from services.gateway.live.wire import Wire
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.ports import Log, Unread
from tanda.settings import Settings

RETRY_S: Final = 0.5

#: What writing to one client costs, as measured: each time (``bench.live.many``), and by the byte.
WRITE_S: Final = 12e-6
WRITE_BYTES_PER_S: Final = 1.5e9
#: An event as clients get it is so much longer than in the log.
TOLD_RATIO: Final = 2
#: What would take longer in all goes to nobody, and is not even encoded: its audience falls behind. And all
#: of it is a part of the loop's time, from some on; what comes meanwhile goes as one.
HAND_OUT_S_MAX: Final = 0.1
HAND_OUT_S_FREE: Final = 0.002
HAND_OUT_SHARE: Final = 0.25
#: Other requests get their turn after so much of it, by the clock: a request takes some ten turns, and a
#: write up to four times as long as above while all cores are busy.
SLICE_S: Final = 0.0005

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Subscription:
    """One client's bounded queue; a client that is too slow is ended, so that it comes back and resumes."""

    def __init__(self, audience: Audience, events_max: int) -> None:
        self.audience = audience
        self.ended = False
        #: It gets every event, or its end.
        self.behind = False
        #: The last event that the client was given.
        self.seq = 0
        #: Who has taken its place while a chunk was being handed out.
        self.successor: Wire | None = None
        self._events_max = events_max
        self._chunks: deque[Chunk] = deque()
        self._events = 0
        self._changed = asyncio.Event()

    def push(self, chunk: Chunk) -> None:
        if self.successor is not None:
            self.successor.push(chunk)
            return
        if self._events + chunk.events > self._events_max and self._events:
            self.end()
            return
        self._chunks.append(chunk)
        self._events += chunk.events
        self._changed.set()

    def end(self) -> None:
        """Nothing more comes: the client is told to come back."""
        self.ended = True
        self._changed.set()

    async def take(self, wait_s: float) -> list[Chunk]:
        """What has come, at once or within a time; [] where nothing did or the subscription ended."""
        if not self._chunks and not self.ended:
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                return []
        return self.rest()

    def rest(self) -> list[Chunk]:
        """What has come and was not taken."""
        chunks = list(self._chunks)
        self._chunks.clear()
        self._events = 0
        if not self.ended:
            self._changed.clear()
        return chunks


class Hub:
    """Follows the log from where it is at the start, and hands every event to whom it concerns."""

    def __init__(self, source: Log, settings: Settings, sent: Callable[[int], None]) -> None:
        """``sent`` is told how many bytes are written to clients."""
        self._log = source
        self._settings = settings
        self._sent = sent
        self.clients_max = clients_max(settings)
        self._subscriptions: dict[Audience, set[Subscription | Wire]] = {}
        self._behind: set[Wire] = set()
        #: Somebody who is behind can be told a snapshot.
        self.laggards = asyncio.Event()
        self._anchor: str | None = None
        self._ready = asyncio.Event()
        self.clients = 0
        self.draining = False
        #: The log is not what it was: nothing may be accepted into it.
        self.damaged = asyncio.Event()
        #: Every event up to here has been handed out.
        self.position = 0

    async def run(self) -> None:
        """Follows for ever; after a failure it goes on where it stopped."""
        while True:
            try:
                if not self._ready.is_set():
                    self.position = await self._log.position()
                    self._ready.set()
                async for records in self._log.watch(self.position, self._anchor):
                    if records:
                        await self._hand_out(records)
            except asyncio.CancelledError:
                raise
            except LogDamaged as damage:
                # What clients have seen is not in the log any more: they come back to fresh snapshots.
                log.critical("The log is damaged; see `tanda doctor`.", reason=str(damage))
                self.damaged.set()
                self._ready.clear()
                self._anchor = None
                self._end_all()
            except Exception as error:  # live clients wait; the log is asked again
                log.warning("Following the log broke off and is resumed.", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def ready(self) -> None:
        """Returns once the hub follows; Unavailable where it cannot yet."""
        try:
            async with asyncio.timeout(self._settings.min_seq_wait_s):
                await self._ready.wait()
        except TimeoutError as error:
            raise Unavailable("nats", "the log is not being followed yet") from error

    def subscribe(self, audience: Audience) -> Subscription:
        subscription = Subscription(audience, self._settings.sse_queue_events_max)
        self._subscriptions.setdefault(audience, set()).add(subscription)
        self.clients += 1
        if self.draining:
            subscription.end()
        return subscription

    def wire(self, subscription: Subscription, transport: Any) -> Wire:
        """Takes a client that has caught up for one whose connection it writes into from now on."""
        events_max = self._settings.sse_queue_events_max
        wire = Wire(self, subscription.audience, transport, subscription.seq, events_max)
        self._subscriptions[subscription.audience].add(wire)
        self.clients += 1
        self.unsubscribe(subscription)
        for chunk in subscription.rest():
            wire.push(chunk)
        subscription.successor = wire
        return wire

    def unsubscribe(self, client: Subscription | Wire) -> None:
        self._behind.discard(client)  # pyright: ignore[reportArgumentType]
        peers = self._subscriptions.get(client.audience, set())
        if client in peers:
            peers.remove(client)
            self.clients -= 1
        if not peers:
            self._subscriptions.pop(client.audience, None)

    def drain(self) -> None:
        """Ends every stream: the process is going down."""
        self.draining = True
        self._end_all()

    def _end_all(self) -> None:
        for subscription in [one for peers in self._subscriptions.values() for one in peers]:
            subscription.end()

    async def ping_for_ever(self) -> None:
        """Every connection that it writes into, so that nobody takes silence for an end."""
        while True:
            await asyncio.sleep(self._settings.sse_ping_s)
            every = [one for peers in self._subscriptions.values() for one in peers]
            async for wire in in_slices([one for one in every if isinstance(one, Wire)]):
                if not wire.ended:
                    wire.ping()

    def falls_behind(self, wire: Wire) -> None:
        self._behind.add(wire)
        self.laggards.set()

    def take_laggards(self) -> dict[Audience, list[Wire]]:
        """Those who can be told a snapshot now, by what it is to be of."""
        found: dict[Audience, list[Wire]] = {}
        for wire in [one for one in self._behind if one.open]:
            self._behind.discard(wire)
            found.setdefault(wire.audience, []).append(wire)
        self.laggards.clear()
        return found

    async def _hand_out(self, records: Sequence[Unread]) -> None:
        todo = [(found, list(self._subscriptions[one])) for one, found in self._concerned(records).items()]
        # Who comes while this is handed out catches up to here from the log.
        self.position, self._anchor = records[-1].seq, records[-1].id
        frames: dict[int, Frame] = {}
        spent_s = 0.0
        for found, clients in todo:
            each_s = WRITE_S + TOLD_RATIO * sum(record.bytes for record in found) / WRITE_BYTES_PER_S
            told = _told(clients, each_s)
            if told and (chunk := _chunk(found, frames)):
                spent_s += each_s * len(told)
                self._sent(len(chunk.joined) * len(told))
                async for client in in_slices(told):
                    client.push(chunk)
        if spent_s > HAND_OUT_S_FREE:
            await asyncio.sleep(spent_s * (1 / HAND_OUT_SHARE - 1))

    def _concerned(self, records: Sequence[Unread]) -> dict[Audience, list[Unread]]:
        """What each audience that somebody is in is to be told."""
        found: dict[Audience, list[Unread]] = {}
        for record in records if self._subscriptions else ():
            for audience in _audiences(record):
                if audience in self._subscriptions:
                    found.setdefault(audience, []).append(record)
        return found


async def in_slices(clients: Sequence[T]) -> AsyncIterator[T]:
    """One after the other, with turns for everybody else in between."""
    begun = time.perf_counter()
    for client in clients:
        yield client
        if time.perf_counter() - begun > SLICE_S:
            await asyncio.sleep(0)
            begun = time.perf_counter()


def _told(clients: Sequence[Subscription | Wire], each_s: float) -> list[Subscription | Wire]:
    """Who is told what takes so long for each; where it is too much for all, those fall behind who can.

    In one go, so that they get one snapshot. Who is behind is told nothing else.
    """
    told = [one for one in clients if not one.behind]
    if each_s * len(clients) <= HAND_OUT_S_MAX:
        return told
    for client in told:
        if isinstance(client, Wire):
            client.fall_behind()
    return [one for one in told if not one.behind]


def _chunk(found: Sequence[Unread], frames: dict[int, Frame]) -> Chunk | None:
    """What clients see of some events, if anything; each is read and encoded once for all audiences."""
    for record in found:
        if record.seq not in frames:
            frames[record.seq] = frame_of(record.read())
    seen = [frame for record in found if (frame := frames[record.seq]).events]
    return joined(seen) if seen else None


def _audiences(record: Unread) -> tuple[Audience, ...]:
    """Whom an event concerns: followers of the tenant, of the batch, and the operator's likes of both."""
    tenant, batch_id = record.tenant, record.batch_id
    return ((tenant, None), (tenant, batch_id), (None, None), (None, batch_id))
