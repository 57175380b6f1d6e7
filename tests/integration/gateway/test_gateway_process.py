"""The gateway as a process of its own, over the real servers."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import httpx2

from tanda.adapters.bulk import PostgresBulk
from tanda.adapters.migrations import migrate
from tanda.adapters.postgres import open_pool
from tanda.contracts.http import BulkRun
from tests.integration.gateway.stand import parts, xml
from tests.stack import Stack

START_S_MAX = 60.0
#: Only a gateway that hangs takes so long.
STOP_S_MAX = 30.0
#: A bulk action that was last worked on so many hours ago.
AGE = "update tanda.bulk_actions set lease_until = now() - make_interval(hours => $2) where id = $1"


@asynccontextmanager
async def gateway(servers: Stack, data: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Started, ready, and killed if it is still there at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, **servers.env, "TANDA_DATA": str(data), "TANDA_PORT": str(port)}
    with (data / "gateway.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.gateway", env=env, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await _ready(url)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(url: str) -> None:
    deadline = time.monotonic() + START_S_MAX
    async with httpx2.AsyncClient() as http:
        while time.monotonic() < deadline:
            try:
                if (await http.get(f"{url}/readyz")).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError("the gateway is not ready in time")


async def test_it_accepts_streams_and_leaves_in_order(servers: Stack, tmp_path: Path) -> None:
    """An upload is durable and live at once; SIGTERM says goodbye to live clients and exits with 0."""
    async with gateway(servers, tmp_path) as (process, url), httpx2.AsyncClient(timeout=20) as http:
        files = parts(("a.xml", xml(1)), ("b.xml", xml(2) * 20_000))
        headers = {"Idempotency-Key": f"k-{time.monotonic_ns()}"}
        made = await http.post(f"{url}/v1/batches", files=files, headers=headers)
        assert made.status_code == 201 and made.json()["counts"]["queued"] == 2, made.text
        again = await http.post(f"{url}/v1/batches", files=files, headers=headers)
        assert again.headers["idempotency-replayed"] == "true" and again.content == made.content
        after = str(int(made.headers["tanda-seq"]) - 4)
        async with http.stream("GET", f"{url}/v1/events", headers={"Last-Event-ID": after}) as response:
            lines = response.aiter_lines()
            names = [await _event(lines) for _ in range(4)]
            assert names == ["BatchCreated", "FileQueued", "FileQueued", "BatchSealed"]
            process.send_signal(signal.SIGTERM)
            assert await _event(lines) == "drain"
            # This client stays: nobody waits for it, and nothing has to be torn off when the grace is over.
            async with asyncio.timeout(STOP_S_MAX):
                assert await process.wait() == 0
    said = (tmp_path / "gateway.log").read_text()
    assert "The gateway has stopped." in said and "graceful shutdown exceeded" not in said
    assert not list((tmp_path / "spool").glob("gateway-*"))


async def test_it_forgets_bulk_actions_that_ended_over_a_day_ago(servers: Stack, tmp_path: Path) -> None:
    """One from two days ago is gone soon after the start; one from yesterday evening is still told."""
    async with await open_pool(servers.settings(tmp_path), "test") as pool:
        await migrate(pool)
        store = PostgresBulk(pool)
        old, late = (f"blk_{hours}_{token_hex(6)}" for hours in (48, 12))
        for bulk_id, hours in ((old, 48), (late, 12)):
            await store.create(BulkRun(id=bulk_id, tenant="t", action="pause", filter={}, actor="",
                                       batch_ids=[], created_at="2026-11-20T00:00:00Z"))  # fmt: skip
            await store.abort(bulk_id, "2026-11-20T00:00:00Z")
            await pool.execute(AGE, bulk_id, hours)
        async with gateway(servers, tmp_path), asyncio.timeout(START_S_MAX):
            while await store.get(old) is not None:
                await asyncio.sleep(0.02)
        assert await store.get(late) is not None


async def _event(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line.startswith("event: "):
            return line.removeprefix("event: ")
    raise AssertionError("the stream ended")
