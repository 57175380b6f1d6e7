"""Events of the log as lines of CloudEvents JSON and back, the event's own bytes untouched."""

import msgspec

from tanda.archive.records import ID_HEADER, RawRecord, own_headers
from tanda.contracts.codec import decode_event, encode
from tanda.contracts.envelope import Recorded, from_headers
from tanda.contracts.subjects import parse_event_subject

_ATTRIBUTES = ("specversion", "id", "type", "source", "time", "cause", "command", "actor")


class _CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``tanda.contracts.envelope.CloudEvent`` with the data as it is."""

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
    cause: int | None = None
    command: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    datacontenttype: str
    data: msgspec.Raw


_decode = msgspec.json.Decoder(_CloudEvent).decode


def recorded_of(record: RawRecord) -> Recorded:
    """A message as the event it is; ValueError (or its kin) where it is none of ours."""
    return from_headers(record.subject, record.seq, own_headers(record.headers), record.data)


def to_line(record: RawRecord) -> bytes:
    """A message as a CloudEvent on one line; ValueError (or its kin) where it is no event of ours."""
    one = recorded_of(record)
    data = record.data if b"\n" not in record.data else msgspec.json.format(record.data, indent=-1)
    return encode(
        _CloudEvent(
            specversion="1.0", id=one.id, type=one.type, source=one.source, time=one.time,
            subject=one.subject, seq=one.seq, tenant=one.tenant, batchid=one.batch_id, fileid=one.file_id,
            cause=one.cause, command=one.command, actor=one.actor, traceparent=one.traceparent,
            datacontenttype="application/json", data=msgspec.Raw(data),
        )
    )  # fmt: skip


def from_line(line: bytes) -> RawRecord:
    """The message that a line tells of; ValueError where it is no event of ours."""
    one = _decode(line)
    data = bytes(one.data)
    parse_event_subject(one.subject)
    decode_event(one.type, data)
    headers = {f"ce-{name}": getattr(one, name) for name in _ATTRIBUTES} | {"traceparent": one.traceparent}
    headers[ID_HEADER] = one.id
    block = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    return RawRecord(
        seq=one.seq, subject=one.subject, time_ns=0, headers=f"NATS/1.0\r\n{block}\r\n".encode(), data=data
    )  # fmt: skip
