"""The live stream of 002: unnamed messages, folded from the batch's own events.

The message at a position is always the same, since all before it is folded first. ``id`` is that position,
so what a lost connection missed is told by the next one, each message once::

    all events so far ──▶ Told ──▶ connected, or what came after Last-Event-ID
    the hub's bell ──▶ the log after the last position ──▶ Told ──▶ progress, error, completed
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal

from starlette.responses import Response

from services.gateway.batches.accept import batch_not_found
from services.gateway.batches.bodies import facts_after
from services.gateway.deps import Gateway
from services.gateway.legacy.metricool_words import STATUS
from services.gateway.live.hub import Subscription
from services.gateway.live.routes import PING, RETRY, LiveResponse, admit
from tanda.contracts import codec
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded, singly
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER, FileStatus
from tanda.contracts.http import Body, Counts
from tanda.contracts.subjects import batch_all
from tanda.domain.errors import WorldFailure
from tanda.domain.progress import BatchFacts, batch_status

_SEQ = re.compile(r"[0-9]{1,19}")
_ERRORS: frozenset[FileStatus] = frozenset({"failed", "rejected", "cancelled"})

Kind = Literal["connected", "progress", "completed", "error"]


class Message(Body, frozen=True, kw_only=True):
    type: Kind
    batchId: str
    #: Settled clips.
    current: int
    total: int
    published: int
    errors: int
    #: The clip that this is about.
    currentStory: str | None
    status: str
    error: str | None
    timestamp: str


class Told:
    """What the events so far tell, and the message that each of them is."""

    def __init__(self, batch_id: str) -> None:
        self._batch_id = batch_id
        self._files: dict[str, FileStatus] = {}
        self._names: dict[str, str] = {}
        self._facts = BatchFacts()
        self._story: str | None = None
        self._time = ""
        self.seq = 0

    def take(self, record: Recorded) -> Message | None:
        """Folds an event; its message, None where it is no news to this front end."""
        self.seq, self._time = record.seq, record.time
        before, self._facts = self._facts, facts_after(self._facts, record)
        event = record.event
        if record.file_id is not None:
            return self._file(record.file_id, event)
        if isinstance(event, e.BatchCompleted):
            return self.message("completed")
        return self.message("progress") if self._facts != before else None

    def _file(self, file_id: str, event: e.Event) -> Message:
        self._files[file_id] = STATUS_AFTER[type(event)]
        if isinstance(event, e.FileQueued | e.FileRejected):
            self._names[file_id] = event.name
        self._story = self._names[file_id]
        if isinstance(event, e.FileFailed | e.FileRejected):
            return self.message("error", event.error.message)
        return self.message("progress")

    @property
    def finished(self) -> bool:
        return self._facts.completed_at is not None

    def message(self, kind: Kind, error: str | None = None) -> Message:
        statuses = list(self._files.values())
        published = statuses.count("completed")
        # The word for a batch asks for all of its files and for the completed ones only.
        counts = Counts(total=len(statuses), completed=published)
        return Message(
            type=kind,
            batchId=self._batch_id,
            current=sum(status in FINAL_STATUSES for status in statuses),
            total=len(statuses),
            published=published,
            errors=sum(status in _ERRORS for status in statuses),
            currentStory=self._story,
            status=STATUS[batch_status(self._facts, counts)],
            error=error,
            timestamp=self._time,
        )


async def stream(gateway: Gateway, tenant: str, batch_id: str, last_event_id: str | None) -> Response:
    """The stream of a batch from its beginning, or from after a position."""
    hub = gateway.hub
    await admit(hub)
    # Registered before anything is read: what is appended from now on rings.
    subscription = hub.subscribe((tenant, batch_id))
    try:
        told = Told(batch_id)
        first = await _begin(gateway, tenant, told, batch_id, _position(last_event_id))
    except BaseException:
        hub.unsubscribe(subscription)
        raise
    return LiveResponse(hub, subscription, _frames(gateway, subscription, told, first))


def _position(text: str | None) -> int | None:
    return int(text) if text and _SEQ.fullmatch(text) else None


async def _begin(gateway: Gateway, tenant: str, told: Told, batch_id: str, resume: int | None) -> bytes:
    """What is sent first: the state as it is, or every message after the last one that was seen."""
    missed: list[bytes] = []
    async for records in gateway.log.read(batch_all(tenant, batch_id)):
        missed += _encoded(told, records, resume)
    if not told.seq:
        raise batch_not_found()
    if resume is None:
        done = _frame(told.seq, told.message("completed")) if told.finished else b""
        return RETRY + _frame(told.seq, told.message("connected")) + done
    return RETRY + b"".join(missed)


def _encoded(told: Told, records: Sequence[Recorded], after: int | None) -> list[bytes]:
    """The messages of events after a position; None is for none of them."""
    frames: list[bytes] = []
    for record in records:
        messages = [message for one in singly([record]) if (message := told.take(one))]
        if messages and after is not None and record.seq > after:
            frames += map(_unnumbered, messages[:-1])
            frames.append(_frame(record.seq, messages[-1]))
    return frames


def _frame(seq: int, message: Message) -> bytes:
    """With its position, told by its last message only: whoever resumes after it has seen all."""
    return b"id: %d\n%b" % (seq, _unnumbered(message))


def _unnumbered(message: Message) -> bytes:
    return b"data: %s\n\n" % codec.encode(message)


async def _frames(
    gateway: Gateway, subscription: Subscription, told: Told, first: bytes
) -> AsyncGenerator[bytes]:
    yield first
    tenant, batch_id = subscription.audience
    assert tenant is not None and batch_id is not None, "a stream is of one batch"
    subject = batch_all(tenant, batch_id)
    while not subscription.ended:
        taken = await subscription.take(gateway.settings.sse_ping_s)
        if not taken:
            yield PING
            continue
        if taken[-1].last <= told.seq:
            continue
        try:
            async with aclosing(_after(gateway, subject, told)) as pieces:
                async for piece in pieces:
                    yield piece
        except WorldFailure:
            return  # the client comes back and resumes after the last message that it has seen


async def _after(gateway: Gateway, subject: str, told: Told) -> AsyncGenerator[bytes]:
    seq = told.seq
    async for records in gateway.log.read(subject, after=seq):
        if frames := _encoded(told, records, seq):
            yield b"".join(frames)
