"""What everything together takes while nothing is to be done, and how soon it is ready again."""

import asyncio
import os
import time
from pathlib import Path

from tests.running import Running

#: In its first minute the object store looks for what it may clear away.
SETTLE_S = 60.0
WATCH_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


async def run(stack: Running, files: int) -> dict[str, float]:
    """Memory of all servers and services in MB, their share of one core in %, seconds of a cold start."""
    del files
    await asyncio.sleep(SETTLE_S)
    pids = [pid for group in stack.facts()["pids"].values() for one in group for pid in family(one)]
    before, begun = sum(map(cpu_s, pids)), time.perf_counter()
    await asyncio.sleep(WATCH_S)
    share = 100 * (sum(map(cpu_s, pids)) - before) / (time.perf_counter() - begun)
    memory = sum(map(pss_mb, pids))
    await stack.stop()
    begun = time.perf_counter()
    await stack.start()
    return {"ours": memory, "cpu_pct": share, "start_s": time.perf_counter() - begun}


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def pss_mb(pid: int) -> float:
    """Memory of a process; what several share counts for each by its part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has had."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
