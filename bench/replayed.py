"""Events per second of a replay into all views, beside reading the same log and doing nothing."""

import json
import time

from bench.stack import settings
from tanda.adapters.nats import connect
from tests.running import Running


async def run(stack: Running, files: int) -> dict[str, float]:
    """``ours`` and ``limit`` in events/s, and their ratio."""
    del files
    begun = time.perf_counter()
    done = stack.tanda("replay", "--all", "--json")
    taken = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr
    views = json.loads(done.stdout.splitlines()[-1])
    connection = await connect(settings(stack), "bench")
    end = await connection.log.position()
    read = 0
    begun_reading = time.perf_counter()
    async for chunk in connection.log.follow(0):
        read += len(chunk)
        if chunk[-1].seq >= end:
            break
    limit = read / (time.perf_counter() - begun_reading)
    await connection.close()
    ours = float(views[0]["events_per_s"])
    return {"ours": ours, "limit": limit, "ratio": ours / limit, "events": end, "whole_command_s": taken}
