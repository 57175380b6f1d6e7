"""One body for bulk actions kept in memory and in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from tanda.adapters.bulk import MemoryBulk, PostgresBulk
from tanda.adapters.migrations import migrate
from tanda.adapters.postgres import open_pool
from tanda.contracts.http import BulkError, BulkRun
from tanda.ports import BulkStore
from tanda.settings import Settings
from tests.integration.databases import own_database

AT = "2026-11-21T05:13:00.000Z"
LEASE_S = 30.0
RUN = BulkRun(
    id="blk_1", tenant="acme", action="pause", filter={"q": "ñ \u0000"}, actor="ana",
    batch_ids=["bat_1", "bat_2"], created_at=AT,
)  # fmt: skip


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[BulkStore]:
    if request.param == "memory":
        yield MemoryBulk()
        return
    async with own_database(settings) as own, await open_pool(own, "test") as pool:
        await migrate(pool)
        yield PostgresBulk(pool)


async def test_a_run_is_worked_on_by_one_and_kept_as_far_as_it_has_come(store: BulkStore) -> None:
    """Begun once, claimed once, noted, finished; then nobody claims it any more."""
    await store.create(RUN)
    await store.create(msgspec.structs.replace(RUN, action="cancel"))
    assert await store.get("blk_1") == RUN
    claims = await asyncio.gather(*(store.claim(one, LEASE_S) for one in "ab"))
    assert sorted(claims, key=str) == sorted([RUN, None], key=str)
    holder = "ab"[claims.index(RUN)]
    error = BulkError(batch_id="bat_2", code="batch_not_found", detail="No.")
    further = msgspec.structs.replace(RUN, position=2, done=1, failed=1, errors=[error])
    assert await store.keep(further, holder, LEASE_S)
    assert not await store.keep(RUN, "somebody else", LEASE_S)
    await store.finish(further, holder, AT)
    assert await store.get("blk_1") == msgspec.structs.replace(further, status="completed", finished_at=AT)
    assert await store.claim("c", LEASE_S) is None


async def test_a_silent_workers_run_is_taken_over(store: BulkStore) -> None:
    """Where it had come to; the first one's word counts no more."""
    await store.create(RUN)
    await store.claim("a", 0.0)
    assert await store.claim("b", LEASE_S) == RUN
    assert not await store.keep(msgspec.structs.replace(RUN, position=1), "a", LEASE_S)


async def test_what_ended_long_ago_is_forgotten(store: BulkStore) -> None:
    """Finished or aborted; what ended lately is told, and what runs is kept however silent its worker."""
    names = ("finished", "aborted", "lately", "running")
    for name in names:
        await store.create(msgspec.structs.replace(RUN, id=name))
        claimed = await store.claim(name, -100.0 if name != "lately" else LEASE_S)
        assert claimed and claimed.id == name
        if name in ("finished", "lately"):
            await store.finish(claimed, name, AT)
        elif name == "aborted":
            await store.abort(name, AT)
    await store.forget_older(1_000.0)
    assert [name for name in names if await store.get(name)] == list(names)
    await store.forget_older(50.0)
    assert [name for name in names if await store.get(name)] == ["lately", "running"]
    await store.forget_older()
    assert [name for name in names if await store.get(name)] == ["lately", "running"]


async def test_an_aborted_run_is_nobodys(store: BulkStore) -> None:
    """Its worker learns it with its next word; an abort of what is finished changes nothing."""
    await store.create(RUN)
    await store.claim("a", LEASE_S)
    await store.abort("blk_1", AT)
    assert not await store.keep(RUN, "a", LEASE_S)
    await store.finish(RUN, "a", "2026-11-21T06:00:00.000Z")
    ended = await store.get("blk_1")
    assert ended is not None and (ended.status, ended.finished_at) == ("aborted", AT)
    await store.abort("blk_1", "2026-11-21T07:00:00.000Z")
    assert await store.get("blk_1") == ended
    assert await store.get("blk_2") is None
