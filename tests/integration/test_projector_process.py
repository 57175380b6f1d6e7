"""The projector and the replay command as processes, on the real servers."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.projector.catalog import VIEWS
from tanda.adapters.nats import connect
from tanda.adapters.postgres import open_pool
from tanda.adapters.postgres_views import PostgresViews
from tanda.contracts.http import BatchQuery
from tanda.domain.errors import Unavailable
from tanda.ports import Log
from tanda.settings import Settings
from tests.builders import RandomBatches
from tests.integration.databases import own_database
from tests.stack import Stack

DEADLINE_S = 60.0


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Settings]:
    async with own_database(settings) as own:
        yield own


@pytest.fixture
async def log(settings: Settings) -> AsyncIterator[Log]:
    connection = await connect(settings, "test")
    yield connection.log
    await connection.close()


async def run(servers: Stack, database: Settings, *arguments: str) -> Process:
    """``python -m …`` with the settings of this test."""
    env = {**os.environ, **servers.env, "TANDA_POSTGRES_DSN": database.postgres_dsn}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, env=env, stdout=PIPE, stderr=PIPE
    )


async def replay(servers: Stack, database: Settings, *arguments: str) -> tuple[int | None, str, str]:
    process = await run(servers, database, "services.projector.replay", *arguments)
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return process.returncode, out.decode(), err.decode()


async def reached(pool: asyncpg.Pool, seq: int) -> None:
    views = PostgresViews(pool)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if await views.position() >= seq:
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.02)


async def test_killed_and_stopped_the_projector_comes_back_to_the_same_rows(
    servers: Stack, database: Settings, log: Log
) -> None:
    """kill -9 in the middle of work, SIGTERM at the end; then live, replayed and verified are one."""
    random = RandomBatches(log, 11)
    await random.run(60)
    async with await open_pool(database, "test") as pool:
        for _ in range(3):
            killed = await run(servers, database, "services.projector")
            await random.run(30)
            killed.kill()
            await killed.communicate()
        projector = await run(servers, database, "services.projector")
        await random.run(60)
        end = await log.position()
        await reached(pool, end)
        _, batches = await PostgresViews(pool).batches(None, BatchQuery(limit=200))
        assert {one.batch_id for one in random.batches} <= {batch.id for batch in batches.data}

        assert (await replay(servers, database, "--all", "--verify"))[0] == 0
        code, out, _ = await replay(servers, database, "--all", "--json")
        assert (code, [one["identical"] for one in json.loads(out)]) == (0, [True] * len(VIEWS))

        projector.send_signal(signal.SIGTERM)
        began = asyncio.get_running_loop().time()
        await projector.communicate()
        assert projector.returncode == 0
        assert asyncio.get_running_loop().time() - began < 1.0

        await pool.execute(
            "update view_batches.batches set name = 'lost'"
            " where seq = (select max(seq) from view_batches.batches)"
        )
        code, out, _ = await replay(servers, database, "batches", "--verify")
        assert code == 1
        assert "batches.batches [batch_id=" in out
        assert 'name: live "lost", replayed ' in out

        code, out, _ = await replay(servers, database, "batches", "--as-of", str(end))
        assert (code, json.loads(out)[0]["seq"]) == (0, end)


async def test_a_log_that_went_back_is_an_alarm_and_exit_code_3(
    servers: Stack, database: Settings, log: Log
) -> None:
    """No silent continuing."""
    await RandomBatches(log, 12).run(10)
    async with await open_pool(database, "test") as pool:
        first = await run(servers, database, "services.projector")
        await reached(pool, await log.position())
        first.terminate()
        await first.communicate()
        for view in VIEWS:
            await pool.execute(f"update view_{view}.checkpoint set seq = seq + 1000000")
        second = await run(servers, database, "services.projector")
        _, alarm = await asyncio.wait_for(second.communicate(), DEADLINE_S)
        assert second.returncode == 3
        assert b"the log is damaged" in alarm


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["--all", "files"], ["--all", "--verify", "--as-of", "1"]]
)
async def test_wrong_usage_is_exit_code_2(servers: Stack, database: Settings, arguments: list[str]) -> None:
    """And says what is wrong in one line at the end."""
    code, out, err = await replay(servers, database, *arguments)
    assert (code, out) == (2, "")
    assert "error:" in err.splitlines()[-1]
