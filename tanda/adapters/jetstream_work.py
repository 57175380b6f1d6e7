"""The work queue, the timers and the leases on JetStream.

WORK lives in memory: it is a window of at most a few thousand items that the scheduler can release
again from the log at any time, and an fsync per release would cost more than the work. TIMER is a
file: a schedule may be days away.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from tanda.adapters.jetstream import ensure_stream
from tanda.adapters.nats_connection import ApiError, EventClient, api, check_error, request, retry, send
from tanda.contracts.codec import encode
from tanda.contracts.subjects import BATCH_TOKEN, WORK_ALL, timer_subjects, work_batch_all, work_subject
from tanda.contracts.times import epoch_ms
from tanda.contracts.work import Timer, WorkItem, bundles, lane_provider, work_token
from tanda.domain.errors import Unavailable
from tanda.settings import Settings

_log = structlog.get_logger("tanda.work")

WORK = "WORK"
TIMER = "TIMER"
LEASE = "LEASE"
#: Items in the hands of all runners together; the scheduler's window is far below.
ACKS_PENDING_MAX = 50_000
#: A leader that does not renew within this time has lost its lease.
LEASE_S = 5
#: How much longer than a pull's own expiry its end is waited for.
PULL_GRACE_S = 1.0

_ALREADY_THERE = 10077
_WRONG_LAST = 10071
_NOT_FOUND = (10014, 10059)
_LONG_AGO = "1970-01-01T00:00:00Z"


def work_config(settings: Settings) -> dict[str, Any]:
    """WORK: one item a subject, whatever is not there yet is refused twice."""
    return {
        "name": WORK,
        "subjects": ["work.>"],
        "retention": "workqueue",
        "storage": "memory",
        "num_replicas": settings.replicas,
        "discard": "new",
        "discard_new_per_subject": True,
        "max_msgs_per_subject": 1,
        "max_consumers": 1_000,
    }


def timer_config(settings: Settings) -> dict[str, Any]:
    """TIMER: schedules, and what they turn into when they are due."""
    return {
        "name": TIMER,
        "subjects": ["timer.>"],
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": settings.replicas,
        "max_consumers": 1_000,
        "allow_msg_schedules": True,
        "allow_msg_ttl": True,
    }


def lease_config(settings: Settings) -> dict[str, Any]:
    """LEASE: the newest word of each leader, gone when it falls silent."""
    return {
        "name": LEASE,
        "subjects": ["lease.>"],
        "storage": "memory",
        "num_replicas": settings.replicas,
        "max_msgs_per_subject": 1,
        "max_age": LEASE_S * 10**9,
        "duplicate_window": LEASE_S * 10**9,
        "allow_direct": True,
        "max_consumers": 1_000,
    }


class Pulls:
    """One pull after the other on a durable consumer; nothing is fetched that was not asked for."""

    def __init__(self, client: EventClient, stream: str, durable: str, config: dict[str, Any]) -> None:
        self._client = client
        self._stream = stream
        self._durable = durable
        self._config = config
        #: None: the connection was lost, and with it what was asked for.
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._requested = 0
        client.reconnected.append(lambda: self._arrived.put_nowait(None))

    async def take(self, limit: int, wait_s: float) -> list[Msg]:
        """Up to ``limit`` messages, at once where there are any; [] after ``wait_s`` without."""
        if self._subscription is None:
            await self._open()
        if self._requested <= 0:
            await self._pull(limit, wait_s)
        messages: list[Msg] = []
        try:
            async with asyncio.timeout(wait_s + PULL_GRACE_S):  # wait_for in 3.11 may swallow a cancellation
                first = await self._arrived.get()
        except TimeoutError:
            await self._reopen()
            return messages
        await self._sort(first, messages)
        while len(messages) < limit and not self._arrived.empty():
            await self._sort(self._arrived.get_nowait(), messages)
        return messages

    async def _sort(self, message: Msg | None, messages: list[Msg]) -> None:
        """A message of the stream, or the word that a pull has ended."""
        if message is None:
            await self._reopen()
            return
        if message.reply.startswith("$JS.ACK."):
            self._requested -= 1
            messages.append(message)
            return
        status = (message.headers or {}).get("Status")
        self._requested = 0
        if status not in ("404", "408"):
            _log.debug("a pull was refused, opening again", stream=self._stream, status=status)
            await self._reopen()

    async def _pull(self, limit: int, wait_s: float) -> None:
        self._requested = limit
        body = msgspec.json.encode({"batch": limit, "expires": max(1, int(wait_s * 10**9))})
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        await send(self._client, subject, body, reply=self._inbox)

    async def _open(self) -> None:
        """A consumer that is there stays as it is: its limit and its brake are the scheduler's."""
        try:
            await api(self._client, f"CONSUMER.INFO.{self._stream}.{self._durable}")
        except ApiError:
            await put_consumer(self._client, self._stream, self._durable, self._config)
        self._inbox = self._client.new_inbox()
        self._arrived = asyncio.Queue()
        self._requested = 0
        self._subscription = await self._client.subscribe(self._inbox, cb=self._arrived.put)

    async def _reopen(self) -> None:
        """After a doubt: what is still under way comes again by its own lease."""
        if self._subscription is not None:
            with suppress(NatsError):
                await self._subscription.unsubscribe()
        self._subscription = None
        self._requested = 0


async def put_consumer(client: EventClient, stream: str, durable: str, config: dict[str, Any]) -> None:
    """Creates a durable consumer, or brings it to a configuration."""
    body = {"stream_name": stream, "config": config | {"durable_name": durable}}
    await api(client, f"CONSUMER.DURABLE.CREATE.{stream}.{durable}", body)


class JetStreamDelivery:
    """``ports.Delivery``; its answers are sent and not waited for, since a lost one only repeats."""

    def __init__(self, client: EventClient, message: Msg, items: list[WorkItem]) -> None:
        self._client = client
        self._reply = message.reply
        self.items = items
        self.item = items[0]
        self.is_first = _delivered(message.reply) == 1

    async def done(self) -> None:
        await self._answer(b"+ACK")

    async def extend(self) -> None:
        await self._answer(b"+WPI")

    async def give_back(self, delay_s: float) -> None:
        await self._answer(b"-NAK " + msgspec.json.encode({"delay": int(delay_s * 10**9)}))

    async def _answer(self, word: bytes) -> None:
        try:
            await send(self._client, self._reply, word)
        except Unavailable as error:
            _log.debug("an answer to the work queue was not sent", error=str(error))


class JetStreamWork:
    """``ports.WorkQueue`` on the stream WORK."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._lanes: dict[str, Pulls] = {}
        self._decoder: msgspec.json.Decoder[WorkItem | list[WorkItem]] = msgspec.json.Decoder(
            WorkItem | list[WorkItem]  # pyright: ignore[reportArgumentType]
        )

    async def ensure(self) -> None:
        await ensure_stream(self._client, work_config(self._settings))

    async def put(self, items: Sequence[WorkItem]) -> None:
        if items:
            await retry(lambda: self._put(items), self._settings.patience_s)

    async def _put(self, items: Sequence[WorkItem]) -> None:
        """All but the last are only sent; the last one's answer tells that the queue is there."""
        *others, last = bundles(items)
        for bundle in others:
            await send(self._client, _subject(bundle[0]), _body(bundle))
        answer = await request(self._client, _subject(last[0]), _body(last))
        try:
            check_error(msgspec.json.decode(answer.data))
        except ApiError as error:
            if error.code != _ALREADY_THERE:
                raise Unavailable("nats", f"the work queue refused an item: {error}") from error

    async def take(self, lane: str, limit: int, wait_s: float) -> list[JetStreamDelivery]:
        pulls = self._lanes.get(lane)
        if pulls is None:
            pulls = self._lanes[lane] = Pulls(self._client, WORK, _durable(lane), self._consumer(lane))
        try:
            messages = await pulls.take(limit, wait_s)
        except ApiError as error:
            if error.code in _NOT_FOUND:
                await self.ensure()
            raise Unavailable("nats", f"the work queue is not there: {error}") from error
        return [JetStreamDelivery(self._client, one, self._items(one.data)) for one in messages]

    def _items(self, data: bytes) -> list[WorkItem]:
        items = self._decoder.decode(data)
        return items if isinstance(items, list) else [items]

    def _consumer(self, lane: str) -> dict[str, Any]:
        return {
            "filter_subject": f"work.{lane}.>",
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(self._settings.lease_s * 10**9),
            "max_ack_pending": ACKS_PENDING_MAX
            if lane_provider(lane) is None
            else self._settings.provider_limit,
            "max_deliver": -1,
            "num_replicas": self._settings.replicas,
        }

    async def present(self) -> list[tuple[str, str, str]]:
        """By the subjects that hold a message: one that is being worked on is still there."""
        found: list[tuple[str, str, str]] = []
        while True:
            query = {"subjects_filter": WORK_ALL, "offset": len(found)}
            try:
                info = await api(self._client, f"STREAM.INFO.{WORK}", query)
            except ApiError as error:
                raise Unavailable("nats", f"the work queue is not there: {error}") from error
            subjects = info["state"].get("subjects") or {}
            found += [_item_of(subject) for subject in subjects]
            if not subjects or len(found) >= info.get("total", 0):
                return found

    async def limit(self, lane: str, at_once: int) -> None:
        """JetStream itself counts what is in the hands of all runners: never one more, whoever asks."""
        config = await self._configured(lane)
        if config.get("max_ack_pending") != at_once:
            await self._configure(lane, config | {"max_ack_pending": at_once})

    async def brake(self, lane: str, until: str) -> None:
        config = await self._configured(lane)
        if epoch_ms(config.get("pause_until") or _LONG_AGO) < epoch_ms(until):
            await self._call(f"CONSUMER.PAUSE.{WORK}.{_durable(lane)}", {"pause_until": until})

    async def braked_until(self, lane: str) -> str | None:
        return (await self._configured(lane)).get("pause_until")

    async def _configured(self, lane: str) -> dict[str, Any]:
        """The consumer's configuration as it stands; it is made where it is not there."""
        try:
            return (await api(self._client, f"CONSUMER.INFO.{WORK}.{_durable(lane)}"))["config"]
        except ApiError as error:
            if error.code not in _NOT_FOUND:
                raise Unavailable("nats", f"a lane does not answer: {error}") from error
        await self._configure(lane, self._consumer(lane))
        return self._consumer(lane)

    async def _configure(self, lane: str, config: dict[str, Any]) -> None:
        try:
            await put_consumer(self._client, WORK, _durable(lane), config)
        except ApiError as error:
            raise Unavailable("nats", f"a lane cannot be set up: {error}") from error

    async def _call(self, name: str, body: dict[str, Any]) -> None:
        try:
            await api(self._client, name, body)
        except ApiError as error:
            raise Unavailable("nats", f"{name} was refused: {error}") from error

    async def drop(self, tenant: str, batch_id: str) -> None:
        try:
            await api(self._client, f"STREAM.PURGE.{WORK}", {"filter": work_batch_all(tenant, batch_id)})
        except ApiError as error:
            _log.debug("a batch's work was not dropped", batch=batch_id, error=str(error))


class JetStreamTimers:
    """``ports.Timers`` on the stream TIMER: JetStream's own message schedules."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        consumer = {
            "filter_subject": "timer.due.>",
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(settings.lease_s * 10**9),
            "max_ack_pending": ACKS_PENDING_MAX,
            "max_deliver": -1,
        }
        self._pulls = Pulls(client, TIMER, "schedulers", consumer)
        self._taken: list[Msg] = []

    async def ensure(self) -> None:
        await ensure_stream(self._client, timer_config(self._settings))

    async def set(self, timer: Timer, at: str) -> None:
        await retry(lambda: self._set(timer, at), self._settings.patience_s)

    async def _set(self, timer: Timer, at: str) -> None:
        subject, due = timer_subjects(timer.tenant, timer.batch_id, timer.file_id or BATCH_TOKEN)
        headers = {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": due}
        answer = await request(self._client, subject, encode(timer), headers=headers)
        try:
            check_error(msgspec.json.decode(answer.data))
        except ApiError as error:
            raise Unavailable("nats", f"a timer was refused: {error}") from error

    async def due(self, wait_s: float) -> list[Timer]:
        """See ``ports.Timers``. Asking again confirms what was handed out before."""
        for message in self._taken:
            await send(self._client, message.reply, b"+ACK")
        self._taken = []
        try:
            self._taken = await self._pulls.take(256, wait_s)
        except ApiError as error:
            raise Unavailable("nats", f"the timers are not there: {error}") from error
        return [msgspec.json.decode(message.data, type=Timer) for message in self._taken]


class JetStreamLease:
    """``ports.Lease``: whoever wrote last, within the last five seconds, leads."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        #: Where the newest word is that we wrote ourselves.
        self._mine: dict[tuple[str, str], int] = {}

    async def ensure(self) -> None:
        await ensure_stream(self._client, lease_config(self._settings))

    async def hold(self, name: str, holder: str) -> bool:
        try:
            return await self._hold(name, holder)
        except Unavailable as error:
            if isinstance(error.__cause__, NoRespondersError):
                await self._ensure_again()
            raise

    async def _ensure_again(self) -> None:
        """The stream is in memory: a server that was restarted does not know it."""
        try:
            await self.ensure()
        except ApiError as error:
            raise Unavailable("nats", f"the leases are not there: {error}") from error

    async def _hold(self, name: str, holder: str) -> bool:
        """Who has written the newest word need not read it: where it is not the newest any more, or gone,
        the next one is refused, and then it is looked at.
        """
        mine = self._mine.pop((name, holder), None)
        if mine is not None and await self._write(name, holder, mine):
            return True
        current = await self._current(name)
        if current is not None and current[1] != holder:
            return False
        return await self._write(name, holder, current[0] if current else 0)

    async def _write(self, name: str, holder: str, expected: int) -> bool:
        """Takes the lease, or another term of it; False where the newest word is not at that position."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        body = msgspec.json.encode({"holder": holder, "at": time.time()})
        answer = msgspec.json.decode(
            (await request(self._client, f"lease.{name}", body, headers=headers)).data
        )
        try:
            check_error(answer)
        except ApiError as error:
            if error.code != _WRONG_LAST:
                raise Unavailable("nats", f"a lease was refused: {error}") from error
            return False
        self._mine[name, holder] = answer["seq"]
        return True

    async def release(self, name: str, holder: str) -> None:
        self._mine.pop((name, holder), None)
        current = await self._current(name)
        if current is not None and current[1] == holder:
            await api(self._client, f"STREAM.PURGE.{LEASE}", {"filter": f"lease.{name}"})

    async def _current(self, name: str) -> tuple[int, str] | None:
        """Position and holder of the lease as it stands."""
        query = msgspec.json.encode({"last_by_subj": f"lease.{name}"})
        message = await request(self._client, f"$JS.API.DIRECT.GET.{LEASE}", query)
        headers = message.headers
        if "Status" in headers:
            return None
        return int(headers["Nats-Sequence"]), msgspec.json.decode(message.data)["holder"]


def _durable(lane: str) -> str:
    return f"runners-{lane}"


def _item_of(subject: str) -> tuple[str, str, str]:
    """Tenant, batch and file or group of a work item's subject."""
    _, _, tenant, batch_id, token = subject.split(".")
    return tenant, batch_id, token


def _subject(item: WorkItem) -> str:
    return work_subject(item.lane, item.tenant, item.batch_id, work_token(item))


def _body(bundle: Sequence[WorkItem]) -> bytes:
    """A group as a list, a file that is by itself as it is."""
    return encode(bundle if bundle[0].group else bundle[0])


def _delivered(reply: str) -> int:
    """How often it was handed out: ``$JS.ACK.<stream>.<consumer>.<n>…``, a domain puts two tokens before."""
    tokens = reply.split(".")
    return int(tokens[4 if len(tokens) == 9 else 6])
