"""The stream EVENTS as it is stored: for its archive, and for writing it anew from there."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from secrets import token_hex

import msgspec

from tanda.adapters.jetstream import APPEND_EVENTS_MAX, STREAM, events_config
from tanda.adapters.nats_connection import (
    ApiError,
    EventClient,
    Frame,
    api,
    check_error,
    request,
    retry,
    send,
)
from tanda.archive.records import LogFacts, RawRecord, facts_of, own_headers
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.settings import Settings

#: Of one answer: as many messages, and as many bytes. The server stops after the message that reaches it.
READ_EVENTS_MAX = 1_000
READ_BYTES_MAX = 4 * 1024**2
#: Of one atomic batch; what waits for the socket is bounded.
WRITE_BYTES_MAX = 8 * 1024**2

_NO_STREAM = 10059
#: What the server adds to a stored message that is read directly.
_ADDED = (b"Nats-Stream:", b"Nats-Subject:", b"Nats-Sequence:", b"Nats-Time-Stamp:", b"Nats-Num-Pending:",
          b"Nats-Last-Sequence:", b"Nats-UpTo-Sequence:")  # fmt: skip
#: As it adds it: in one piece, behind what is stored.
_ADDED_FORM = re.compile(
    rb"Nats-Stream: [^\r]*\r\nNats-Subject: ([^\r]*)\r\nNats-Sequence: (\d+)\r\nNats-Time-Stamp: ([^\r]*)\r\n"
    rb"(?:Nats-(?:Num-Pending|Last-Sequence|UpTo-Sequence): [^\r]*\r\n)*\r\n"
)
_ADDED_BEGIN = b"\r\nNats-Stream: "


class JetStreamRawLog:
    """``tanda.archive.records.RawLog`` on the stream EVENTS; it never makes the stream by itself."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def facts(self) -> LogFacts:
        try:
            info = await retry(lambda: api(self._client, f"STREAM.INFO.{STREAM}"), self._settings.patience_s)
        except ApiError as error:
            if error.code != _NO_STREAM:
                raise Unavailable("nats", str(error)) from error
            return LogFacts(exists=False)
        return facts_of(info["state"])

    async def get(self, seq: int) -> RawRecord | None:
        query: dict[str, int | str] = {"seq": seq}
        answer = await retry(lambda: self._ask(query), self._settings.patience_s)
        return answer.records[0] if answer.records else None

    async def read(self, after: int, *, bytes_max: int = READ_BYTES_MAX) -> AsyncIterator[list[RawRecord]]:
        seq = after
        while True:
            query = {"seq": seq + 1, "batch": READ_EVENTS_MAX, "max_bytes": bytes_max, "next_by_subj": "ev.>"}
            answer = await retry(lambda: self._ask(query), self._settings.patience_s)  # noqa: B023
            if answer.records:
                seq = answer.records[-1].seq
                yield answer.records
            if not answer.records or not answer.pending:
                return

    async def _ask(self, query: dict[str, int | str]) -> "_Answer":
        inbox = self._client.new_inbox()
        answer = _Answer(single="batch" not in query)
        subscription = await self._client.listen(inbox, answer.take)
        try:
            subject = f"$JS.API.DIRECT.GET.{STREAM}"
            await send(self._client, subject, msgspec.json.encode(query), reply=inbox)
            async with asyncio.timeout(self._settings.append_timeout_s):
                await answer.end
        except Exception as error:
            raise Unavailable("nats", f"reading broke off ({type(error).__name__})") from error
        finally:
            await self._client.unlisten(subscription)
        return answer

    async def recreate(self) -> None:
        try:
            await api(self._client, f"STREAM.DELETE.{STREAM}")
        except ApiError as error:
            if error.code != _NO_STREAM:
                raise
        await api(self._client, f"STREAM.CREATE.{STREAM}", events_config(self._settings))

    async def write(self, records: Sequence[RawRecord]) -> None:
        for group in _groups(records):
            await self._write_group(group)

    async def _write_group(self, group: Sequence[RawRecord]) -> None:
        """One atomic batch that is refused unless its first message gets the position it names."""
        batch_id = token_hex(8)
        for number, record in enumerate(group, 1):
            headers = own_headers(record.headers)
            headers |= {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
            if number == 1:
                headers["Nats-Expected-Last-Sequence"] = str(record.seq - 1)
            if number < len(group):
                await send(self._client, record.subject, record.data, headers=headers)
                continue
            headers["Nats-Batch-Commit"] = "1"
            message = await request(
                self._client, record.subject, record.data, headers=headers,
                timeout_s=self._settings.append_timeout_s + self._settings.patience_s,
            )  # fmt: skip
            answer = msgspec.json.decode(message.data)
            try:
                check_error(answer)
            except ApiError as error:
                raise LogDamaged(f"the log did not take {group[0].seq}-{record.seq}: {error}") from error
            if answer["seq"] != record.seq:
                raise LogDamaged(f"the event of {record.seq} was written at {answer['seq']}")


class _Answer:
    """The messages that answer one question, and how many more there are."""

    def __init__(self, *, single: bool) -> None:
        self.records: list[RawRecord] = []
        self.pending = 0
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._single = single

    def take(self, frame: Frame) -> None:
        is_message = frame.headers.startswith(b"NATS/1.0\r\n")
        if is_message:
            self.records.append(_record(frame.headers, frame.data))
        else:
            self.pending = int(_split(frame.headers)[0].get("Nats-Num-Pending", 0))
        if (self._single or not is_message) and not self.end.done():
            self.end.set_result(None)


def _split(block: bytes) -> tuple[dict[str, str], bytes]:
    """What the server added to a header block, and the block as it is stored."""
    added: dict[str, str] = {}
    stored: list[bytes] = []
    for line in block.split(b"\r\n"):
        if line.startswith(_ADDED):
            name, _, value = line.decode().partition(":")
            added[name] = value.strip()
        else:
            stored.append(line)
    return added, b"\r\n".join(stored)


def _record(block: bytes, data: bytes) -> RawRecord:
    begin = block.rfind(_ADDED_BEGIN) + len(b"\r\n")
    added = _ADDED_FORM.fullmatch(block, begin)
    if added is None:
        return _unusual(*_split(block), data)
    subject, seq, time = added.groups()
    return RawRecord(
        seq=int(seq), subject=subject.decode(), time_ns=_nanoseconds(time.decode()),
        headers=block[:begin] + b"\r\n", data=data,
    )  # fmt: skip


def _unusual(added: dict[str, str], stored: bytes, data: bytes) -> RawRecord:
    return RawRecord(
        seq=int(added["Nats-Sequence"]), subject=added["Nats-Subject"],
        time_ns=_nanoseconds(added["Nats-Time-Stamp"]), headers=stored, data=data,
    )  # fmt: skip


def _nanoseconds(text: str) -> int:
    """RFC 3339 with up to nine digits of a second, as the server writes it."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return _seconds(whole) * 10**9 + int(fraction.ljust(9, "0") or 0)


@lru_cache(maxsize=1)  # of neighbours it is nearly always the same
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _groups(records: Sequence[RawRecord]) -> list[Sequence[RawRecord]]:
    """Messages in portions that one atomic batch takes."""
    groups: list[Sequence[RawRecord]] = []
    start = size = 0
    for number, record in enumerate(records):
        size += record.size
        if number - start + 1 == APPEND_EVENTS_MAX or size >= WRITE_BYTES_MAX:
            groups.append(records[start : number + 1])
            start, size = number + 1, 0
    return [*groups, records[start:]] if start < len(records) else groups
