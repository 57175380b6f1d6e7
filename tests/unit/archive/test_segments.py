"""The archive's segments keep every byte, and whatever happens to them is noticed."""

from random import Random

import pytest

from tanda.adapters.jetstream_raw import _Answer
from tanda.adapters.nats_connection import Frame
from tanda.archive.records import RawRecord, same
from tanda.archive.segments import (
    NOTHING,
    SEGMENT_BYTES_MAX,
    SEGMENT_EVENTS_MAX,
    Segment,
    SegmentDamaged,
    chain,
    cut,
    line_of,
    pack,
    parse,
    record_of,
    unpack,
)

HEADERS = b"NATS/1.0\r\nce-id: evt_%d\r\nNats-Msg-Id: evt_%d\r\nNats-Batch-Sequence: 1\r\n\r\n"


def record(seq: int, data: bytes = b'{"name":"\xc3\x91and\xc3\xba"}') -> RawRecord:
    return RawRecord(
        seq=seq, subject="ev.acme.b.f", time_ns=10**18 + seq, headers=HEADERS % (seq, seq), data=data
    )  # fmt: skip


def records(first: int, last: int) -> list[RawRecord]:
    return [record(seq) for seq in range(first, last + 1)]


def packed(*ends: int) -> list[tuple[Segment, bytes]]:
    """A chain of segments that end at these positions."""
    found: list[tuple[Segment, bytes]] = []
    first, previous = 1, NOTHING
    for last in ends:
        found.append(pack(records(first, last), previous))
        first, previous = last + 1, found[-1][0].digest
    return found


def test_a_segment_keeps_every_byte() -> None:
    """Text, bytes that are none, empty data: what goes in comes out."""
    odd = [record(4), record(5, b"\xff\x00 no text"), record(6, b""), record(7, b"line\r\nline\n")]
    segment, body = pack(odd, "ab" * 32)
    assert unpack(segment, body) == odd
    assert (segment.first, segment.last, segment.events) == (4, 7, 4)


def test_the_same_messages_make_the_same_bytes() -> None:
    """Two writers of one range put one object."""
    assert pack(records(1, 50), NOTHING) == pack(records(1, 50), NOTHING)


def test_a_segment_is_known_by_its_key() -> None:
    """A listing is enough to see the chain."""
    segment, _ = pack(records(1, 3), NOTHING)
    assert parse(segment.key) == segment
    assert parse("log/readme.txt") is None
    assert parse("t/acme/log/1") is None


def test_every_flipped_bit_is_found() -> None:
    """Wherever it is, in the head, in a message or in the gzip itself."""
    segment, body = pack(records(1, 20), NOTHING)
    random = Random(7)
    for at in random.sample(range(len(body)), 60):
        flipped = bytearray(body)
        flipped[at] ^= 1 << random.randrange(8)
        with pytest.raises(SegmentDamaged):
            unpack(segment, bytes(flipped))


def test_a_torn_segment_is_found() -> None:
    """Any prefix of it, the empty one too."""
    segment, body = pack(records(1, 20), NOTHING)
    for length in (0, 1, len(body) // 2, len(body) - 1):
        with pytest.raises(SegmentDamaged):
            unpack(segment, body[:length])


def test_a_segment_that_lies_about_itself_is_found() -> None:
    """An object under another range or another predecessor than its own, even with a right digest."""
    segment, body = pack(records(1, 20), NOTHING)
    for lie in (
        Segment(first=2, last=21, previous=NOTHING, digest=segment.digest),
        Segment(first=1, last=20, previous="cd" * 32, digest=segment.digest),
    ):
        with pytest.raises(SegmentDamaged):
            unpack(lie, body)


def test_the_chain_is_read_from_its_end() -> None:
    """In whatever order the store lists it."""
    segments = [one for one, _ in packed(10, 20, 25)]
    keys = [one.key for one in segments]
    Random(3).shuffle(keys)
    found = chain([*keys, "log/other"])
    assert (found.segments, found.detached, found.superseded, found.last) == (segments, [], [], 25)


def test_a_longer_last_segment_replaces_the_short_one() -> None:
    """The short one may still be there, after a kill between the two steps."""
    (full, _), (short, _) = packed(10, 15)
    longer, _ = pack(records(11, 19), full.digest)
    found = chain([short.key, longer.key, full.key])
    assert (found.segments, found.superseded) == ([full, longer], [short])


def test_a_missing_segment_ends_the_chain_before_it() -> None:
    """What lies beyond is told, and taken for nothing."""
    one, two, three, four = (segment for segment, _ in packed(10, 20, 30, 35))
    found = chain([one.key, three.key, four.key])
    assert (found.segments, found.detached) == ([one], [three, four])
    assert chain([two.key, three.key]).segments == []


def test_a_segment_of_another_history_is_not_in_the_chain() -> None:
    """The same range with another predecessor belongs to somebody else."""
    one, two = (segment for segment, _ in packed(10, 20))
    foreign, _ = pack(records(11, 18), "ef" * 32)
    found = chain([one.key, two.key, foreign.key])
    assert (found.segments, found.superseded) == ([one, two], [foreign])


def test_a_full_segment_ends_where_the_messages_say() -> None:
    """By number or by bytes, whoever cuts."""
    assert cut(records(1, SEGMENT_EVENTS_MAX + 5)) == (SEGMENT_EVENTS_MAX, True)
    assert cut(records(1, 5)) == (5, False)
    large = [record(seq, bytes(SEGMENT_BYTES_MAX // 3)) for seq in range(1, 6)]
    assert cut(large) == (3, True)


def test_a_message_written_anew_is_the_same_event() -> None:
    """The protocol's headers and the log's clock may differ; id, subject and data may not."""
    one = record(1)
    anew = RawRecord(
        seq=1, subject=one.subject, time_ns=5, data=one.data,
        headers=b"NATS/1.0\r\nNats-Msg-Id: evt_1\r\nce-id: evt_1\r\nNats-Batch-Id: x\r\n\r\n",
    )  # fmt: skip
    assert same(one, anew)
    other_id = RawRecord(
        seq=1, subject=one.subject, time_ns=5, headers=HEADERS % (2, 2), data=one.data
    )  # fmt: skip
    assert not same(one, other_id)
    assert not same(one, record(1, b"{}"))
    assert not same(one, record(2))


def test_a_line_is_a_message() -> None:
    """And a line that is none is a ValueError."""
    assert record_of(line_of(record(9))) == record(9)
    with pytest.raises(ValueError, match="seq"):
        record_of(b'{"subject":"x"}')


async def test_what_the_server_adds_to_a_message_is_no_part_of_it() -> None:
    """Behind what is stored, as it adds it, or in between: the archive has the message as it was."""
    stored = (HEADERS % (7, 7)).removesuffix(b"\r\n")
    where = b"Nats-Stream: EVENTS\r\nNats-Subject: ev.acme.b.f\r\nNats-Sequence: 7\r\n"
    when = b"Nats-Time-Stamp: 2026-11-26T15:48:36.43Z\r\nNats-Num-Pending: 3\r\n"
    between = stored.replace(b"ce-id", where + when + b"ce-id")
    answer = _Answer(single=False)
    for headers in (stored + where + when, between, stored + when + where):
        answer.take(Frame("_INBOX.1", "", headers + b"\r\n", b"{}"))
    expected = RawRecord(
        seq=7, subject="ev.acme.b.f", time_ns=1795708116430000000, headers=HEADERS % (7, 7), data=b"{}"
    )
    assert answer.records == [expected] * 3
