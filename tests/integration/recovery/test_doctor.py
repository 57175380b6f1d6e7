"""`tanda doctor` finds every kind of damage that is planted, explains it, and --repair mends it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path

import asyncpg
import msgspec
import pytest

from services.projector import replay
from services.projector.catalog import VIEWS
from services.projector.projector import Projector
from services.projector.rebuild import rebuild
from services.storage.storage import Storage
from services.worker.scheduler import Scheduler
from tanda.adapters.postgres import open_pool
from tanda.adapters.s3.client import client
from tanda.adapters.views.store import ViewStore
from tanda.archive.records import same
from tanda.cli.doctor import examine, mended
from tanda.contracts import events as e
from tanda.contracts.work import LANE_QUICK, LANE_SMALL, Presence, SchedulerStatus
from tanda.doctor import checks
from tanda.doctor.checks import BEHIND_EVENTS
from tanda.doctor.findings import Finding
from tanda.doctor.inventory import ORPHAN_GRACE_MS
from tanda.doctor.patient import Patient, patient
from tanda.doctor.repairs import mend
from tanda.domain.errors import Refusal
from tests.batch_story import BatchStory
from tests.integration.recovery.site import Site

HOUR_S = ORPHAN_GRACE_MS / 1000
DEADLINE_S = 30.0


class Clock:
    """The doctor's, which can be put on."""

    def __init__(self, patient: Patient) -> None:
        self._now = patient._clock  # pyright: ignore[reportPrivateUsage]
        self.ahead_s = 0.0
        patient._clock = lambda: self._now() + self.ahead_s  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
async def doctor(place: Site) -> AsyncIterator[Patient]:
    async def replayed(*arguments: str) -> tuple[int, str, str]:
        """The command's own code, in this process: a process each would cost a second."""
        out = StringIO()
        with redirect_stdout(out):
            code = await replay._run(replay._parse(arguments), place.settings)  # pyright: ignore[reportPrivateUsage]
        return code, out.getvalue(), ""

    async with patient(place.settings, replayed) as one:
        yield one


@pytest.fixture
async def pool(place: Site) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(place.settings, "test", connections_max=12) as pool:
        yield pool


async def views(place: Site, pool: asyncpg.Pool) -> None:
    await rebuild(place.connection.log, ViewStore(pool), list(VIEWS.values()))


async def a_finished_batch(place: Site, pool: asyncpg.Pool, tmp_path: Path) -> BatchStory:
    """Three files, two of them in one pack, completed, with results, archived; log archived, views up."""
    story = BatchStory(place.connection.log, place.blobs)
    await story.create()
    await story.upload([b"uno", b"dos"], pack=True)
    await story.upload([b"tres"])
    await story.seal()
    await story.complete(0, 1, 2)
    storage = Storage(
        log=place.connection.log, blobs=place.blobs, settings=place.settings, spool=tmp_path, name="s"
    )
    task = asyncio.create_task(storage.run())
    async with asyncio.timeout(DEADLINE_S):
        while storage.unfinished or not storage.idle or storage.position < 5:
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await place.archive_all()
    await views(place, pool)
    return story


def codes(findings: list[Finding]) -> list[str]:
    return [one.code for one in findings if not one.ok]


async def repaired(doctor: Patient, *, deep: bool = False) -> list[str]:
    """What is wrong, then mended; what is wrong after that."""
    before = await examine(doctor, deep=deep)
    await mend(doctor, before)
    after = mended(before, await examine(doctor, deep=deep))
    return codes([one for one in after if not one.mended])


async def test_a_sound_installation_is_told_to_be_so(
    place: Site, pool: asyncpg.Pool, doctor: Patient, tmp_path: Path
) -> None:
    """Nothing wrong, with every deep look; and --repair, a day later, removes not one object that lives."""
    await a_finished_batch(place, pool, tmp_path)
    findings = await examine(doctor, deep=True)
    assert codes(findings) == [], findings
    assert {one.check for one in findings} == {
        "versions", "programs", "nats", "s3", "log", "archive", "views", "objects", "work",
    }  # fmt: skip
    assert sum("sha256" in one.says for one in findings) == 3
    objects = await place.blobs.keys("")
    assert {key.split("/")[3] for key in objects if key.startswith("t/")} >= {"archive", "results"}
    Clock(doctor).ahead_s = 24 * HOUR_S
    await mend(doctor, await examine(doctor))
    assert await place.blobs.keys("") == objects


async def test_a_lost_log_is_found_and_mended(
    place: Site, pool: asyncpg.Pool, doctor: Patient, tmp_path: Path
) -> None:
    """Everything about it is explained, and one repair brings back log and views."""
    await a_finished_batch(place, pool, tmp_path)
    last = (await place.raw.facts()).last
    await place.connection.client.jetstream().delete_stream("EVENTS")
    found = codes(await examine(doctor))
    assert "log_went_back" in found and "view_ahead" in found
    assert await repaired(doctor) == []
    assert (await place.raw.facts()).last == last


async def test_a_damaged_log_is_not_mended_under_running_services(
    place: Site, pool: asyncpg.Pool, doctor: Patient, tmp_path: Path
) -> None:
    """They would write meanwhile; the refusal says what to do."""
    await a_finished_batch(place, pool, tmp_path)
    await place.raw.recreate()
    await place.connection.board.hello(Presence(name="worker", instance="1", at="2026-11-25T00:00:00Z"))
    await place.connection.client.flush()
    with pytest.raises(Refusal, match="stop Tanda"):
        await mend(doctor, await examine(doctor))
    assert (await place.raw.facts()).last == 0


async def test_another_log_is_found(place: Site, doctor: Patient) -> None:
    """As long as the archived one, and not the same."""
    await place.events(60)
    await place.archive_all()
    await place.raw.recreate()
    await place.events(90, seed=4)
    assert "log_differs" in codes(await examine(doctor))


async def test_a_gap_is_found(place: Site, doctor: Patient) -> None:
    """A message is missing in the middle."""
    await place.events(30)
    stream = place.connection.client.jetstream()
    config = (await stream.stream_info("EVENTS")).config
    config.deny_delete = False
    records = await place.records()
    await stream.delete_stream("EVENTS")
    await stream.add_stream(config)
    await place.raw.write(records)
    await stream.delete_msg("EVENTS", 7)
    assert "log_gap" in codes(await examine(doctor))


async def test_a_damaged_archive_is_found_and_written_again(place: Site, doctor: Patient) -> None:
    """A byte in a segment, a segment that is gone, an archiver that does not run."""
    await place.events(120)
    await place.archive_all()
    (segment,) = (await place.archive.chain()).segments
    damaged = b"\0" * 50
    store = client(place.settings, read_s=5.0, connections=1)  # the port verifies what it writes
    store.put_object(place.settings.s3_bucket, segment.key, BytesIO(damaged), len(damaged))
    assert "archive_damaged" in codes(await examine(doctor))
    assert not {"archive_damaged", "archive_broken"} & set(await repaired(doctor, deep=True))
    assert [one async for chunk in place.archive.records() for one in chunk] == await place.records()

    await place.events(20, seed=2)
    assert "archive_behind" not in codes(await examine(doctor))
    Clock(doctor).ahead_s = HOUR_S
    assert "archive_behind" in codes(await examine(doctor))
    assert "archive_behind" not in await repaired(doctor)


async def test_a_chain_that_is_broken_is_found_and_closed_again(place: Site, doctor: Patient) -> None:
    """A segment in the middle is gone: how far the archive is whole is told, and the log fills the gap."""
    writer = await place.archive_all()
    for seed in (1, 2, 3):
        await place.events(30, seed=seed)
        await writer.advance_to_end()
        writer.close_segment()
    first, second, third = (await place.archive.chain()).segments
    await place.blobs.delete(second.key)
    (found,) = [one for one in await examine(doctor, deep=True) if one.check == "archive"]
    assert (found.code, found.mendable) == ("archive_broken", True)
    assert f"whole up to {first.last}, and has parts up to {third.last}" in found.says
    assert [code for code in await repaired(doctor, deep=True) if code.startswith("archive")] == []
    chain = await place.archive.chain()
    assert not chain.detached and not chain.superseded
    assert [one async for chunk in place.archive.records() for one in chunk] == await place.records()


async def test_a_broken_chain_that_no_log_can_close_is_not_promised_to_be_mended(
    place: Site, doctor: Patient
) -> None:
    """Log and segment are both gone: the positions are told, and what is still there is kept."""
    writer = await place.archive_all()
    for seed in (1, 2):
        await place.events(30, seed=seed)
        await writer.advance_to_end()
        writer.close_segment()
    first, second = (await place.archive.chain()).segments
    await place.blobs.delete(first.key)
    await place.raw.recreate()
    (found,) = [one for one in await examine(doctor) if one.check == "archive"]
    assert (found.code, found.mendable) == ("archive_broken", False)
    await mend(doctor, await examine(doctor))
    assert (await place.archive.chain()).detached == [second]


async def test_views_that_differ_are_found_and_built_again(
    place: Site, pool: asyncpg.Pool, doctor: Patient, tmp_path: Path
) -> None:
    """A changed row shows with --deep; a view that is not there shows at once."""
    await a_finished_batch(place, pool, tmp_path)
    await pool.execute("update view_batches.batches set name = 'otro'")
    (different,) = [one for one in await examine(doctor, deep=True) if not one.ok]
    assert different.code == "view_different" and "name" in different.about[0]
    assert await repaired(doctor, deep=True) == []
    await pool.execute("drop schema view_stats cascade")
    assert codes(await examine(doctor)) == ["view_missing"]
    assert await repaired(doctor) == []


async def test_views_far_behind_are_found_and_left_to_the_projector(
    place: Site, pool: asyncpg.Pool, doctor: Patient
) -> None:
    """How far each view is behind is told, and no repair is promised; the projector brings them up."""
    await views(place, pool)
    await place.events(BEHIND_EVENTS + 1)
    last = (await place.raw.facts()).last
    behind = [one for one in await examine(doctor) if one.check == "views"]
    assert [(one.code, one.mendable) for one in behind] == [("view_behind", False)] * len(VIEWS)
    assert f"{last} events behind the log" in behind[0].says and "projector" in behind[0].do
    connection = place.connection
    projector = Projector(connection.log, ViewStore(pool), connection.signals, VIEWS, place.settings)
    task = asyncio.create_task(projector.run())
    async with asyncio.timeout(DEADLINE_S):
        while "view_behind" in codes(await checks.views(doctor, deep=False)):
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert codes(await checks.views(doctor, deep=True)) == []


@pytest.mark.parametrize("strange", ["log", "views"])
async def test_views_of_another_log_are_found_and_built_from_the_one_that_is_archived(
    place: Site, pool: asyncpg.Pool, doctor: Patient, strange: str
) -> None:
    """The archive says which is right: another log is replaced by it, or only the views are built anew."""
    await place.events(60)
    if strange == "log":
        await place.archive_all()
    await views(place, pool)
    await place.raw.recreate()
    await place.events(90, seed=4)
    if strange == "views":
        await place.archive_all()
    right = [one async for chunk in place.archive.records() for one in chunk]
    found = [one for one in await examine(doctor) if one.code == "view_of_other_log"]
    assert len(found) == len(VIEWS) and "had seen another event" in found[0].says
    assert not {"view_of_other_log", "log_differs"} & set(await repaired(doctor, deep=True))
    log = await place.records()
    assert len(log) == len(right) and all(map(same, log, right))
    store = ViewStore(pool)
    assert {one.seq for name in VIEWS if (one := await store.checkpoint(name))} == {right[-1].seq}


async def test_missing_objects_are_found_and_brought_back(
    place: Site, pool: asyncpg.Pool, doctor: Patient, tmp_path: Path
) -> None:
    """A result document is built again, the same bytes; a source that has no copy is told, and stays told."""
    await a_finished_batch(place, pool, tmp_path)
    (results,) = [key for key in await place.blobs.keys("t/") if "/results/" in key]
    before = await place.blobs.stat(results)
    await place.blobs.delete(results)
    (found,) = [one for one in await examine(doctor) if not one.ok]
    assert found.code == "object_missing" and found.about[0].startswith(results)
    assert await repaired(doctor) == []
    after = await place.blobs.stat(results)
    assert before and after and after.bytes == before.bytes

    source = next(key for key in await place.blobs.keys("t/") if "/archive/" in key)
    await place.blobs.copy(source, source.replace("/archive/", "/src/"))
    await place.blobs.delete(source)
    assert await repaired(doctor) == []
    await place.blobs.delete(source)
    await place.blobs.delete(source.replace("/archive/", "/src/"))
    assert await repaired(doctor) == ["object_missing"]


async def test_orphans_are_removed_after_an_hour_and_only_when_nobody_works(
    place: Site, pool: asyncpg.Pool, doctor: Patient, tmp_path: Path
) -> None:
    """A younger one stays, and so does any while a gateway may be in the middle of an upload."""
    story = await a_finished_batch(place, pool, tmp_path)
    live = await place.blobs.keys("")
    orphan = f"t/{story.tenant}/{story.batch_id}/src/{'ab' * 32}"
    await place.blobs.put(
        orphan, b"x", sha256=sha256(b"x").hexdigest(), content_type="application/octet-stream"
    )
    assert codes(await examine(doctor)) == []
    Clock(doctor).ahead_s = HOUR_S + 60
    (found,) = [one for one in await examine(doctor) if not one.ok]
    assert (found.code, found.about) == ("object_orphaned", [orphan])
    await place.connection.board.hello(Presence(name="gateway", instance="1", at="2026-11-25T00:00:00Z"))
    await place.connection.client.flush()
    assert await repaired(doctor) == ["object_orphaned"]
    assert orphan in await place.blobs.keys("")
    await place.connection.client.jetstream().purge_stream("STATUS")
    assert await repaired(doctor) == []
    assert await place.blobs.keys("") == live


async def test_work_that_stands_still_is_found(place: Site, doctor: Patient) -> None:
    """Workers live, one schedules, and a queued file has had no sign for long."""
    story = BatchStory(place.connection.log, place.blobs)
    await story.create()
    await story.upload([b"uno"])
    await story.seal()
    board = place.connection.board
    await board.hello(Presence(name="worker", instance="1", at="2026-11-25T00:00:00Z"))
    await place.connection.client.flush()
    assert "no_scheduler" in codes(await examine(doctor))
    status = SchedulerStatus(
        leader="w",
        at="2026-11-25T00:00:00Z",
        position=3,
        unfinished_batches=1,
        queued=1,
        in_flight=0,
        lanes=[],
    )  # fmt: skip
    await board.tell(status)
    await place.connection.client.flush()
    Clock(doctor).ahead_s = 10 * 365 * 24 * HOUR_S
    (stuck,) = [one for one in await examine(doctor) if one.code == "work_stuck"]
    assert stuck.about == [story.batch_id]
    explained = msgspec.structs.replace(status, reasons={story.batch_id: "limit"})
    await board.tell(explained)
    await place.connection.client.flush()
    assert "work_stuck" not in codes(await examine(doctor))
    assert e.FileQueued in {type(one.event) async for chunk in place.connection.log.read() for one in chunk}


async def test_work_that_stands_still_is_released_again(place: Site, doctor: Patient, tmp_path: Path) -> None:
    """A runner has taken a file and neither begins nor lets go; the repair takes it away for the next one."""
    story = BatchStory(place.connection.log, place.blobs)
    await story.create()
    await story.upload([b"uno"])
    await story.seal()
    connection = place.connection
    clock = Clock(doctor)
    scheduler = Scheduler(
        log=connection.log, work=connection.work, timers=connection.timers, lease=connection.lease,
        board=connection.board, blobs=place.blobs, settings=place.settings, name="w",
        lanes={"noop": LANE_QUICK}, clock=lambda: time.time() + clock.ahead_s,
    )  # fmt: skip
    await connection.board.hello(Presence(name="worker", instance="1", at="2026-11-25T00:00:00Z"))
    mine = (story.tenant, story.batch_id, story.file_ids[0])
    schedules = asyncio.create_task(scheduler.lead())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await connection.work.take(LANE_SMALL, 1, DEADLINE_S)
            while await connection.board.scheduler() is None:
                await asyncio.sleep(0.02)
        clock.ahead_s = HOUR_S
        before = await examine(doctor)
        assert [one.about for one in before if one.code == "work_stuck"] == [[story.batch_id]]
        await mend(doctor, before)
        async with asyncio.timeout(DEADLINE_S):
            (again,) = await connection.work.take(LANE_SMALL, 1, DEADLINE_S)
        assert (again.item.tenant, again.item.batch_id, again.item.file_id) == mine
        assert again.is_first, "the lease gave it back, not the repair"
    finally:
        schedules.cancel()
        await asyncio.gather(schedules, return_exceptions=True)
        await connection.work.drop(story.tenant, story.batch_id)
