"""``make bench-calls``: thousands of calls of one provider over four workers, some of which are killed.

The provider, in this process, counts how many calls it has at once: never more than the limit, whoever
was killed. Each file is called once, and again only where its worker was killed in mid-call. Exits
with 1 where that is not so.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from tests.provider import Provider, provider
from tests.running import Running, running

CALLS = 10_000
KILLS = 12
WORKERS = 4
LIMIT = 3
#: How long the provider takes for each.
WORK_S = 0.01
FINISH_S_MAX = 3_600


async def upload(stack: Running, files: int) -> str:
    """One batch of files for the provider; its id."""
    parts = [("files", (f"{n}.txt", f"file {n}".encode(), "text/plain")) for n in range(files)]
    form = {"processor": "http", "options": json.dumps({"endpoint": "counted"})}
    async with stack.http() as http:
        answer = await http.post("/v1/batches", files=parts, data=form, timeout=300)
    answer.raise_for_status()
    return answer.json()["id"]


async def kill_now_and_then(stack: Running, provided: Provider, files: int, kills: int) -> None:
    """One of the workers, at spread points of the calls."""
    chance = random.Random(1)
    for number in range(1, kills + 1):
        point = number * files // (kills + 1)
        await stack.until(lambda point=point: len(provided.calls) >= point, FINISH_S_MAX)
        pid = chance.choice(await stack.until(lambda: stack.facts()["pids"]["worker"], 60))
        os.kill(pid, signal.SIGKILL)
        print(f"killed worker {pid} after {len(provided.calls)} calls", flush=True)
        await stack.until(lambda pid=pid: pid not in stack.facts()["pids"]["worker"], 60)


async def measure(files: int, kills: int) -> dict[str, Any]:
    """The figures of one run."""
    with tempfile.TemporaryDirectory(prefix="tanda-bench-") as folder:
        Path(folder).chmod(0o711)
        async with provider(lambda _: (200, {}, b'{"done": true}'), work_s=WORK_S) as provided:
            env = {"TANDA_HTTP_ENDPOINTS": f"counted={provided.url}", "TANDA_PROVIDER_LIMIT": str(LIMIT)}
            async with running(Path(folder) / "data", workers=WORKERS, env=env) as stack:
                begun = time.perf_counter()
                batch_id = await upload(stack, files)
                uploaded_s = time.perf_counter() - begun
                await kill_now_and_then(stack, provided, files, kills)
                batch = await stack.finished(batch_id, FINISH_S_MAX)
                taken_s = time.perf_counter() - begun - uploaded_s
    calls = Counter(seen.headers["tanda-file"] for seen in provided.calls)
    return {
        "files": files, "completed": batch["counts"]["completed"], "workers": WORKERS, "kills": kills,
        "limit": LIMIT, "at_once_most": provided.at_once_most, "calls": len(provided.calls),
        "files_called": len(calls), "files_called_again": sum(count > 1 for count in calls.values()),
        "calls_of_one_file_most": max(calls.values()), "upload_s": round(uploaded_s, 1),
        "taken_s": round(taken_s, 1), "calls_per_s": round(len(provided.calls) / taken_s, 1),
    }  # fmt: skip


def broken(figures: dict[str, Any]) -> list[str]:
    """What was promised and not kept."""
    repeated = figures["calls"] - figures["files"]
    promises = {
        "never more calls at once than the limit": figures["at_once_most"] <= LIMIT,
        "every file called and completed": figures["files_called"]
        == figures["completed"]
        == figures["files"],
        "calls repeated by kills only": 0 <= repeated <= LIMIT * figures["kills"],
    }
    return [promise for promise, is_kept in promises.items() if not is_kept]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--kills", type=int, default=KILLS)
    options = parser.parse_args()
    figures = uvloop.run(measure(options.calls, options.kills))
    print(json.dumps(figures), flush=True)
    for promise in (not_kept := broken(figures)):
        print(f"not kept: {promise}")
    return 1 if not_kept else 0


if __name__ == "__main__":
    raise SystemExit(main())
