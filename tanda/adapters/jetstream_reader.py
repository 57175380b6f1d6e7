"""Following a stream: raw pulls of an ephemeral consumer, checked for gaps, reopened after any doubt.

A durable consumer would keep a second truth about the position, and redeliver out of order after a
crash; each reader keeps its own checkpoint instead. Two overlapping pulls keep messages flowing
while the reader works; the reader's pace bounds what is in memory.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

import msgspec
import structlog
from nats.aio.subscription import Subscription

from tanda.adapters.nats_connection import (
    ApiError,
    EventClient,
    Frame,
    api,
    parse_headers,
    send,
)
from tanda.contracts.envelope import HEADER_NAMES, Recorded, from_headers, from_values
from tanda.contracts.subjects import parse_event_subject
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.ports import Unread

_log = structlog.get_logger("tanda.log")

PULL_EVENTS = 1_000
#: Of one pull: what waits in the server for a reader that is at work must stay far below what it lets wait.
PULL_BYTES = 4 * 1024**2
#: Pulls in flight; the next one is asked for when half of the messages have been handed over.
PULLS = 2
PULL_EXPIRES_S = 30
#: Taken apart in one go, some 3 ms: then whoever else has to do in this process gets a turn.
TURN_EVENTS = 200
TURN_BYTES = 256 * 1024
#: Every second of it, over all readers, was half of what an idle server had to do.
HEARTBEAT_S = 2
#: Longer without a heartbeat or a message: the consumer is gone.
STALL_S = 5.0
INACTIVE_S = 30
REOPEN_WAIT_S = 0.1
#: Further than any log goes.
_NO_END = 2**63
_HEARTBEAT = "100"
_LEFT = "Nats-Pending-Messages"
#: JetStream's error code.
_NO_STREAM = 10059

#: An event's headers as our own writers write them: several times as fast as taking them apart.
_OWN_FORM = re.compile(
    r"NATS/1\.0\r\nce-specversion: [^\r]*\r\n"
    + "".join(rf"{name}: ([^\r]*)\r\n" for name in HEADER_NAMES[:4])
    + "".join(rf"(?:{name}: ([^\r]*)\r\n)?" for name in HEADER_NAMES[4:])
    + r"(?:Nats-|\r\n)"
)

_ID = b"\r\nce-id: "

AnchorCheck = Callable[[int, str | None], Awaitable[None]]
#: What a message becomes in its reader's hands, and how: from subject, position, headers and data.
Positioned = TypeVar("Positioned", Recorded, Unread)
Reading = Callable[[str, int, bytes, bytes], Positioned]


def to_recorded(subject: str, seq: int, headers: bytes | Mapping[str, str], data: bytes) -> Recorded:
    """A message of the log as an event, its headers as they are on the wire or taken apart.

    LogDamaged where it is none of ours.
    """
    try:
        if isinstance(headers, bytes):
            own = _OWN_FORM.match(headers.decode("utf-8", "replace"))
            if own is not None:
                return from_values(subject, seq, own.groups(), data)
            headers = parse_headers(headers)
        return from_headers(subject, seq, headers, data)
    except (KeyError, ValueError) as error:
        raise LogDamaged(f"the message at {seq} is no event: {error}") from error


def to_unread(subject: str, seq: int, headers: bytes, data: bytes) -> Unread:
    """The same for whoever may not need it: of the headers only the id is looked for."""
    try:
        tenant, batch_id, _ = parse_event_subject(subject)
        begin = headers.index(_ID) + len(_ID)
        event_id = headers[begin : headers.index(b"\r", begin)].decode()
    except ValueError as error:
        raise LogDamaged(f"the message at {seq} is no event: {error}") from error
    read = partial(to_recorded, subject, seq, headers, data)
    return Unread(seq, event_id, tenant, batch_id, len(data), read)


class Follower(Generic[Positioned]):
    """One reader of a stream from a position on, for ever or up to another one."""

    def __init__(
        self, client: EventClient, stream: str, after: int, reading: Reading[Positioned], through: int | None
    ) -> None:
        self._reading = reading
        self._through = _NO_END if through is None else through
        self._client = client
        self._stream = stream
        self._seq = after
        self._anchor: str | None = None
        self._arrived: deque[Frame] = deque()
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._consumer_seq = 0
        self._requested = 0
        self._heard_at = 0.0

    async def chunks(self, check_anchor: AnchorCheck) -> AsyncIterator[list[Positioned]]:
        """Events in order. After a stall or a lost delivery the reader reopens at its position."""
        self._client.reconnected.append(self._on_reconnect)
        try:
            while self._seq < self._through:
                try:
                    await self._open()
                    async for chunk in self._chunks_of_one_consumer():
                        yield chunk
                    if self._seq >= self._through:
                        return
                except (Unavailable, ApiError) as error:
                    if isinstance(error, ApiError) and error.code == _NO_STREAM:
                        raise LogDamaged("the log is gone from its server") from error
                    _log.debug("the log does not answer, reopening", error=str(error))
                await self.close()
                await asyncio.sleep(REOPEN_WAIT_S)
                with suppress(Unavailable, ApiError):
                    await check_anchor(self._seq, self._anchor)
        finally:
            self._client.reconnected.remove(self._on_reconnect)

    async def close(self) -> None:
        """Lets go of the consumer; the server forgets it by itself where it cannot be told."""
        if self._subscription is None:
            return
        await self._client.unlisten(self._subscription)
        self._subscription = None
        if self._client.is_connected and not self._client.is_draining:
            with suppress(Exception):
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}")

    async def _open(self) -> None:
        inbox = self._client.new_inbox()
        self._consumer = "r" + inbox.rsplit(".", 1)[-1]
        self._arrived.clear()
        self._consumer_seq = 0
        self._requested = 0
        self._subscription = await self._client.listen(inbox, self._on_frame)
        self._inbox = inbox
        config = {
            "name": self._consumer,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._seq + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE_S * 10**9,
        }
        body = {"stream_name": self._stream, "config": config}
        await api(self._client, f"CONSUMER.CREATE.{self._stream}.{self._consumer}", body)
        self._heard_at = time.monotonic()
        await self._pull()

    async def _pull(self) -> None:
        """Asks for more where half of what was asked for is here, and for nothing beyond the end."""
        while self._requested <= PULL_EVENTS * (PULLS - 1) + PULL_EVENTS // 2:
            events = min(PULL_EVENTS, self._through - self._seq - self._requested)
            if events <= 0:
                return
            await self._ask(events)

    async def _ask(self, events: int) -> None:
        self._requested += events
        body = {
            "batch": events,
            "max_bytes": PULL_BYTES,
            "expires": PULL_EXPIRES_S * 10**9,
            "idle_heartbeat": HEARTBEAT_S * 10**9,
        }
        await send(
            self._client,
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            msgspec.json.encode(body),
            reply=self._inbox,
        )

    def _on_frame(self, frame: Frame) -> None:
        self._heard_at = time.monotonic()
        if frame.reply or parse_headers(frame.headers).get("Status") != _HEARTBEAT:
            self._arrived.append(frame)
            self._wake.set()

    def _on_reconnect(self) -> None:
        """The consumer may be gone with the server: no waiting for its silence to be noticed."""
        self._heard_at = 0.0
        self._wake.set()

    async def _chunks_of_one_consumer(self) -> AsyncIterator[list[Positioned]]:
        """Ends where the consumer has to be opened again."""
        while True:
            if not self._arrived and not await self._wait():
                return
            self._wake.clear()
            chunk, sound = self._take()
            await self._pull()
            if chunk:
                yield chunk
            if not sound or self._seq >= self._through:
                return
            if self._arrived:
                await asyncio.sleep(0)

    async def _wait(self) -> bool:
        """Waits for messages; False after a stall."""
        while not self._arrived:
            left_s = self._heard_at + STALL_S - time.monotonic()
            if left_s <= 0:
                _log.debug("the log's reader stalled, reopening", after=self._seq)
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):  # wait_for in 3.11 may swallow a cancellation
                    await self._wake.wait()
            self._wake.clear()
        return True

    def _take(self) -> tuple[list[Positioned], bool]:
        """The next events among what arrived; False where a delivery was lost or a pull was refused."""
        chunk: list[Positioned] = []
        taken = 0
        for _ in range(min(len(self._arrived), TURN_EVENTS)):
            if taken > TURN_BYTES:
                break
            subject, reply, headers, data = self._arrived.popleft()
            taken += len(data)
            if not reply.startswith("$JS.ACK."):
                if not self._pull_ended(parse_headers(headers)):
                    return chunk, False
                continue
            self._requested -= 1
            seq, consumer_seq = _positions(reply)
            if consumer_seq != self._consumer_seq + 1:
                return chunk, False
            self._consumer_seq = consumer_seq
            if seq != self._seq + 1:
                raise LogDamaged(f"the log has no event at {self._seq + 1}; the next one is at {seq}")
            record = self._reading(subject, seq, headers, data)
            chunk.append(record)
            self._seq = seq
            self._anchor = record.id
        return chunk, True

    def _pull_ended(self, headers: Mapping[str, str]) -> bool:
        """Books a pull that ran out, of time (408) or bytes (409 with what it left); False: open again."""
        status = headers.get("Status")
        if status not in ("404", "408") and not (status == "409" and _LEFT in headers):
            return False
        self._requested -= int(headers.get(_LEFT, PULL_EVENTS))
        return True


def _positions(reply: str) -> tuple[int, int]:
    """Stream and consumer sequence of ``$JS.ACK.<stream>.<consumer>.<n>.<stream seq>.<consumer seq>…``.

    A server with a domain puts two more tokens before the stream's name.
    """
    tokens = reply.split(".")
    at = 5 if len(tokens) == 9 else 7
    return int(tokens[at]), int(tokens[at + 1])
