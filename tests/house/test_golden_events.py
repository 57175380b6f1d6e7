"""Every event that was ever written decodes for ever, and comes out again as the same bytes."""

import json
from collections.abc import Iterator

import msgspec
import pytest

from tanda.contracts.codec import decode_event, encode_event
from tanda.contracts.envelope import Origin, from_headers, new_event, to_cloudevent, to_headers
from tanda.contracts.events import EVENT_TYPES
from tanda.contracts.times import epoch_ms
from tests.house.golden import EVENTS, Sample, golden_path, samples


def _all() -> Iterator[Sample]:
    for path in sorted(EVENTS.glob("*.json")):
        yield from samples(path)


ALL = list(_all())
IDS = [f"{sample.type}:{sample.name}" for sample in ALL]


def test_every_event_type_has_its_golden_file() -> None:
    """A new event comes with its sample; a type is never taken out of the registry."""
    filed = {golden_path(sample.type) for sample in ALL}
    assert {golden_path(kind) for kind in EVENT_TYPES} == filed
    assert {sample.type for sample in ALL} == set(EVENT_TYPES)


@pytest.mark.parametrize("sample", ALL, ids=IDS)
def test_a_golden_event_decodes_and_encodes_to_the_same_bytes(sample: Sample) -> None:
    """A removed or renamed field, or a changed default or order, shows here."""
    assert encode_event(decode_event(sample.type, sample.data)) == sample.data


@pytest.mark.parametrize("sample", ALL, ids=IDS)
def test_a_golden_message_is_the_same_record(sample: Sample) -> None:
    """Headers and message give a record whose headers are the same again."""
    record = from_headers(sample.subject, 1042, sample.headers, sample.data)
    origin = Origin(
        source=record.source,
        cause=record.cause,
        command=record.command,
        actor=record.actor,
        traceparent=record.traceparent,
    )
    again = new_event(
        record.subject,
        record.event,
        expected_seq=1041 if sample.name == "full" else 0,
        time_ms=epoch_ms(record.time),
        origin=origin,
    )
    assert to_headers(again) == sample.headers, "ids are functions of all that is known of an event"
    assert msgspec.json.decode(msgspec.json.encode(to_cloudevent(record)))["data"] == json.loads(sample.data)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_samples_of_a_type_show_every_field(kind: str) -> None:
    """A new field needs a sample that has it, beside the old ones, which stay as they are."""
    shown = set[str]().union(*(json.loads(sample.data) for sample in ALL if sample.type == kind))
    fields = set(EVENT_TYPES[kind].__struct_encode_fields__)
    assert shown == fields


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_event_with_a_field_of_the_future_decodes(kind: str) -> None:
    """An older service reads what a newer one wrote, and passes over what it does not know."""
    sample = next(sample for sample in ALL if sample.type == kind)
    comma = b"," if len(sample.data) > len(b"{}") else b""
    future = sample.data[:-1] + comma + b'"field_of_the_future":1}'
    assert decode_event(kind, future) == decode_event(kind, sample.data)
