"""The log is archived as it grows, and comes back from its archive, position for position."""

import asyncio
import gzip
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest

from services.storage import log_archive
from services.storage.log_archive import LogArchiver
from tanda.adapters.s3.client import client
from tanda.archive import log_archive as archive_log
from tanda.archive import segments as archive_segments
from tanda.archive.check import check_log, compare
from tanda.archive.log_archive import ArchiveDamaged, ArchiveWriter
from tanda.archive.records import RawRecord, own_headers, same
from tanda.archive.restore import restore
from tanda.archive.segments import record_of
from tanda.domain.errors import LogDamaged
from tests.integration.recovery.site import Site

DEADLINE_S = 20.0


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred events fill several segments."""
    monkeypatch.setattr(archive_segments, "SEGMENT_EVENTS_MAX", 100)
    monkeypatch.setattr(archive_log, "SEGMENT_EVENTS_MAX", 100)


def equal(one: Sequence[RawRecord], other: Sequence[RawRecord]) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


async def archived(place: Site) -> list[RawRecord]:
    return [one async for chunk in place.archive.records() for one in chunk]


async def put_damaged(place: Site, key: str) -> None:
    """The object of a key with one byte changed."""
    stat = await place.blobs.stat(key)
    assert stat is not None
    store = client(place.settings, read_s=5.0, connections=1)  # the port verifies what it writes
    bucket = place.settings.s3_bucket
    body = bytearray(store.get_object(bucket, key).read())
    body[len(body) // 2] ^= 4
    store.put_object(bucket, key, BytesIO(bytes(body)), len(body))


async def test_the_archive_holds_every_byte(place: Site, short_segments: None) -> None:
    """Segments of a hundred, a short one at the end that grows, and what is in them is what is in the log."""
    await place.events(330)
    await place.archive_all()
    await place.events(40, seed=2)
    await place.archive_all()
    records = await place.records()
    assert await archived(place) == records
    chain = await place.archive.chain()
    assert [one.events for one in chain.segments[:3]] == [100, 100, 100]
    assert (chain.detached, chain.superseded, chain.last) == ([], [], len(records))


async def test_the_archiver_follows_a_quiet_log_and_a_busy_one(
    place: Site, short_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full segments at once, the rest after its time, and the very last events on a clean stop."""
    monkeypatch.setattr(log_archive, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(log_archive, "SEGMENT_EVENTS_MAX", 100)
    monkeypatch.setattr(log_archive, "LAG_S", 0.1)
    archiver = asyncio.create_task(LogArchiver(place.raw, place.blobs).run())
    await place.events(250)
    end = await place.connection.log.position()
    async with asyncio.timeout(DEADLINE_S):
        while (await place.archive.chain()).last < end:
            await asyncio.sleep(0.02)
    monkeypatch.setattr(log_archive, "LAG_S", 1000.0)
    await place.events(7, seed=2)
    archiver.cancel()
    await asyncio.gather(archiver, return_exceptions=True)
    assert await archived(place) == await place.records()


async def test_two_archivers_at_once_do_no_harm(place: Site, short_segments: None) -> None:
    """They write the same objects, whoever is ahead."""
    await place.events(150)
    one, two = ArchiveWriter(place.raw, place.archive), ArchiveWriter(place.raw, place.archive)
    await one.begin()
    await two.begin()
    await one.advance_to_end()
    await place.events(120, seed=2)
    await two.advance_to_end()
    await place.events(60, seed=3)
    await asyncio.gather(one.advance_to_end(), two.advance_to_end())
    assert await archived(place) == await place.records()
    chain = await place.archive.chain()
    assert (chain.detached, chain.superseded) == ([], [])


async def test_a_missing_segment_is_archived_again(place: Site, short_segments: None) -> None:
    """The next start goes on from where the chain is whole."""
    await place.events(350)
    await place.archive_all()
    second = (await place.archive.chain()).segments[1]
    await place.blobs.delete(second.key)
    assert (await place.archive.chain()).last == 100
    await place.archive_all()
    assert await archived(place) == await place.records()


async def test_a_damaged_segment_is_told(place: Site, short_segments: None) -> None:
    """Nothing is restored from bytes that are not those of their digest."""
    await place.events(250)
    await place.archive_all()
    await put_damaged(place, (await place.archive.chain()).segments[1].key)
    with pytest.raises(ArchiveDamaged, match="101-200"):
        await archived(place)


async def test_a_lost_log_comes_back_position_for_position(place: Site, tmp_path: Path) -> None:
    """Thousands of events: subject, id, headers, data and position are those they were."""
    await place.events(3_000)
    await place.archive_all()
    before = await place.records()
    await place.raw.recreate()
    with pytest.raises(LogDamaged, match="archive goes to"):
        await check_log(place.raw, place.archive)
    restored = await restore(place.raw, place.blobs, tmp_path / "aside")
    after = await place.records()
    assert equal(before, after)
    assert [own_headers(one.headers) for one in before] == [own_headers(one.headers) for one in after]
    assert (restored.last, restored.written, restored.aside) == (len(before), len(before), None)
    await check_log(place.raw, place.archive)


@pytest.mark.parametrize("at", [0.4, 0.93])
async def test_a_flipped_bit_is_mended(place: Site, tmp_path: Path, at: float) -> None:
    """JetStream drops events without a word and may use their positions again; the archive knows better."""
    await place.events(1_500)
    await place.archive_all()
    before = await place.records()
    await place.flip_byte(at)
    damaged = await place.records()
    assert len(damaged) < len(before), "the server noticed nothing of the flipped bit, and nor would we"
    with pytest.raises(LogDamaged):
        await check_log(place.raw, place.archive)
    await restore(place.raw, place.blobs, tmp_path / "aside")
    assert equal(before, await place.records())
    assert not (await compare(place.raw, place.archive)).damaged


async def test_what_the_log_has_beyond_its_archive_is_kept(
    place: Site, tmp_path: Path, short_segments: None
) -> None:
    """The archive was behind, and what is damaged is older: not one event is lost."""
    await place.events(300)
    await place.archive_all()
    await place.events(50, seed=2)
    before = await place.records()
    await put_anew(place, [*before[:150], *before[180:]])
    restored = await restore(place.raw, place.blobs, tmp_path / "aside")
    assert equal(before, await place.records())
    assert restored.aside is not None
    lines = gzip.decompress(Path(restored.aside).read_bytes()).splitlines()
    assert [record_of(line).seq for line in lines] == [one.seq for one in (*before[:150], *before[180:])]


async def put_anew(place: Site, records: Sequence[RawRecord]) -> None:
    """A log with holes: messages are written, then others are removed from between them."""
    api = place.connection.client
    await place.raw.recreate()
    info = await api.jetstream().stream_info("EVENTS")
    config = info.config
    config.deny_delete = False
    await api.jetstream().delete_stream("EVENTS")
    await api.jetstream().add_stream(config)
    wanted = {one.seq for one in records}
    by_seq = {one.seq: one for one in records}
    filled = [by_seq.get(seq) or _filler(seq) for seq in range(1, max(wanted) + 1)]
    await place.raw.write(filled)
    for seq in sorted({one.seq for one in filled} - wanted):
        await api.jetstream().delete_msg("EVENTS", seq)


def _filler(seq: int) -> RawRecord:
    return RawRecord(seq=seq, subject=f"ev.x.y.{seq}", time_ns=0, headers=b"NATS/1.0\r\n\r\n", data=b"{}")


async def test_a_log_that_went_back_and_went_on_gets_its_own_events_again(
    place: Site, tmp_path: Path
) -> None:
    """Positions that were used a second time hold what was archived; the others are kept in a file."""
    await place.events(200)
    await place.archive_all()
    before = await place.records()
    await place.raw.recreate()
    await place.raw.write(before[:120])
    await place.events(30, seed=5)
    found = await compare(place.raw, place.archive)
    assert (found.agrees_to, found.different > 0, found.damaged) == (120, True, True)
    restored = await restore(place.raw, place.blobs, tmp_path / "aside")
    assert equal(before, await place.records())
    assert restored.aside and Path(restored.aside).exists()


async def test_a_restore_that_broke_off_goes_on(place: Site, tmp_path: Path) -> None:
    """What is there already agrees and stays; nothing is kept aside a second time."""
    await place.events(300)
    await place.archive_all()
    before = await place.records()
    await place.raw.recreate()
    await place.raw.write(before[:110])
    restored = await restore(place.raw, place.blobs, tmp_path / "aside")
    assert equal(before, await place.records())
    assert (restored.written, restored.aside) == (len(before) - 110, None)


async def test_without_an_archive_nothing_is_touched(place: Site, tmp_path: Path) -> None:
    """There is nothing to restore from, and the log says so."""
    await place.events(20)
    records = await place.records()
    await put_anew(place, records[5:])
    with pytest.raises(LogDamaged, match="no archive"):
        await restore(place.raw, place.blobs, tmp_path / "aside")
    assert len(await place.records()) == len(records) - 5


async def test_an_archiver_does_not_go_on_on_another_log(place: Site) -> None:
    """A log that lost its end, or is another one, stops it; the archive stays as it is."""
    await place.events(60)
    await place.archive_all()
    chain = await place.archive.chain()
    await place.raw.recreate()
    await place.events(80, seed=9)
    with pytest.raises(LogDamaged, match="not the one"):
        await LogArchiver(place.raw, place.blobs).run()
    assert await place.archive.chain() == chain
