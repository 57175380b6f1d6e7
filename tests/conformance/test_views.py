"""One body for the views in memory and in PostgreSQL: the same log, the same answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from services.projector.catalog import VIEWS
from services.projector.rebuild import rebuild
from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.views import MemoryViews
from tanda.adapters.postgres import open_pool
from tanda.adapters.postgres_views import PostgresViews
from tanda.adapters.views.store import ViewStore
from tanda.contracts import events as e
from tanda.contracts.envelope import new_event
from tanda.contracts.http import BatchQuery, FileQuery, Page, Places
from tanda.contracts.results import FileError
from tanda.contracts.subjects import BATCH_TOKEN, file_subject
from tanda.domain.errors import Refusal, Unavailable
from tanda.ports import Log, Views
from tanda.settings import Settings
from tests.builders import ORIGIN, START_MS, RandomBatches, blob
from tests.integration.databases import own_database

NOW_MS = START_MS + 3_600_000
STATUSES = ["active", "open", "queued", "processing", "paused", "completed", "failed", "cancelled"]


def now_ms() -> int:
    return NOW_MS


class World:
    """A log and its views, brought up to date on request."""

    def __init__(self, log: Log, views: Views, store: ViewStore | None) -> None:
        self.log = log
        self.views = views
        self.store = store

    async def catch_up(self) -> None:
        """Builds the views anew: where there are some, a rebuild goes no further than they do."""
        if self.store is not None:
            for name in VIEWS:
                await self.store.drop(name)
            await rebuild(self.log, self.store, list(VIEWS.values()))


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[World]:
    log = MemoryLog()
    if request.param == "memory":
        yield World(log, MemoryViews(log, VIEWS.values(), now_ms), None)
        return
    async with own_database(settings) as own, await open_pool(own, "test", connections_max=16) as pool:
        yield World(log, PostgresViews(pool, now_ms), ViewStore(pool))


async def pages(ask: Any, query: Any) -> list[Any]:
    """Every row of a list, page by page."""
    found: list[Any] = []
    while True:
        page: Page[Any] = (await ask(query)).found
        found += page.data
        assert page.has_more == (page.next_cursor is not None)
        if not page.has_more:
            return found
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


async def everything(views: Views, tenant: str | None) -> dict[str, Any]:
    """All that the views tell a tenant."""
    position = await views.position()
    told: dict[str, Any] = {"position": position, "stats": await views.stats(tenant, 3)}
    told["places"] = await views.places(tenant)
    batches = await pages(lambda query: views.batches(tenant, query), BatchQuery(limit=2))
    told["batches"] = batches
    for status in STATUSES:
        seq, page = await views.batches(tenant, BatchQuery(status=status, sort="created_at"))
        assert seq == position, "with rows and without, it is the position of all views"
        told[status] = [batch.id for batch in page.data]
    for batch in batches:
        assert await views.batch(tenant, batch.id) == (position, batch)

        async def ask(query: FileQuery, batch_id: str = batch.id) -> Any:
            return await views.files(tenant, batch_id, query)

        files = await pages(ask, FileQuery(limit=5))
        told[batch.id] = files
        for file in files:
            assert await views.file(tenant, batch.id, file.id) == (position, file)
            told[file.id] = await views.blobs(tenant, batch.id, file.id)
    return told


@pytest.mark.parametrize("seed", range(3))
async def test_postgres_tells_what_memory_tells(seed: int, world: World) -> None:
    """Counts, statuses, pages and sums, of a tenant and of all."""
    await RandomBatches(world.log, seed).run(300)
    await world.catch_up()
    reference = MemoryViews(world.log, VIEWS.values(), now_ms)
    for tenant in ("acme", "zeta", None):
        assert await everything(world.views, tenant) == await everything(reference, tenant)


async def test_a_foreign_batch_is_not_there(world: World) -> None:
    """By id, in lists and in counts."""
    random = RandomBatches(world.log, 1)
    await random.run(100)
    await world.catch_up()
    one = random.batches[0]
    file_id = next(iter(one.files))
    position = await world.views.position()
    assert await world.views.batch("nobody", one.batch_id) == (position, None)
    assert await world.views.file("nobody", one.batch_id, file_id) == (position, None)
    assert await world.views.blobs("nobody", one.batch_id, file_id) == (position, None)
    assert await world.views.files("nobody", one.batch_id, FileQuery()) == (position, None)
    assert (await world.views.batches("nobody", BatchQuery())).found.data == []
    assert (await world.views.stats("nobody", 7)).batches == 0


async def test_a_source_that_is_in_its_place_is_found_when_its_batch_rests(world: World) -> None:
    """Completed and failed files keep theirs until the log says otherwise, storage or a person."""

    async def tell(token: str, *events: e.Event) -> Places:
        subject = file_subject("acme", "bat_1", token)
        for event in events:
            last = await world.log.last(subject)
            expected = last.seq if last else 0
            new = new_event(subject, event, expected_seq=expected, time_ms=START_MS, origin=ORIGIN)
            await world.log.append([new])
        await world.catch_up()
        return await world.views.places("acme")

    await tell(BATCH_TOKEN, e.BatchCreated(name="b"))
    for number, token in enumerate(("fil_1", "fil_2", "fil_3")):
        queued = e.FileQueued(
            name=token,
            index=number,
            content_type="x/y",
            bytes=1,
            sha256="ab",
            source=blob(token),
            processor="p",
        )
        error = FileError(code="c", message="m")
        completed = e.FileCompleted(
            attempt=1, processor="p", processor_version="1", duration_ms=1, previous="queued",
            result_sha256="ab", result_bytes=1,
        )  # fmt: skip
        failed = e.FileFailed(attempt=1, error=error, previous="queued")
        await tell(token, queued, completed if number < 2 else failed)
    places = await tell(BATCH_TOKEN, e.BatchSealed(total=3))
    assert (places.head and places.head.name, places.through, places.archived) == ("fil_1", 2, 0)
    places = await tell(BATCH_TOKEN, e.SourcesArchived(sources={"fil_1": blob("x")}))
    assert (places.head and places.head.name, places.through, places.archived) == ("fil_2", 1, 1)
    places = await tell(BATCH_TOKEN, e.SourcesArchived(sources={"fil_2": blob("x")}))
    assert (places.head and places.head.name, places.through, places.archived) == ("fil_3", 0, 2)
    forced = e.SourceForceArchived(file_id="fil_3", source=blob("x"), reason="r")
    assert await tell(BATCH_TOKEN, forced) == Places(head=None, through=0, archived=3)


async def test_lists_are_searched_without_regard_to_case(world: World) -> None:
    """Also beyond ASCII; a tag is taken as it is."""
    await RandomBatches(world.log, 4).run(400)
    await world.catch_up()
    _, named = await world.views.batches(None, BatchQuery(q="AÑO Ñ"))
    assert {batch.name for batch in named.data} <= {"Año Ñandú"}
    _, tagged = await world.views.batches(None, BatchQuery(tag="a"))
    assert all("a" in batch.tags for batch in tagged.data)
    later = (await world.views.batches(None, BatchQuery(sort="created_at"))).found.data
    _, after = await world.views.batches(
        None, BatchQuery(sort="created_at", created_after=later[0].created_at)
    )
    assert after.data == later[1:]
    _, files = await world.views.files(None, later[0].id, FileQuery(q="FACTURA 1."))
    assert files is not None, "a batch without a file that fits is a batch"
    assert {file.name for file in files.data} <= {"Factura 1.XML"}
    assert (await world.views.batches(None, BatchQuery(q="100%_\0"))).found.data == []


async def test_a_made_up_cursor_is_refused(world: World) -> None:
    """With the caller's mistake named, not with an error of ours."""
    await RandomBatches(world.log, 1).run(20)
    await world.catch_up()
    for cursor in ("x", "bm9uc2Vuc2U", "WzFd", "ñ"):
        with pytest.raises(Refusal):
            await world.views.batches(None, BatchQuery(cursor=cursor))


async def test_views_that_are_being_built_are_unavailable(settings: Settings) -> None:
    """Not empty: a batch that exists is never reported missing."""
    async with own_database(settings) as own, await open_pool(own, "test") as pool:
        with pytest.raises(Unavailable):
            await PostgresViews(pool).batch(None, "bat_1")
        with pytest.raises(Unavailable):
            await PostgresViews(pool).position()


async def test_readers_notice_nothing_of_a_swap(settings: Settings) -> None:
    """Prepared statements find the new schema behind the same name."""
    log = MemoryLog()
    await RandomBatches(log, 3).run(300)
    async with own_database(settings) as own, await open_pool(own, "test", connections_max=16) as pool:
        store, views = ViewStore(pool), PostgresViews(pool, now_ms)
        await rebuild(log, store, list(VIEWS.values()))
        before = await everything(views, None)
        for _ in range(3):
            rebuilding = asyncio.create_task(rebuild(log, store, list(VIEWS.values())))
            while not rebuilding.done():
                assert await everything(views, None) == before
            await rebuilding
