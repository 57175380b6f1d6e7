"""One body for the idempotency keys in memory and in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tanda.adapters import postgres
from tanda.adapters.idempotency import MemoryIdempotency, PostgresIdempotency
from tanda.adapters.migrations import migrate
from tanda.adapters.postgres import open_pool
from tanda.contracts.idempotency import Fresh, Mismatch, Replay, Running
from tanda.domain.errors import Unavailable
from tanda.settings import Settings
from tests.integration.databases import own_database

Keys = MemoryIdempotency | PostgresIdempotency
Make = Callable[..., Keys]


@pytest.fixture(params=["memory", "postgres"])
async def make(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Make]:
    if request.param == "memory":
        yield MemoryIdempotency
        return
    async with own_database(settings) as own, await open_pool(own, "test") as pool:
        await migrate(pool)
        yield lambda **options: PostgresIdempotency(pool, **options)


async def test_a_repeat_gets_the_first_answer(make: Make) -> None:
    """Fresh, running, then the stored answer; another body is a mismatch all the while."""
    keys = make()
    assert await keys.begin("acme", "k", "body", "bat_1") == Fresh("bat_1")
    assert await keys.begin("acme", "k", "body", "bat_2") == Running()
    assert await keys.begin("acme", "k", "other", "bat_3") == Mismatch()
    await keys.finish("acme", "k", b"answer")
    await keys.finish("acme", "k", b"a later answer")
    assert await keys.begin("acme", "k", "body", "bat_4") == Replay(b"answer")
    assert await keys.begin("acme", "k", "other", "bat_5") == Mismatch()


async def test_keys_of_tenants_are_apart(make: Make) -> None:
    """The same key of another tenant is another key."""
    keys = make()
    assert await keys.begin("acme", "k", "body", "bat_1") == Fresh("bat_1")
    assert await keys.begin("zeta", "k", "body", "bat_2") == Fresh("bat_2")


async def test_a_dead_holder_is_taken_over_under_its_id(make: Make) -> None:
    """What it had begun is completed, never made twice; with another body it stays a mismatch."""
    keys = make(lease_s=0.05)
    assert await keys.begin("acme", "k", "body", "bat_1") == Fresh("bat_1")
    await asyncio.sleep(0.1)
    assert await keys.begin("acme", "k", "other", "bat_2") == Mismatch()
    assert await keys.begin("acme", "k", "body", "bat_2") == Fresh("bat_1")


async def test_a_renewed_lease_holds(make: Make) -> None:
    """A long upload keeps its key."""
    keys = make(lease_s=0.3)
    await keys.begin("acme", "k", "body", "bat_1")
    for _ in range(4):
        await asyncio.sleep(0.1)
        await keys.renew("acme", "k")
    assert await keys.begin("acme", "k", "body", "bat_2") == Running()


async def test_a_released_key_takes_another_body_under_the_same_id(make: Make) -> None:
    """After a refusal the request may be corrected."""
    keys = make()
    await keys.begin("acme", "k", "wrong", "bat_1")
    await keys.release("acme", "k")
    assert await keys.begin("acme", "k", "right", "bat_2") == Fresh("bat_1")


async def test_a_key_that_was_given_back_stays_so(make: Make) -> None:
    """Its holder's last renewal may come after it: whoever repeats the request goes ahead all the same."""
    keys = make()
    assert await keys.begin("acme", "k", "body", "bat_1") == Fresh("bat_1")
    await keys.release("acme", "k")
    await keys.renew("acme", "k")
    assert await keys.begin("acme", "k", "body", "bat_2") == Fresh("bat_1")


async def test_an_old_key_is_forgotten(make: Make) -> None:
    """By the next request with it, and by the sweep."""
    keys = make(kept_s=0.05)
    await keys.begin("acme", "k", "body", "bat_1")
    await keys.finish("acme", "k", b"answer")
    await asyncio.sleep(0.1)
    assert await keys.begin("acme", "k", "other", "bat_2") == Fresh("bat_2")
    await keys.finish("acme", "k", b"answer")
    await asyncio.sleep(0.01)
    await keys.forget_older(0.001)
    assert await keys.begin("acme", "k", "third", "bat_3") == Fresh("bat_3")


async def test_of_many_at_once_one_goes_ahead(make: Make) -> None:
    """A double click makes one batch."""
    keys = make()
    told = await asyncio.gather(*(keys.begin("acme", "k", "body", f"bat_{n}") for n in range(8)))
    assert sum(isinstance(one, Fresh) for one in told) == 1
    assert sum(isinstance(one, Running) for one in told) == 7


async def test_migrations_apply_once(settings: Settings) -> None:
    """Two processes that start together take turns."""
    async with own_database(settings) as own, await open_pool(own, "test") as pool:
        first, second = await asyncio.gather(migrate(pool), migrate(pool))
        assert sorted([first, second]) == [
            [],
            ["0001_idempotency", "0002_bulk_actions", "0003_no_view_of_history"],
        ]


async def test_a_server_that_hangs_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections are open and nothing comes: Unavailable in time, and the pool is as before."""
    monkeypatch.setattr(postgres, "ANSWER_S", 0.3)
    async with own_database(settings) as own, await open_pool(own, "test", connections_max=2) as pool:
        await migrate(pool)
        keys = PostgresIdempotency(pool)
        async with pool.acquire() as other, other.transaction():
            await other.execute("lock table tanda.idempotency in access exclusive mode")
            for call in (keys.begin("acme", "k", "body", "bat_1"), keys.renew("acme", "k")):
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(call, 5)
        assert await keys.begin("acme", "k", "body", "bat_1") == Fresh("bat_1")
