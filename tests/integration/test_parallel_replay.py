"""A replay by several processes: the same rows as by one, and whatever happens to one of them."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from services.projector.catalog import VIEWS
from services.projector.parallel.processes import Processes
from services.projector.parallel.wire import (
    Begin,
    Failed,
    Folded,
    Link,
    Ready,
    Stretch,
    Written,
    YourTurn,
    link,
)
from services.projector.rebuild import as_of, rebuild, verify
from services.projector.version import version_of
from tanda.adapters.nats import connect
from tanda.adapters.postgres import open_pool
from tanda.adapters.views.store import ViewStore
from tanda.contracts.views import TableDigest
from tanda.domain.errors import Unavailable
from tanda.ports import Log
from tanda.settings import Settings
from tests.builders import RandomBatches
from tests.integration.databases import own_database
from tests.stack import Stack

ALL = list(VIEWS.values())
DEADLINE_S = 20.0
#: The run's log is as long as the tests before have made it.
STRETCHES = 30
PROCESSES = 3


@pytest.fixture(scope="module")
async def log(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Log]:
    """Random lives of files, single ones and groups, with retries and archiving."""
    connection = await connect(servers.settings(tmp_path_factory.mktemp("data")), "test")
    await RandomBatches(connection.log, 31, batches_max=12).run(250)
    yield connection.log
    await connection.close()


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Settings]:
    async with own_database(settings) as own:
        yield own


@pytest.fixture
async def pool(database: Settings) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database, "test", connections_max=12) as pool:
        yield pool


@pytest.fixture
async def processes(database: Settings, log: Log) -> Processes:
    events_max = max(20, await log.position() // STRETCHES)
    return Processes(database, number=PROCESSES, positions_min=1, events_max=events_max)


def fillers() -> list[int]:
    """The processes that the one which this one has started has forked."""
    started = [one for one in children(os.getpid()) if b"services.projector.parallel" in command(one)]
    return [child for one in started for child in children(one)]


def await_fillers() -> None:
    """Holds this process up until they are there: it would be done without them."""
    deadline = time.monotonic() + DEADLINE_S
    while len(fillers()) < PROCESSES and time.monotonic() < deadline:
        os.sched_yield()


def children(pid: int) -> list[int]:
    texts = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(one) for text in texts for one in text.split()]


def command(pid: int) -> bytes:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_bytes() if path.exists() else b""


@asynccontextmanager
async def a_process(database: Settings, schemas: dict[str, str]) -> AsyncGenerator[tuple[Process, Link]]:
    """One process, and a link to it."""
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.projector.parallel", str(theirs.fileno()),
        stdin=DEVNULL, pass_fds=[theirs.fileno()],
    )  # fmt: skip
    theirs.close()
    async with asyncio.timeout(DEADLINE_S):
        talk = await link(ours)
        await talk.tell(Begin(database, schemas))
        assert await talk.news() == Ready()
        yield process, talk


async def digests(pool: asyncpg.Pool) -> dict[str, dict[str, TableDigest]]:
    async with ViewStore(pool).snapshot() as rows:
        return {view.name: await rows.digest(f"view_{view.name}", view.tables) for view in ALL}


async def test_several_processes_make_the_rows_that_one_makes(
    pool: asyncpg.Pool, log: Log, processes: Processes
) -> None:
    """In many stretches, some in parts, one after the other; swapped in and compared like any replay."""
    end, store = await log.position(), ViewStore(pool)
    alone = await as_of(log, store, ALL, end, rows_max=1)
    steps: list[int] = []

    def step(position: int) -> None:
        if not steps:
            await_fillers()
        steps.append(position)

    together = await as_of(log, store, ALL, end, rows_max=1, fill=processes.fill, progress=step)
    assert [one.tables for one in together] == [one.tables for one in alone]
    assert [one.rows for one in together] == [one.rows for one in alone]
    assert len(steps) > STRETCHES // 2
    assert steps == sorted(set(steps))
    assert steps[-1] == end
    assert all(one.swapped for one in await rebuild(log, store, ALL, fill=processes.fill))
    assert all(one.identical for one in await verify(log, store, ALL, fill=processes.fill))
    assert fillers() == []


async def test_a_killed_process_fails_the_replay_and_nothing_else(
    pool: asyncpg.Pool, log: Log, processes: Processes
) -> None:
    """It says so, no process stays behind, the live views are as they were, and the next replay is well."""
    store = ViewStore(pool)
    await rebuild(log, store, ALL)
    before = await digests(pool)
    half = await log.position() // 2
    killed: list[int] = []

    def kill(position: int) -> None:
        if not killed:
            await_fillers()
        if position >= half and not killed:
            killed.append(fillers()[-1])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(Unavailable, match="a process that fills the views ended in the middle of its work"):
        await rebuild(log, store, ALL, fill=processes.fill, progress=kill)
    assert killed
    assert fillers() == []
    assert await digests(pool) == before
    assert all(one.identical for one in await rebuild(log, store, ALL, fill=processes.fill))
    rows = await pool.fetch("select nspname from pg_namespace where nspname ~ '^(view|shadow|retired)_'")
    assert {row["nspname"] for row in rows} == {f"view_{name}" for name in VIEWS}


async def test_a_process_ends_with_whoever_started_it(
    database: Settings, pool: asyncpg.Pool, log: Log
) -> None:
    """Though it has been told to go on; what it has written before is there."""
    end, view = await log.position(), VIEWS["stats"]
    shadowed = ViewStore(pool).shadow("stats", version_of(view), view.ddl)
    async with shadowed as shadow, a_process(database, {"stats": shadow.schema}) as (process, talk):
        await talk.tell(Stretch(0, None, end, 1_000_000))
        folded = await talk.news()
        assert isinstance(folded, Folded)
        assert folded.seq == end
        await talk.tell(YourTurn())
        assert await talk.news() == Written(end, folded.told)
        await talk.tell(Stretch(end, None, end + 1_000_000, 1_000_000))  # it waits for what does not come
        talk.close()
        assert await process.wait() == 0
        await shadow.refresh()
        assert shadow.checkpoint.seq == end


async def test_a_damaged_log_is_told(database: Settings, log: Log) -> None:
    """Whoever started the process learns that it was the log, which is to stop everything."""
    end = await log.position()
    async with a_process(database, {"stats": "shadow_of_nobody"}) as (process, talk):
        await talk.tell(Stretch(end, "evt_of_another_log", end + 1, 1_000_000))
        news = await talk.news()
        assert isinstance(news, Failed)
        assert news.log_is_damaged
        assert await process.wait() == 0
