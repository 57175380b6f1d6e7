"""One follower of the log for all live clients of the process; each event is encoded once for all.

A client registers first, so that nothing is missed, and catches up from the log to where the hub was
at that moment; then its queue goes on without a gap. What both would tell is told once, by position::

    log.follow ──▶ Hub ──▶ queue of tenant A's client ──▶ its socket
                    └────▶ queue of batch B's client …
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from tanda.contracts import codec
from tanda.contracts.envelope import Recorded, to_cloudevent
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.ports import Log
from tanda.settings import Settings

RETRY_S: Final = 0.5

log = structlog.get_logger(__name__)

#: Tenant and batch; None is every one.
Audience = tuple[str | None, str | None]


class Frame(msgspec.Struct, frozen=True):
    """An event as it goes to every client."""

    seq: int
    #: CloudEvents JSON.
    data: bytes
    kind: str

    @property
    def sse(self) -> bytes:
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.seq, self.kind.encode(), self.data)


class Chunk(msgspec.Struct, frozen=True):
    """Events that came together, in order, already joined for those who take all of them."""

    first: int
    last: int
    events: int
    joined: bytes
    frames: list[tuple[int, bytes]]

    def after(self, seq: int) -> bytes:
        """The bytes of those after a position."""
        if seq < self.first:
            return self.joined
        return b"".join([data for at, data in self.frames if at > seq])


def frame_of(record: Recorded) -> Frame:
    return Frame(record.seq, codec.encode(to_cloudevent(record)), record.name)


def chunk_of(records: Sequence[Recorded]) -> Chunk:
    """For catching up from the log."""
    return _chunk([(record.seq, frame_of(record).sse) for record in records])


def _chunk(frames: list[tuple[int, bytes]]) -> Chunk:
    joined = b"".join([data for _, data in frames])
    return Chunk(frames[0][0], frames[-1][0], len(frames), joined, frames)


class Subscription:
    """One client's bounded queue; a client that is too slow is ended, so that it comes back and resumes."""

    def __init__(self, audience: Audience, events_max: int) -> None:
        self.audience = audience
        self.ended = False
        self._events_max = events_max
        self._chunks: deque[Chunk] = deque()
        self._events = 0
        self._changed = asyncio.Event()

    def push(self, chunk: Chunk) -> None:
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
        chunks = list(self._chunks)
        self._chunks.clear()
        self._events = 0
        if not self.ended:
            self._changed.clear()
        return chunks


class Hub:
    """Follows the log from where it is at the start, and hands every event to whom it concerns."""

    def __init__(self, source: Log, settings: Settings) -> None:
        self._log = source
        self._settings = settings
        self._subscriptions: dict[Audience, set[Subscription]] = {}
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
                async for records in self._log.follow(self.position, self._anchor):
                    if records:
                        self._hand_out(records)
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

    def unsubscribe(self, subscription: Subscription) -> None:
        peers = self._subscriptions.get(subscription.audience, set())
        if subscription in peers:
            peers.remove(subscription)
            self.clients -= 1
        if not peers:
            self._subscriptions.pop(subscription.audience, None)

    def drain(self) -> None:
        """Ends every stream: the process is going down."""
        self.draining = True
        self._end_all()

    def _end_all(self) -> None:
        for peers in self._subscriptions.values():
            for subscription in peers:
                subscription.end()

    def _hand_out(self, records: Sequence[Recorded]) -> None:
        frames: dict[Audience, list[tuple[int, bytes]]] = {}
        for record in records if self._subscriptions else ():
            encoded: tuple[int, bytes] | None = None
            for audience in _audiences(record):
                if audience in self._subscriptions:
                    encoded = encoded or (record.seq, frame_of(record).sse)
                    frames.setdefault(audience, []).append(encoded)
        for audience, found in frames.items():
            chunk = _chunk(found)
            for subscription in self._subscriptions[audience]:
                subscription.push(chunk)
        self.position, self._anchor = records[-1].seq, records[-1].id


def _audiences(record: Recorded) -> tuple[Audience, ...]:
    """Whom an event concerns: followers of the tenant, of the batch, and the operator's likes of both."""
    tenant, batch_id = record.tenant, record.batch_id
    return ((tenant, None), (tenant, batch_id), (None, None), (None, batch_id))
