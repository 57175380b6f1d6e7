"""What these figures need of a running stack: its settings and its processes."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from tanda.adapters.nats import Connection, connect
from tanda.settings import Settings, from_environment
from tests.running import Running

T = TypeVar("T")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
POLL_S = 0.05
REST_S_MAX = 120.0
#: So little of a core is used for so long.
QUIET_SHARE, QUIET_S = 0.1, 1.0


def settings(stack: Running) -> Settings:
    """As a service of the stack has them."""
    facts = stack.facts()
    store = facts["s3"]
    return from_environment(
        {
            "TANDA_NATS_URL": facts["nats_url"],
            "TANDA_S3_ENDPOINT": store["endpoint"].removeprefix("http://"),
            "TANDA_S3_ACCESS_KEY": store["access_key"],
            "TANDA_S3_SECRET_KEY": store["secret_key"],
            "TANDA_S3_BUCKET": store["bucket"],
            "TANDA_DATA": str(stack.data),
        }
    )


async def idle(stack: Running, connection: Connection) -> bool:
    """Whether the views have caught up: what an earlier bench left is not measured here."""
    async with stack.http() as http:
        response = await http.get("/v1/batches?limit=1")
    return int(response.headers.get("Tanda-Seq", 0)) >= await connection.log.position()


async def come_to_rest(stack: Running) -> None:
    """Waits until all services and servers have next to nothing to do: archived is what was to be."""
    connection = await connect(settings(stack), "bench")
    await stack.until(lambda: idle(stack, connection), REST_S_MAX)
    await connection.close()
    await stack.until(lambda: _is_quiet(stack), REST_S_MAX)


async def _is_quiet(stack: Running) -> bool:
    pids = [pid for some in stack.facts()["pids"].values() for pid in some]
    before = sum(map(cpu_s, pids))
    await asyncio.sleep(QUIET_S)
    return sum(map(cpu_s, pids)) - before < QUIET_S * QUIET_SHARE


def pid_of(stack: Running, name: str) -> int:
    return stack.facts()["pids"][name][0]


async def peak_mb(pid: int, work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """What the work gave, and the most memory that a process had meanwhile."""
    peak = rss_mb(pid)
    task = asyncio.create_task(work)
    while not task.done():
        peak = max(peak, rss_mb(pid))
        await asyncio.wait([task], timeout=POLL_S)
    return await task, peak


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """What a process has used of all cores so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
