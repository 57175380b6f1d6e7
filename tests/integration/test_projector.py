"""The projector on PostgreSQL: live equals replayed, whatever happens in between."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from random import Random

import asyncpg
import msgspec
import pytest

from services.projector.catalog import VIEWS
from services.projector.projector import Projector
from services.projector.rebuild import Replayed, as_of, position_at, rebuild, verify
from services.projector.version import version_of
from tanda.adapters.memory import MemoryLog, MemorySignals
from tanda.adapters.memory.views import MemoryTables
from tanda.adapters.postgres import open_pool
from tanda.adapters.views.store import ViewStore
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded, new_event, recorded
from tanda.contracts.subjects import file_subject
from tanda.contracts.views import Checkpoint, Step
from tanda.domain.errors import Conflict, LogDamaged, Refusal
from tanda.settings import Settings
from tests.builders import ORIGIN, START_MS, RandomBatches, blob
from tests.integration.databases import own_database

ALL = list(VIEWS.values())
DEADLINE_S = 20.0


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Settings]:
    async with own_database(settings) as own:
        yield own


@pytest.fixture
async def pool(database: Settings) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database, "test", connections_max=20) as pool:
        yield pool


@pytest.fixture
def store(pool: asyncpg.Pool) -> ViewStore:
    return ViewStore(pool)


@asynccontextmanager
async def projecting(
    log: MemoryLog, store: ViewStore, settings: Settings
) -> AsyncGenerator[tuple[Projector, asyncio.Task[None]]]:
    """A projector at work; what breaks it breaks the test."""
    projector = Projector(log, store, MemorySignals(), VIEWS, settings)
    task = asyncio.create_task(projector.run())
    try:
        yield projector, task
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def reached(store: ViewStore, seq: int) -> None:
    """Waits until every view has come to a position."""
    async with asyncio.timeout(DEADLINE_S):
        while min([await _seq(store, view.name) for view in ALL]) < seq:
            await asyncio.sleep(0.01)


async def _seq(store: ViewStore, view: str) -> int:
    checkpoint = await store.checkpoint(view)
    return checkpoint.seq if checkpoint else -1


def identical(found: list[Replayed]) -> bool:
    return [one.identical for one in found] == [True] * len(ALL)


async def schemas(pool: asyncpg.Pool) -> set[str]:
    rows = await pool.fetch("select nspname from pg_namespace where nspname ~ '^(view|shadow|retired|kept)_'")
    return {row["nspname"] for row in rows}


LIVE = {f"view_{name}" for name in VIEWS}


@pytest.mark.parametrize("seed", range(3))
async def test_live_equals_replayed(seed: int, store: ViewStore, database: Settings) -> None:
    """Followed in small chunks as it happens, or folded at once: the same rows."""
    log = MemoryLog()
    random = RandomBatches(log, seed)
    await random.run(100)
    async with projecting(log, store, database):
        for _ in range(40):
            await random.run(20)
            await asyncio.sleep(0)
        await reached(store, await log.position())
        assert identical(await verify(log, store, ALL))


async def test_a_projector_killed_at_any_moment_loses_and_repeats_nothing(
    store: ViewStore, database: Settings
) -> None:
    """Cancelled in the middle of its commits, again and again; the rows are the log's in the end."""
    log, chance = MemoryLog(), Random(7)
    random = RandomBatches(log, 7)
    for _ in range(25):
        await random.run(40)
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.001, 0.06)), projecting(log, store, database):
                await asyncio.sleep(1)
    async with projecting(log, store, database):
        await reached(store, await log.position())
        assert identical(await verify(log, store, ALL))


async def test_two_projectors_at_once_are_harmless(store: ViewStore, database: Settings) -> None:
    """Each fences the other now and then; every event counts once."""
    log = MemoryLog()
    random = RandomBatches(log, 3)
    async with projecting(log, store, database) as (one, _), projecting(log, store, database) as (other, _):
        for _ in range(60):
            await random.run(10)
            await asyncio.sleep(0.002)
        await reached(store, await log.position())
        assert identical(await verify(log, store, ALL))
        async with asyncio.timeout(DEADLINE_S):
            while (one.position, other.position) != (await log.position(),) * 2:
                await asyncio.sleep(0.01)


async def test_a_commit_from_another_position_is_refused(store: ViewStore, database: Settings) -> None:
    """Compare and set: a writer that saw an older checkpoint changes nothing."""
    log = MemoryLog()
    await RandomBatches(log, 1).run(10)
    async with projecting(log, store, database):
        await reached(store, 10)
    seen = Checkpoint(seq=9, event_id="evt_x", version=version_of(VIEWS["files"]))
    with pytest.raises(Conflict):
        await store.commit([Step(view="files", seen=seen, seq=11, event_id="evt_y", writes=[])])
    assert await _seq(store, "files") == 10


@pytest.mark.parametrize("copied", [True, False])
async def test_of_two_beginnings_the_last_one_counts(
    store: ViewStore, pool: asyncpg.Pool, database: Settings, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    """A log that tells of the same file twice stops no view, however its new rows are written."""
    log = MemoryLog()
    await RandomBatches(log, 1).run(50)
    async with projecting(log, store, database):
        await reached(store, 50)
    seen = await store.checkpoint("files")
    assert seen is not None
    rows = await pool.fetchval("select count(*) from view_files.files")
    records = [one async for chunk in log.read() for one in chunk]
    first = next(one for one in records if isinstance(one.event, e.FileQueued))
    assert isinstance(first.event, e.FileQueued)
    event = msgspec.structs.replace(first.event, name="again.xml")
    again = msgspec.structs.replace(first, event=event, seq=51)
    monkeypatch.setattr("tanda.adapters.views.writes.NEW_ROWS_MAX", 0 if copied else 64)
    writes = VIEWS["files"].fold([again])
    await store.commit([Step(view="files", seen=seen, seq=51, event_id=again.id, writes=writes)])
    found = await pool.fetch("select seq from view_files.files where name = 'again.xml'")
    assert [row["seq"] for row in found] == [51]
    assert await pool.fetchval("select count(*) from view_files.files") == rows


async def test_views_are_swapped_while_live(store: ViewStore, pool: asyncpg.Pool, database: Settings) -> None:
    """Rebuilt under the projector's hands: nothing is lost, nothing is left behind."""
    log = MemoryLog()
    random = RandomBatches(log, 5)
    await random.run(200)
    async with projecting(log, store, database):
        await reached(store, 200)
        for _ in range(5):
            rebuilding = asyncio.create_task(rebuild(log, store, ALL))
            while not rebuilding.done():
                await random.run(3)
                await asyncio.sleep(0.001)
            found = await rebuilding
            assert identical(found)
            assert all(one.swapped for one in found)
        await reached(store, await log.position())
        assert identical(await verify(log, store, ALL))
    assert await schemas(pool) == LIVE


async def test_verify_names_a_manipulated_row(
    store: ViewStore, pool: asyncpg.Pool, database: Settings
) -> None:
    """View, key, column and both values; a rebuild then sets it right."""
    log = MemoryLog()
    await RandomBatches(log, 2).run(300)
    async with projecting(log, store, database):
        await reached(store, 300)
        file_id, true_status = await pool.fetchrow(
            "update view_files.files set status = 'lost' where seq = (select max(seq) from view_files.files)"
            " returning file_id, (select status from view_files.files order by seq desc limit 1)"
        )
        tenant = await pool.fetchval(
            "delete from view_stats.tenants where tenant = (select min(tenant) from view_stats.tenants)"
            " returning tenant"
        )
        found = {one.view: one for one in await verify(log, store, ALL)}
        (changed,) = found["files"].differences
        assert (changed.column, changed.live, changed.replayed) == ("status", "lost", true_status)
        assert changed.key["file_id"] == file_id
        (missing,) = found["stats"].differences
        assert (missing.key["tenant"], missing.column, missing.live) == (tenant, None, None)
        assert found["batches"].identical
        repaired = {one.view: one.identical for one in await rebuild(log, store, ALL)}
        assert repaired == {"batches": True, "files": False, "stats": False}
        assert identical(await verify(log, store, ALL))


async def test_a_moment_of_the_past_is_what_a_projector_had_seen_then(
    store: ViewStore, pool: asyncpg.Pool, database: Settings
) -> None:
    """As of a position or a time; kept where it is asked for."""
    log = MemoryLog()
    random = RandomBatches(log, 4)
    await random.run(150)
    async with projecting(log, store, database):
        await reached(store, 150)
        then = {one.view: one.tables for one in await verify(log, store, ALL)}
        await random.run(150)
        found = await as_of(log, store, ALL, 150, rows_max=1, keep=True)
    assert {one.view: one.tables for one in found} == then
    assert {one.schema for one in found} == await schemas(pool) - LIVE
    at = await log.get(150)
    assert at is not None
    end = await position_at(log, at.time)
    following = [await log.get(end), await log.get(end + 1)]
    assert [one is not None and one.time <= at.time for one in following] == [True, False]


async def test_a_view_of_another_version_is_rebuilt_at_the_start(
    store: ViewStore, pool: asyncpg.Pool, database: Settings
) -> None:
    """No migrations: the old rows serve until the new ones are there."""
    log = MemoryLog()
    await RandomBatches(log, 6).run(100)
    async with projecting(log, store, database):
        await reached(store, 100)
    await pool.execute("update view_batches.checkpoint set version = 'of old'")
    await pool.execute("alter table view_batches.batches drop column owner")
    with pytest.raises(Refusal):
        await verify(log, store, ALL)
    async with projecting(log, store, database):
        async with asyncio.timeout(DEADLINE_S):
            while (await store.checkpoint("batches")).version == "of old":  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        await reached(store, 100)
        assert identical(await verify(log, store, ALL))
    assert await schemas(pool) == LIVE


async def test_what_a_killed_rebuild_left_is_dropped(store: ViewStore, pool: asyncpg.Pool) -> None:
    """Schemas whose builder lives are locked; the others are nobody's."""
    await pool.execute("create schema shadow_files_0000dead")
    await pool.execute("create schema retired_files_0000dead")
    async with store.shadow("files", "v", VIEWS["files"].ddl) as shadow:
        dropped = await store.drop_abandoned("files")
        assert shadow.schema in await schemas(pool)
    assert sorted(dropped) == ["retired_files_0000dead", "shadow_files_0000dead"]
    assert await schemas(pool) == set()


async def test_a_log_that_went_back_stops_the_projector(store: ViewStore, database: Settings) -> None:
    """Going on would build on a lie."""
    log = MemoryLog()
    await RandomBatches(log, 1).run(50)
    async with projecting(log, store, database):
        await reached(store, 50)
    shorter = MemoryLog()
    await RandomBatches(shorter, 1).run(20)
    projector = Projector(shorter, store, MemorySignals(), VIEWS, database)
    with pytest.raises(LogDamaged):
        await asyncio.wait_for(projector.run(), DEADLINE_S)


async def test_the_projector_waits_for_a_database_that_is_away(database: Settings) -> None:
    """Nothing is lost and nothing ends; it goes on when the database is back."""
    log = MemoryLog()
    random = RandomBatches(log, 8)
    await random.run(50)
    async with await open_pool(database, "test") as pool, await open_pool(database, "other") as other:
        store = ViewStore(pool)
        async with projecting(log, store, database) as (_, task):
            for _ in range(5):
                await other.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'test' and datname = current_database()"
                )
                await random.run(20)
                await asyncio.sleep(0.02)
            assert not task.done()
            await reached(ViewStore(other), await log.position())
            assert identical(await verify(log, ViewStore(other), ALL))


async def test_a_stopped_projector_stops_at_once(store: ViewStore, database: Settings) -> None:
    """SIGTERM is a cancellation: under a second, also in the middle of work."""
    log = MemoryLog()
    await RandomBatches(log, 9).run(2_000)
    loop = asyncio.get_running_loop()
    async with projecting(log, store, database):
        await asyncio.sleep(0.05)
        began = loop.time()
    assert loop.time() - began < 1.0


async def test_positions_are_announced_in_order(store: ViewStore, database: Settings) -> None:
    """Readers who wait for a position hear of it after the commit, and never of an older one."""
    log, signals = MemoryLog(), MemorySignals()
    random = RandomBatches(log, 1)
    heard: list[int] = []

    async def listen() -> None:
        async for view, seq in signals.positions():
            assert view == "views"
            assert await _seq(store, "stats") >= seq
            heard.append(seq)

    listener = asyncio.create_task(listen())
    task = asyncio.create_task(Projector(log, store, signals, VIEWS, database).run())
    await random.run(200)
    async with asyncio.timeout(DEADLINE_S):
        while not heard or heard[-1] < await log.position():
            await asyncio.sleep(0.01)
    for one in (task, listener):
        one.cancel()
    await asyncio.gather(task, listener, return_exceptions=True)
    assert all(first <= second for first, second in pairwise(heard))


async def test_rows_that_no_event_made_are_passed_over(store: ViewStore, database: Settings) -> None:
    """An event for a file that the view does not know changes nothing and blocks nothing."""
    log = MemoryLog()
    await RandomBatches(log, 1).run(30)
    events: list[Recorded] = [record async for part in log.read() for record in part]
    orphan = [record for record in events if record.name == "FileStarted"][:1]
    assert orphan, "the story has a start"
    async with store.shadow("files", "v", VIEWS["files"].ddl) as shadow:
        await shadow.apply(VIEWS["files"].fold(orphan), 1, "evt")
        async with shadow.reading() as rows:
            assert (await rows.digest(shadow.schema, VIEWS["files"].tables))["files"].rows == 0


async def test_a_second_beginning_stops_no_view(store: ViewStore, database: Settings) -> None:
    """The aggregates forbid it; should the log tell of one, the last counts, live and replayed alike."""
    log = MemoryLog()
    subject = file_subject("acme", "bat_1", "fil_1")
    async with projecting(log, store, database):
        for seq, name in enumerate(("first", "second", "third")):
            event = e.FileQueued(
                name=name,
                index=0,
                content_type="x/y",
                bytes=1,
                sha256="ab",
                source=blob("a"),
                processor="noop",
            )
            new = new_event(subject, event, expected_seq=seq, time_ms=START_MS, origin=ORIGIN)
            await log.append([new])
            await reached(store, seq + 1)
        async with store.snapshot() as rows:
            (row,) = await rows.first("view_files", VIEWS["files"].tables[0], 2)
        assert msgspec.json.decode(row)["name"] == "third"
        assert identical(await verify(log, store, ALL))


@pytest.mark.parametrize("odd", ["plain", "", "values \x1f apart", "\x1e"])
async def test_many_changes_at_once_keep_every_character(store: ViewStore, odd: str) -> None:
    """Whatever stands between values on their way to the server, or for none, may be in one of them."""
    queued: list[Recorded] = []
    started: list[Recorded] = []
    for number in range(40):
        told = odd if number % 2 else f"p{number}"
        events = (
            e.FileQueued(name=told, index=number, content_type="x/y", bytes=1, sha256="ab", source=blob("a"),
                         processor="noop"),
            e.FileStarted(attempt=1, delivery=1, worker="w", processor=told, processor_version="1",
                          previous="queued", provider=told if number % 3 else None),
        )  # fmt: skip
        for stretch, event in zip((queued, started), events, strict=True):
            new = new_event(
                file_subject("acme", "bat_1", f"fil_{number}"), event, expected_seq=0, time_ms=START_MS,
                origin=ORIGIN,
            )  # fmt: skip
            stretch.append(recorded(new, len(queued) + len(started) + 1))
    memory = MemoryTables([VIEWS["files"]])
    async with store.shadow("files", "v", VIEWS["files"].ddl) as shadow:
        for stretch in (queued, started):
            memory.fold(stretch)
            await shadow.apply(VIEWS["files"].fold(stretch), stretch[-1].seq, stretch[-1].id)
        async with shadow.reading() as rows:
            found = [
                msgspec.json.decode(row)
                for row in await rows.first(shadow.schema, VIEWS["files"].tables[0], 50)
            ]
    assert {(row["file_id"],): row for row in found} == memory.rows["files"]
