"""The log on JetStream: the streams, appends with optimistic concurrency, and reading.

What is written here holds for one server and for a cluster of three, although the two answer a
repeated publish differently (one checks the expectation first, the other the message id). The
three-error rule covers both: on 10071, 10164 and 10201 the event that follows the expected one is
read, and if its id is ours, we had already written it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from tanda.adapters.jetstream_reader import Follower, Positioned, Reading, to_recorded, to_unread
from tanda.adapters.nats_connection import (
    ApiError,
    EventClient,
    Frame,
    api,
    check_error,
    parse_headers,
    request,
    retry,
    send,
)
from tanda.contracts.envelope import FOLLOWS, NewEvent, Recorded, to_headers
from tanda.domain.errors import Conflict, LogDamaged, Unavailable
from tanda.ports import Unread
from tanda.settings import Settings

_log = structlog.get_logger("tanda.log")

STREAM = "EVENTS"
#: JetStream's own limit for one atomic batch.
APPEND_EVENTS_MAX = 1_000
#: An event with its headers; a result over 64 kB travels by reference.
EVENT_BYTES_MAX = 256 * 1024
#: A duplicate within this time is dropped by its id; beyond it the expectation refuses it.
DUPLICATE_WINDOW_S = 600
#: Up to here single publishes are cheaper than an atomic batch (16 in one batch cost 6.8 ms).
SINGLES_MAX = 8
#: Group commits that may be under way at once; by itself JetStream allows 50 open batches.
GROUPS_IN_FLIGHT_MAX = 4
#: Batches sent ahead of their commit, and how long our servers wait for that before they forget them.
STAGED_MAX = 8
STAGED_S = 30.0
READ_CHUNK = 1_000
READ_BYTES = 8 * 1024**2

# JetStream's error codes
_STALE = (10071, 10164, 10201)
_INCOMPLETE = (10175, 10176, 10210)
_NAME_IN_USE = 10058
_NO_MESSAGE = "404"
_END_OF_BATCH = "204"
#: What the server adds to a message that is read directly.
_PLACE = re.compile(rb"\r\nNats-Subject: ([^\r]*)\r\nNats-Sequence: (\d+)\r\n")


def events_config(settings: Settings) -> dict[str, Any]:
    """EVENTS: never deletes, never reuses a position, refuses when full."""
    return {
        "name": STREAM,
        "subjects": ["ev.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": settings.replicas,
        "discard": "new",
        "max_bytes": settings.events_bytes_max,
        "max_msg_size": EVENT_BYTES_MAX,
        "max_consumers": 10_000,
        "duplicate_window": DUPLICATE_WINDOW_S * 10**9,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
        "republish": {"src": "ev.>", "dest": "live.ev.>"},
    }


async def ensure_stream(client: EventClient, config: dict[str, Any]) -> None:
    """Creates a stream, or brings an existing one to this configuration."""
    try:
        await api(client, f"STREAM.CREATE.{config['name']}", config)
    except ApiError as error:
        if error.code != _NAME_IN_USE:
            raise
        await api(client, f"STREAM.UPDATE.{config['name']}", config)


class JetStreamLog:
    """``ports.Log`` on the stream EVENTS."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._waiting: list[tuple[NewEvent, asyncio.Future[int]]] = []
        self._groups = 0
        #: When each batch was sent whose commit is still to come; some never does.
        self._staged: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ensure(self) -> None:
        """Creates the stream where it is not there yet."""
        await ensure_stream(self._client, events_config(self._settings))

    # -- writing

    async def append(self, events: Sequence[NewEvent], staged: str = "") -> list[int]:
        assert 0 < len(events) <= APPEND_EVENTS_MAX, "an append has 1 to 1,000 events"
        if len(events) == 1:
            return [await self._enqueue(events[0])]
        sent = [staged] if self._staged.pop(staged, None) is not None else []  # for the first try only
        return await self._settled(events, lambda: self._publish_whole(events, sent.pop() if sent else ""))

    async def stage(self, events: Sequence[NewEvent]) -> str:
        now = asyncio.get_running_loop().time()
        self._staged = {batch: at for batch, at in self._staged.items() if now - at < STAGED_S}
        if len(events) == 1 or len(self._staged) >= STAGED_MAX:
            return ""
        try:
            batch_id = await self._send_batch(events)
        except Unavailable:
            return ""
        self._staged[batch_id] = now
        return batch_id

    async def append_each(self, events: Sequence[NewEvent]) -> list[int | Conflict]:
        outcomes = await asyncio.gather(*map(self._enqueue, events), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Conflict):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, int | Conflict)]

    def _enqueue(self, event: NewEvent) -> asyncio.Future[int]:
        """Lets an event travel with the next group commit."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, future))
        if self._groups < GROUPS_IN_FLIGHT_MAX:
            self._groups += 1
            task = asyncio.create_task(self._commit_waiting())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def _commit_waiting(self) -> None:
        """Commits whatever waits, group by group, until nothing does."""
        try:
            while group := self._next_group():
                await self._commit_group(group)
        finally:
            self._groups -= 1

    def _next_group(self) -> list[tuple[NewEvent, asyncio.Future[int]]]:
        """The oldest waiting events, one a subject: two of one subject depend on each other."""
        group: list[tuple[NewEvent, asyncio.Future[int]]] = []
        rest: list[tuple[NewEvent, asyncio.Future[int]]] = []
        subjects: set[str] = set()
        for entry in self._waiting:
            if entry[1].cancelled():
                continue
            if len(group) < APPEND_EVENTS_MAX and entry[0].subject not in subjects:
                subjects.add(entry[0].subject)
                group.append(entry)
            else:
                rest.append(entry)
        self._waiting = rest
        return group

    async def _commit_group(self, group: list[tuple[NewEvent, asyncio.Future[int]]]) -> None:
        if len(group) > SINGLES_MAX:
            events = [event for event, _ in group]
            try:
                seqs = await retry(lambda: self._publish_atomic(events), self._settings.patience_s)
            except Exception as error:
                # Whatever it was, each event's own publish tells its writer. One by one they also go
                # where as many batches are open as the server keeps, which may be so until its timeout.
                _log.debug("a group commit was refused, going one by one", error=str(error))
            else:
                for (_, future), seq in zip(group, seqs, strict=True):
                    if not future.done():
                        future.set_result(seq)
                return
        await asyncio.gather(*(self._commit_single(event, future) for event, future in group))

    async def _commit_single(self, event: NewEvent, future: asyncio.Future[int]) -> None:
        try:
            seqs = await self._settled([event], lambda: self._publish_single(event))
        except Exception as error:
            if not future.done():
                future.set_exception(error)
            return
        if not future.done():
            future.set_result(seqs[0])

    async def _settled(self, events: Sequence[NewEvent], publish: Any) -> list[int]:
        """Publishes until the outcome is known: written, or refused for good."""
        try:
            return await retry(publish, self._settings.patience_s)
        except ApiError as error:
            if error.code not in _STALE:
                raise Unavailable("nats", f"the log refused an event: {error}") from error
        written = await self._already_written(events)
        if written is None:
            raise Conflict(events[0].subject, events[0].expected_seq)
        return written

    async def _already_written(self, events: Sequence[NewEvent]) -> list[int] | None:
        """The positions of events that an earlier try of ours had written, else None."""
        seqs: list[int] = []
        for event in events:
            after = seqs[-1] if event.expected_seq == FOLLOWS else event.expected_seq
            found = await retry(lambda: self._next(event.subject, after), self._settings.patience_s)  # noqa: B023
            if found is None or found.id != event.id:
                return None
            seqs.append(found.seq)
        return seqs

    async def _publish_single(self, event: NewEvent) -> list[int]:
        answer = await self._request(event, _headers(event))
        return [answer["seq"]]

    async def _send_batch(self, events: Sequence[NewEvent]) -> str:
        """All of an atomic batch but the last, which is to commit it; the batch's id."""
        batch_id = f"{events[0].id}.{asyncio.get_running_loop().time():.6f}"[-64:]
        for number, event in enumerate(events[:-1], 1):
            headers = _headers(event) | {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
            await send(self._client, event.subject, event.data, headers=headers)
        return batch_id

    async def _publish_atomic(self, events: Sequence[NewEvent], staged: str = "") -> list[int]:
        """One atomic batch: the last event commits it and is answered."""
        batch_id = staged or await self._send_batch(events)
        headers = _headers(events[-1]) | {
            "Nats-Batch-Id": batch_id,
            "Nats-Batch-Sequence": str(len(events)),
            "Nats-Batch-Commit": "1",
        }
        answer = await self._request(events[-1], headers)
        if answer.get("count") != len(events):
            raise Unavailable("nats", "an atomic batch was not committed whole")
        last = answer["seq"]
        return list(range(last - len(events) + 1, last + 1))

    async def _publish_whole(self, events: Sequence[NewEvent], staged: str = "") -> list[int]:
        """The same for events that belong together: one that the server has not got whole may be repeated."""
        try:
            return await self._publish_atomic(events, staged)
        except ApiError as error:
            if error.code in _INCOMPLETE:
                raise Unavailable("nats", str(error)) from error
            raise

    async def _request(self, event: NewEvent, headers: dict[str, str]) -> dict[str, Any]:
        message = await request(
            self._client, event.subject, event.data, headers=headers,
            timeout_s=self._settings.append_timeout_s,
        )  # fmt: skip
        answer = msgspec.json.decode(message.data) if message.data else {}
        check_error(answer)
        if "seq" not in answer:
            raise Unavailable("nats", "the answer to a publish names no position")
        return answer

    # -- reading

    async def last(self, subject: str) -> Recorded | None:
        return await self._first_of({"last_by_subj": subject})

    async def get(self, seq: int) -> Recorded | None:
        return await self._first_of({"seq": seq})

    async def _next(self, subject: str, after: int) -> Recorded | None:
        return await self._first_of({"seq": after + 1, "next_by_subj": subject})

    async def _first_of(self, query: dict[str, Any]) -> Recorded | None:
        message = await request(self._client, f"$JS.API.DIRECT.GET.{STREAM}", msgspec.json.encode(query))
        if message.headers.get("Status") == _NO_MESSAGE:
            return None
        headers = message.headers
        return to_recorded(headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, message.data)

    async def position(self) -> int:
        return (await self.facts())["last_seq"]

    async def facts(self) -> dict[str, Any]:
        """The stream's own state: ``last_seq``, ``first_seq``, ``messages``, ``bytes``, ``created`` …"""
        info = await api(self._client, f"STREAM.INFO.{STREAM}")
        return info["state"] | {"created": info["created"]}

    async def read(
        self, subject: str = "ev.>", *, after: int = 0, through: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        """See ``ports.Log``; a gap in the whole log's positions raises LogDamaged."""
        seq = after
        while True:
            chunk, pending = await retry(lambda: self._read_chunk(subject, seq), self._settings.patience_s)  # noqa: B023
            if subject == "ev.>":
                check_contiguous(chunk, seq)
            if through is not None:
                inside = [record for record in chunk if record.seq <= through]
                pending = pending if len(inside) == len(chunk) else 0
                chunk = inside
            if chunk:
                seq = chunk[-1].seq
                yield chunk
            if not pending or not chunk or (through is not None and seq >= through):
                return

    async def _read_chunk(self, subject: str, after: int) -> tuple[list[Recorded], int]:
        """Up to ``READ_CHUNK`` events or ``READ_BYTES``, and how many more there are."""
        inbox = self._client.new_inbox()
        answer = _ChunkAnswer()
        subscription = await self._client.listen(inbox, answer.take)
        query = msgspec.json.encode(
            {"seq": after + 1, "batch": READ_CHUNK, "max_bytes": READ_BYTES, "next_by_subj": subject}
        )
        try:
            await send(self._client, f"$JS.API.DIRECT.GET.{STREAM}", query, reply=inbox)
            async with asyncio.timeout(self._settings.append_timeout_s):
                end = await answer.end
        except Exception as error:
            raise Unavailable("nats", f"reading broke off ({type(error).__name__})") from error
        finally:
            await self._client.unlisten(subscription)
        status = end.get("Status")
        if status not in (_NO_MESSAGE, _END_OF_BATCH):
            raise Unavailable("nats", f"reading was refused ({status})")
        return answer.chunk, int(end.get("Nats-Num-Pending", 0))

    def follow(
        self, after: int, anchor: str | None = None, *, through: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        return self._following(to_recorded, after, anchor, through)

    def watch(self, after: int, anchor: str | None = None) -> AsyncIterator[list[Unread]]:
        return self._following(to_unread, after, anchor)

    async def _following(
        self, reading: Reading[Positioned], after: int, anchor: str | None, through: int | None = None
    ) -> AsyncIterator[list[Positioned]]:
        follower = Follower(self._client, STREAM, after, reading, through)
        await self._check_anchor(after, anchor)
        try:
            async for chunk in follower.chunks(self._check_anchor):
                yield chunk
        finally:
            await follower.close()

    async def _check_anchor(self, after: int, anchor: str | None) -> None:
        """The event that a reader stopped at must still be there; else the log went back."""
        if after == 0:
            return
        position = await retry(self.position, self._settings.patience_s)
        if position < after:
            raise LogDamaged(f"the log ends at {position}, but this reader had already seen {after}")
        found = await retry(lambda: self.get(after), self._settings.patience_s)
        if found is None or (anchor is not None and found.id != anchor):
            raise LogDamaged(f"the event at {after} is not the one that this reader had seen there")


def check_contiguous(chunk: Sequence[Recorded], after: int) -> None:
    """Raises LogDamaged where a position is missing between ``after`` and the end of the chunk."""
    expected = after + 1
    for record in chunk:
        if record.seq != expected:
            raise LogDamaged(f"the log has no event at {expected}; the next one is at {record.seq}")
        expected += 1


class _ChunkAnswer:
    """The messages that answer one question for many, up to the one that ends them."""

    def __init__(self) -> None:
        self.chunk: list[Recorded] = []
        self.end: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    def take(self, frame: Frame) -> None:
        place = _PLACE.search(frame.headers)
        if place is not None:
            subject, seq = place.groups()
            self.chunk.append(to_recorded(subject.decode(), int(seq), frame.headers, frame.data))
        elif not self.end.done():
            self.end.set_result(parse_headers(frame.headers))


def _headers(event: NewEvent) -> dict[str, str]:
    headers = to_headers(event)
    headers["Nats-Msg-Id"] = event.id
    if event.expected_seq != FOLLOWS:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(event.expected_seq)
    return headers
