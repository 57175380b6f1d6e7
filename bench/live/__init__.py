"""From the call of an append, its fsync included, to the SSE client; beside a bare subscription."""

import asyncio
import statistics
import time
from secrets import token_hex

import httpx2

from bench.pipeline import hold, let_go, queued
from bench.stack import idle, settings
from tanda.adapters.nats import connect
from tanda.contracts import ids
from tests.running import Running

EVENTS = 200


async def run(stack: Running, files: int) -> dict[str, float]:
    """``ours`` and ``limit`` in ms at the median, ``ours_p99``, and ours over the limit."""
    del files
    connection = await connect(settings(stack), "bench")
    now_ms = time.time_ns() // 1_000_000
    tenant = f"live{token_hex(3)}"
    batch_id = ids.derived_id(ids.BATCH, now_ms, tenant)
    heard_sse: dict[int, float] = {}
    heard_raw: dict[int, float] = {}
    appended: dict[int, float] = {}
    ready = asyncio.Event()
    subscription = await connection.client.subscribe(f"live.ev.{tenant}.>")

    async def raw() -> None:
        async for message in subscription.messages:
            heard_raw[int((message.headers or {})["Nats-Sequence"])] = time.perf_counter()

    async def sse() -> None:
        async with (
            httpx2.AsyncClient(base_url=stack.url, headers={"Tanda-Tenant": tenant}, timeout=60) as http,
            http.stream("GET", "/v1/events") as response,
        ):
            async for frame in httpx2.EventSource(response):
                ready.set()
                if frame.event != "snapshot":
                    heard_sse[int(frame.id)] = time.perf_counter()
                if len(heard_sse) == EVENTS:
                    return

    await hold(connection.log, tenant, batch_id, now_ms)
    await stack.until(lambda: idle(stack, connection), 120)
    listening = [asyncio.create_task(raw()), asyncio.create_task(sse())]
    await ready.wait()
    for index in range(EVENTS):
        begun = time.perf_counter()
        (seq,) = await connection.log.append([queued(tenant, batch_id, index, now_ms)])
        appended[seq] = begun
    await asyncio.wait_for(listening[1], 30)
    listening[0].cancel()
    await let_go(connection.log, tenant, batch_id)
    await connection.close()
    ours = sorted((heard_sse[seq] - at) * 1000 for seq, at in appended.items())
    limit = sorted((heard_raw[seq] - at) * 1000 for seq, at in appended.items())
    return {
        "ours": statistics.median(ours), "ours_p99": ours[int(len(ours) * 0.99)],
        "limit": statistics.median(limit),
    }  # fmt: skip
