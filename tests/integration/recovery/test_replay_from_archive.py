"""`tanda replay --from-archive`: the log, and everything that had been ahead of it."""

from collections.abc import AsyncIterator
from hashlib import sha256

import asyncpg
import msgspec
import pytest

from services.projector.catalog import VIEWS
from services.projector.from_archive import BroughtBack, bring_back
from services.projector.rebuild import Replayed, rebuild, verify
from tanda.adapters.postgres import open_pool
from tanda.adapters.views.store import ViewStore
from tanda.archive.records import event_id, same
from tanda.contracts.work import Presence
from tanda.domain.errors import Refusal
from tanda.follower import Snapshot
from tests.integration.recovery.site import Site

ALL = list(VIEWS.values())


@pytest.fixture
async def pool(place: Site) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(place.settings, "test", connections_max=12) as pool:
        yield pool


async def back(place: Site, pool: asyncpg.Pool, *, force: bool = True) -> BroughtBack:
    return await bring_back(place.connection, pool, place.settings, force=force, progress=lambda _: None)


async def views(place: Site, pool: asyncpg.Pool) -> list[Replayed]:
    return await rebuild(place.connection.log, ViewStore(pool), ALL)


async def snapshot(place: Site, position: int, anchor: str) -> str:
    """A snapshot of some fold at a position; its key."""
    data = msgspec.msgpack.encode(Snapshot(position=position, anchor=anchor, state=b""))
    digest = sha256(data).hexdigest()
    key = f"snapshots/storage/{position:020d}.{digest}"
    await place.blobs.put(key, data, sha256=digest, content_type="application/msgpack")
    return key


async def test_a_lost_log_and_its_views_are_what_they_were(place: Site, pool: asyncpg.Pool) -> None:
    """The command itself: restored from the archive, every view is row by row the one from before."""
    await place.events(400)
    await place.archive_all()
    before = await place.records()
    await views(place, pool)
    await place.raw.recreate()
    code, out, err = await place.command("services.projector.replay", "--from-archive")
    assert code == 0, err
    after = await place.records()
    assert len(after) == len(before) and all(map(same, before, after))
    assert f"{len(before)} events were restored" in out and "lost" not in out
    assert out.count("identical to live") == len(VIEWS)
    assert all(one.identical for one in await verify(place.connection.log, ViewStore(pool), ALL))


async def test_what_is_lost_is_counted_and_nothing_stays_ahead(place: Site, pool: asyncpg.Pool) -> None:
    """Events newer than the archive are gone: they are counted, and views and snapshots go back too."""
    await place.events(200)
    await place.archive_all()
    records = await place.records()
    kept = await snapshot(place, 150, event_id(records[149]))
    await snapshot(place, 151, "evt_other")
    await place.events(30, seed=2)
    ahead = (await place.raw.facts()).last
    await views(place, pool)
    await snapshot(place, ahead, event_id((await place.records())[-1]))
    await place.raw.recreate()

    found = await back(place, pool)
    assert (found.restored.last, found.lost, found.snapshots) == (len(records), ahead - len(records), 2)
    assert f"positions {len(records) + 1} to {ahead}" in " ".join(found.sentences())
    assert await place.blobs.keys("snapshots/") == [kept]
    assert {one.seq for one in await views(place, pool)} == {len(records)}
    assert all(one.identical for one in await verify(place.connection.log, ViewStore(pool), ALL))


async def test_a_log_that_is_well_is_left_alone(place: Site, pool: asyncpg.Pool) -> None:
    """It says so, and nothing is dropped."""
    await place.events(50)
    await place.archive_all()
    await views(place, pool)
    before = await place.records()
    found = await back(place, pool)
    assert (found.lost, found.views, found.restored.written) == (0, [], 0)
    assert "agree" in found.sentences()[0]
    assert await place.records() == before


async def test_the_log_is_not_pulled_away_from_running_services(place: Site, pool: asyncpg.Pool) -> None:
    """Whoever has said hello within seconds may write; --force is the operator's own word."""
    await place.events(20)
    await place.archive_all()
    await place.raw.recreate()
    await place.connection.board.hello(Presence(name="gateway", instance="1", at="2026-11-25T00:00:00Z"))
    await place.connection.client.flush()
    with pytest.raises(Refusal, match="Stop the services first"):
        await back(place, pool, force=False)
    assert (await place.raw.facts()).last == 0
    assert (await back(place, pool)).restored.last > 0
