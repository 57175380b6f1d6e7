"""An event with its circumstances: a CloudEvent 1.0, in NATS's binary binding and as JSON.

Binary: attributes are ``ce-`` headers, the event's JSON is the message. ``Nats-Msg-Id`` repeats the
id, so that the log drops a repeated publish by itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256

import msgspec

from tanda.contracts import ids
from tanda.contracts.codec import decode_event, encode_event
from tanda.contracts.events import (
    GROUP_EVENTS,
    TYPE_NAMES,
    Event,
    FileCompleted,
    FileQueued,
    FilesCompleted,
    FilesQueued,
)
from tanda.contracts.subjects import file_subject, parse_event_subject
from tanda.contracts.times import rfc3339

SPEC_VERSION = "1.0"
_GROUP_EVENTS = frozenset(GROUP_EVENTS)
_QUEUED, _COMPLETED = TYPE_NAMES[FileQueued], TYPE_NAMES[FileCompleted]

#: An event's headers behind ``ce-specversion``, in the order in which they are written; the first four
#: are always there.
HEADER_NAMES = (
    "ce-id", "ce-type", "ce-source", "ce-time", "ce-cause", "ce-command", "ce-actor", "traceparent",
)  # fmt: skip
_NEEDED = 4

#: As ``expected_seq``: the event follows another on the same subject within one append, which is
#: atomic, so that the first one's expectation covers both.
FOLLOWS = -1


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused an event and by what; written beside it, never needed to fold it."""

    #: The service and its instance: ``/worker/7f3a``.
    source: str
    #: The log position of the event that this one answers to.
    cause: int | None = None
    #: The idempotency key or command id.
    command: str | None = None
    #: The person or key that asked.
    actor: str | None = None
    #: W3C trace context.
    traceparent: str | None = None


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the log.

    It is refused unless ``expected_seq`` is the last position on its subject (0: the subject must be
    new; ``FOLLOWS``: see there). Publishing the same ``NewEvent`` twice stores it once.
    """

    subject: str
    event: Event
    expected_seq: int
    time_ms: int
    origin: Origin
    id: str
    #: The event's JSON, as it is written.
    data: bytes


def new_event(subject: str, event: Event, *, expected_seq: int, time_ms: int, origin: Origin) -> NewEvent:
    """Gives an event its id, which is a function of all that is known of it.

    The digest covers the writer and the content: two workers that start the same file write
    different ids, so neither mistakes the other's event for its own.
    """
    kind = TYPE_NAMES[type(event)]
    data = encode_event(event)
    content = sha256(data).hexdigest()
    event_id = ids.derived_id(ids.EVENT, time_ms, subject, str(expected_seq), kind, origin.source, content)
    return NewEvent(
        subject=subject,
        event=event,
        expected_seq=expected_seq,
        time_ms=time_ms,
        origin=origin,
        id=event_id,
        data=data,
    )


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the log holds it."""

    #: Its position in the log, from 1, without gaps.
    seq: int
    subject: str
    id: str
    #: ``tanda.FileQueued.v1``.
    type: str
    #: RFC 3339, UTC, milliseconds.
    time: str
    source: str
    tenant: str
    batch_id: str
    #: The file, or the group of files; None for an event of the batch itself.
    file_id: str | None
    event: Event
    cause: int | None = None
    command: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    #: Of an event that was told with others of its group: its place among them, from 0.
    part: int | None = None

    @property
    def subject_seq(self) -> int:
        """The last position on the event's subject: what the next event there expects.

        What a group has told of a file is not on the file's own subject.
        """
        return self.seq if self.part is None else 0

    @property
    def name(self) -> str:
        """The event's bare name: ``FileQueued``."""
        return type(self.event).__name__


def to_headers(new: NewEvent) -> dict[str, str]:
    """The CloudEvents headers of an event (the log's own headers are the adapter's)."""
    headers = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": new.id,
        "ce-type": TYPE_NAMES[type(new.event)],
        "ce-source": new.origin.source,
        "ce-time": rfc3339(new.time_ms),
    }
    origin = new.origin
    if origin.cause is not None:
        headers["ce-cause"] = str(origin.cause)
    if origin.command:
        headers["ce-command"] = origin.command
    if origin.actor:
        headers["ce-actor"] = origin.actor
    if origin.traceparent:
        headers["traceparent"] = origin.traceparent
    return headers


def from_headers(subject: str, seq: int, headers: Mapping[str, str], data: bytes) -> Recorded:
    """A message of the log as an event; ValueError (or its msgspec kin) where it is none of ours."""
    needed = [headers[name] for name in HEADER_NAMES[:_NEEDED]]
    return from_values(subject, seq, (*needed, *map(headers.get, HEADER_NAMES[_NEEDED:])), data)


def from_values(subject: str, seq: int, values: Sequence[str | None], data: bytes) -> Recorded:
    """The same from the values of ``HEADER_NAMES``, in that order."""
    tenant, batch_id, file_id = parse_event_subject(subject)
    event_id, kind, source, time, cause, command, actor, traceparent = values
    assert event_id is not None
    assert kind is not None
    assert source is not None
    assert time is not None
    return Recorded(
        seq=seq,
        subject=subject,
        id=event_id,
        type=kind,
        time=time,
        source=source,
        tenant=tenant,
        batch_id=batch_id,
        file_id=file_id,
        event=decode_event(kind, data),
        cause=int(cause) if cause else None,
        command=command,
        actor=actor,
        traceparent=traceparent,
    )


def recorded(new: NewEvent, seq: int) -> Recorded:
    """What the log holds once it has accepted an event at a position."""
    tenant, batch_id, file_id = parse_event_subject(new.subject)
    origin = new.origin
    return Recorded(
        seq=seq,
        subject=new.subject,
        id=new.id,
        type=TYPE_NAMES[type(new.event)],
        time=rfc3339(new.time_ms),
        source=origin.source,
        tenant=tenant,
        batch_id=batch_id,
        file_id=file_id,
        event=new.event,
        cause=origin.cause or None,
        command=origin.command or None,
        actor=origin.actor or None,
        traceparent=origin.traceparent or None,
    )


def singly(records: Iterable[Recorded]) -> Iterator[Recorded]:
    """The same events, those of groups as the events of their files; of ``FilesParted`` nothing is left."""
    for record in records:
        if type(record.event) in _GROUP_EVENTS:
            yield from parts(record)
        else:
            yield record


def parts(record: Recorded) -> list[Recorded]:
    """An event of a group as one event for each of its files, all at the same position."""
    event = record.event
    if isinstance(event, FilesQueued):
        return [_part(record, number, _QUEUED, *one) for number, one in enumerate(event.files)]
    if isinstance(event, FilesCompleted):
        return [_part(record, number, _COMPLETED, *one) for number, one in enumerate(event.files)]
    return []


def told(record: Recorded) -> int:
    """How many events it stands for."""
    event = record.event
    return len(event.files) if isinstance(event, FilesQueued | FilesCompleted) else 1


def _part(
    record: Recorded, number: int, kind: str, file_id: str, event: FileQueued | FileCompleted
) -> Recorded:
    return Recorded(
        seq=record.seq,
        subject=file_subject(record.tenant, record.batch_id, file_id),
        id=f"{record.id}.{number}",
        type=kind,
        time=record.time,
        source=record.source,
        tenant=record.tenant,
        batch_id=record.batch_id,
        file_id=file_id,
        event=event,
        cause=record.cause,
        command=record.command,
        actor=record.actor,
        traceparent=record.traceparent,
        part=number,
    )


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The JSON envelope that clients see; ``subject``, ``seq`` and what follows are extensions of ours."""

    specversion: str
    id: str
    type: str
    source: str
    time: str
    subject: str
    seq: int
    tenant: str
    batchid: str
    fileid: str | None = None
    part: int | None = None
    cause: int | None = None
    command: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    datacontenttype: str
    data: Event


def to_cloudevent(record: Recorded, event: Event | None = None) -> CloudEvent:
    """An event in its JSON envelope; ``event`` shows another body than the recorded one."""
    return CloudEvent(
        specversion=SPEC_VERSION,
        id=record.id,
        type=record.type,
        source=record.source,
        time=record.time,
        subject=record.subject,
        seq=record.seq,
        tenant=record.tenant,
        batchid=record.batch_id,
        fileid=record.file_id,
        part=record.part,
        cause=record.cause,
        command=record.command,
        actor=record.actor,
        traceparent=record.traceparent,
        datacontenttype="application/json",
        data=record.event if event is None else event,
    )
