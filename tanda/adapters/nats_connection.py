"""One connection to NATS, and what is said over it without JetStream: API requests and signals.

nats-py's defaults leave a hung server "connected" for minutes and then give up for ever; ours notice
it within nine seconds and never give up.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from tanda.domain.errors import Unavailable

_log = structlog.get_logger("tanda.nats")

PING_INTERVAL_S = 3
PINGS_OUTSTANDING_MAX = 2
RECONNECT_WAIT_S = 0.2
CONNECT_TIMEOUT_S = 2
#: What may wait for the socket: an atomic chunk of 1,000 events of the largest size fits.
PENDING_BYTES_MAX = 64 * 1024**2
#: No message is as long; a stream in which none ends is not NATS.
_UNFINISHED_BYTES_MAX = 80 * 1024**2
#: A JetStream API call that takes longer has no server behind it.
API_TIMEOUT_S = 3.0

_VERSION_LINE = "NATS/1.0"
_NO_RESPONDERS = "503"

T = TypeVar("T")
_SIGNAL = "signal.view."


class ApiError(Exception):
    """JetStream said no; ``code`` is its ``err_code``."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description


class Frame(NamedTuple):
    """A message as it arrived; ``headers`` is the block as it is on the wire, or empty."""

    subject: str
    reply: str
    headers: bytes
    data: bytes


class Answer(NamedTuple):
    """To a request: what it says, and its headers with its first line's number as ``Status``."""

    headers: dict[str, str]
    data: bytes


class FrameParser(Parser):
    """Cuts the stream into messages; those for listeners it hands over, the rest is nats-py's to parse."""

    def __init__(self, client: Client, listeners: Mapping[int, Callable[[Frame], None]]) -> None:
        super().__init__(client)
        self._listeners = listeners

    def reset(self) -> None:
        super().reset()
        self._rest = b""

    async def parse(self, data: bytes = b"") -> None:
        stream = self._rest + data
        self._rest = b""
        at = 0
        while (found := stream.find(b"\r\n", at)) >= 0:
            end = found + 2
            if stream.startswith((b"MSG ", b"HMSG "), at):
                words = stream[at:found].split()
                body, end = end, end + int(words[-1]) + 2
                if end > len(stream):
                    break
                take = self._listeners.get(int(words[2]))
                if take is not None:
                    take(_frame(words, stream[body : end - 2]))
                    at = end
                    continue
            await super().parse(stream[at:end])
            at = end
        self._rest = stream[at:]
        if len(self._rest) > _UNFINISHED_BYTES_MAX:
            raise ProtocolError("nats: a message without an end")


def _frame(words: list[bytes], body: bytes) -> Frame:
    """``[H]MSG <subject> <sid> [reply] [bytes of headers] <bytes>`` and what follows it."""
    with_headers = words[0] == b"HMSG"
    reply = words[3].decode() if len(words) == (6 if with_headers else 5) else ""
    cut = int(words[-2]) if with_headers else 0
    return Frame(words[1].decode(), reply, body[:cut], body[cut:])


class EventClient(Client):
    """nats-py, with a short way for readers of many messages.

    For each message nats-py matches several patterns, looks at every character of every header name, builds
    an object, and wakes a task through a queue. A reader that has a function of its own for an inbox
    (``listen``) gets its messages cut out of the stream once and handed over at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: dict[int, Callable[[Frame], None]] = {}
        self._ps = FrameParser(self, self._listeners)
        #: Where the answers to what we ask come, each under a number of its own, and who waits for them.
        self._answers_at = ""
        self._asked = 0
        self._askers: dict[str, asyncio.Future[Frame]] = {}
        #: Called after every reconnect: what was asked of the server before may be forgotten.
        self.reconnected: list[Callable[[], None]] = []

    async def listen(self, inbox: str, take: Callable[[Frame], None]) -> Subscription:
        """Hands every message of an inbox to a function, on the connection's own task."""
        subscription = await self.subscribe(inbox)
        self._listeners[subscription._id] = take  # pyright: ignore[reportPrivateUsage]
        return subscription

    async def unlisten(self, subscription: Subscription) -> None:
        """Ends it; a connection that is gone is no error."""
        self._listeners.pop(subscription._id, None)  # pyright: ignore[reportPrivateUsage]
        with suppress(nats_errors.Error, OSError):
            await subscription.unsubscribe()

    async def ask(self, subject: str, data: bytes, headers: dict[str, str] | None, timeout_s: float) -> Frame:
        """nats-py's ``request`` without the queue and the task between an answer and who waits for it.

        And by no ``wait_for``, which swallows a cancellation in the moment of the answer before Python 3.12.
        """
        if not self._answers_at:
            inbox = f"{self.new_inbox()}."
            await self.listen(f"{inbox}*", self._on_answer)
            self._answers_at = inbox
        self._asked += 1
        number = str(self._asked)
        future = self._askers[number] = asyncio.get_running_loop().create_future()
        try:
            await self.publish(subject, data, reply=self._answers_at + number, headers=headers)
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            del self._askers[number]

    def _on_answer(self, frame: Frame) -> None:
        future = self._askers.get(frame.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(frame)

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        """As nats-py's, without its look at every character of names and values that are our own."""
        if not headers or (block := header_block(headers)) is None:
            return await super()._send_publish(subject, reply, payload, payload_size, headers)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        size = len(block)
        head = f"HPUB {subject} {reply} {size} {size + payload_size}\r\n".encode()
        await self._send_command(b"%b%b%b\r\n" % (head, block, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()
        return None

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return _header_lines(raw.decode("utf-8", "replace"))


def header_block(headers: Mapping[str, str]) -> bytes | None:
    """Headers as they go on the wire; None where a line break in one of them would make two."""
    text = "\r\n".join([f"{name}: {value}" for name, value in headers.items()])
    if text.count("\n") != len(headers) - 1 or text.count("\r") != len(headers) - 1:
        return None
    return f"{_VERSION_LINE}\r\n{text}\r\n\r\n".encode()


def parse_headers(block: bytes) -> dict[str, str]:
    """A header block with its first line: ``NATS/1.0``, or ``NATS/1.0 404 No Messages`` as ``Status``."""
    first, _, rest = block.decode("utf-8", "replace").partition("\r\n")
    headers = _header_lines(rest)
    if len(first) > len(_VERSION_LINE):
        headers["Status"] = first[len(_VERSION_LINE) :].strip()[:3]
    return headers


def _header_lines(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in text.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    return headers


async def open_client(url: str, name: str) -> EventClient:
    """Connects, and goes on trying for as long as there is no server."""
    client = EventClient()

    async def on_error(error: Exception) -> None:
        _log.debug("NATS reported a problem", error=str(error) or type(error).__name__)

    async def on_disconnect() -> None:
        if not client.is_closed:
            _log.warning("lost the connection to NATS, reconnecting")

    async def on_reconnect() -> None:
        _log.info("connected to NATS again")
        for call in client.reconnected:
            call()

    while True:
        try:
            await client.connect(
                servers=[url],
                name=name,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=PINGS_OUTSTANDING_MAX,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # pyright: ignore[reportArgumentType] - it sleeps this long
                connect_timeout=CONNECT_TIMEOUT_S,
                pending_size=PENDING_BYTES_MAX,
            )
            return client
        except (OSError, nats_errors.Error, TimeoutError) as error:
            _log.warning("NATS does not answer yet", error=str(error) or type(error).__name__)
            await asyncio.sleep(RECONNECT_WAIT_S)
            client = EventClient()


async def send(
    client: Client, subject: str, data: bytes, *, reply: str = "", headers: dict[str, str] | None = None
) -> None:
    """Sends a message that nobody answers; Unavailable where it cannot even be sent."""
    try:
        await client.publish(subject, data, reply=reply, headers=headers)
    except (nats_errors.Error, OSError) as error:
        raise Unavailable("nats", f"a message was not sent ({type(error).__name__})") from error


async def request(
    client: EventClient, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None,
    timeout_s: float = API_TIMEOUT_S,
) -> Answer:  # fmt: skip
    """A request and its answer; Unavailable where nobody answers (the outcome is then unknown)."""
    try:
        frame = await client.ask(subject, data, headers, timeout_s)
    except (nats_errors.Error, TimeoutError, OSError) as error:
        raise Unavailable("nats", f"no answer ({type(error).__name__})") from error
    answer = Answer(parse_headers(frame.headers) if frame.headers else {}, frame.data)
    if answer.headers.get("Status") == _NO_RESPONDERS:
        raise Unavailable("nats", "JetStream is not there") from nats_errors.NoRespondersError()
    return answer


async def api(client: EventClient, name: str, body: Any = None) -> dict[str, Any]:
    """One call of JetStream's JSON API (``STREAM.INFO.EVENTS`` …); ApiError where it refuses."""
    data = b"" if body is None else msgspec.json.encode(body)
    answer = msgspec.json.decode((await request(client, f"$JS.API.{name}", data)).data)
    check_error(answer)
    return answer


def check_error(answer: dict[str, Any]) -> None:
    """Raises the ApiError that an answer of JetStream carries."""
    if (error := answer.get("error")) is not None:
        raise ApiError(error.get("err_code", error.get("code", 0)), error.get("description", "refused"))


async def retry(call: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Repeats a call that is safe to repeat until it answers; Unavailable after ``patience_s``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    wait_s = 0.05
    while True:
        try:
            return await call()
        except Unavailable:
            left_s = deadline - loop.time()
            if left_s <= 0:
                raise
            # To the end, and not to the last wait that fits: who calls this must not find patience left.
            await asyncio.sleep(min(wait_s, left_s))
            wait_s = min(wait_s * 2, 1.0)


class NatsSignals:
    """``ports.Signals`` over core NATS: told at once, kept nowhere."""

    def __init__(self, client: EventClient) -> None:
        self._client = client

    async def announce(self, view: str, seq: int) -> None:
        try:
            await self._client.publish(_SIGNAL + view, str(seq).encode())
        except (nats_errors.Error, OSError) as error:
            _log.debug("a signal was not sent", view=view, error=str(error))

    async def positions(self) -> AsyncIterator[tuple[str, int]]:
        """The newest of each view: where several came at once, the others say nothing any more."""
        newest: dict[str, bytes] = {}
        news = asyncio.Event()

        def take(frame: Frame) -> None:
            newest[frame.subject.removeprefix(_SIGNAL)] = frame.data
            news.set()

        subscription = await self._client.listen(f"{_SIGNAL}*", take)
        try:
            while True:
                await news.wait()
                news.clear()
                while newest:
                    view, seq = newest.popitem()
                    yield view, int(seq)
        finally:
            await self._client.unlisten(subscription)
