"""Three thousand live clients of one gateway: what each takes, when the last has an event, and whether
a large batch that runs at full speed before their eyes keeps a reader of the list waiting."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from bench.control import seal
from bench.idle import cpu_s, pss_mb
from bench.pipeline import hold, let_go, queued
from bench.stack import idle, settings
from tanda.adapters.nats import Connection, connect
from tanda.contracts import ids
from tests.running import Running

CLIENTS = 3_000
EVENTS = 30
GAP_S = 0.2
BATCH = 10_000
PATIENCE_S = 600


class Beside:
    """A process of the measuring program's: clients, or a reader of the list."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        async with asyncio.timeout(PATIENCE_S):
            return json.loads(await self.process.stdout.readline())

    async def report(self) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        return await self.answer()


@asynccontextmanager
async def beside(stack: Running, module: str, *words: str) -> AsyncGenerator[Beside]:
    """Once it is ready."""
    address = urlsplit(stack.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(address.hostname), str(address.port), *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    try:
        one = Beside(process)
        await one.answer()
        yield one
    finally:
        process.kill()
        await process.wait()


async def run(stack: Running, files: int, clients: int = CLIENTS) -> dict[str, float]:
    """``ours``: ms from an append's call to the last client, p50; ``kb``: memory of a client in the gateway;
    ``list_p99_ms``: of ``GET /v1/batches`` while 10,000 files run, ``list_alone_p99_ms`` without the clients.
    """
    del files
    connection = await connect(settings(stack), "bench")
    await stack.until(lambda: idle(stack, connection), 120)
    alone = await list_p99_ms(stack, connection, f"alone{token_hex(3)}")
    await stack.until(lambda: idle(stack, connection), 120)
    tenant = f"crowd{token_hex(3)}"
    now_ms = time.time_ns() // 1_000_000
    batch_id = ids.derived_id(ids.BATCH, now_ms, tenant)
    await hold(connection.log, tenant, batch_id, now_ms)
    await stack.until(lambda: idle(stack, connection), 120)
    gateway = stack.facts()["pids"]["gateway"][0]
    before = pss_mb(gateway)
    async with beside(stack, "bench.live.crowd", tenant, str(clients)) as listening:
        kb = 1024 * (pss_mb(gateway) - before) / clients
        begun = cpu_s(gateway)
        appended: list[float] = []
        for index in range(EVENTS):
            appended.append(time.perf_counter())
            await connection.log.append([queued(tenant, batch_id, index, time.time_ns() // 1_000_000)])
            await asyncio.sleep(GAP_S)
        cpu_us = 1e6 * (cpu_s(gateway) - begun) / EVENTS / clients
        seen = await stack.until(lambda: all_told(listening), 60)
        taken = sorted(1000 * (at - sent) for at, sent in zip(seen["last"], appended, strict=True))
        await let_go(connection.log, tenant, batch_id)
        await stack.until(lambda: idle(stack, connection), 120)
        under = await list_p99_ms(stack, connection, tenant)
        after = await listening.report()
        await stack.until(lambda: idle(stack, connection), 300)
        grown = 1024 * (pss_mb(gateway) - before) / clients
    await connection.close()
    return {
        "ours": statistics.median(taken), "ours_max": taken[-1], "kb": kb, "kb_after": grown,
        "cpu_us_per_frame": cpu_us, "list_p99_ms": under, "list_alone_p99_ms": alone,
        "snapshots_in_between": after["snapshots"] - seen["snapshots"], "lost": after["lost"],
    }  # fmt: skip


async def all_told(listening: Beside) -> dict[str, Any] | None:
    """The report in which the last client has had the last event."""
    seen = await listening.report()
    assert len(seen["last"]) <= EVENTS
    return seen if len(seen["last"]) == EVENTS and all(seen["last"]) else None


async def list_p99_ms(stack: Running, connection: Connection, tenant: str) -> float:
    """Of a reader of the list while a batch is accepted and runs to its end."""
    async with beside(stack, "bench.live.reader", tenant) as reader:
        _, batch_id = await seal(stack, connection, BATCH, tenant)
        await stack.finished(batch_id, PATIENCE_S)
        taken = sorted((await reader.report())["taken_ms"])
    return taken[int(len(taken) * 0.99)]
