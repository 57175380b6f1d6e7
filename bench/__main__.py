"""``make bench``: Tanda beside the raw limits of the same servers, in the same run.

Each figure is a ratio of two measured side by side; nothing here is a test. It starts a stack of its
own in a temporary folder, prints a table and, with ``--json FILE``, writes the figures.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from bench import control, growth, idle, invoices, live, page, peers, pipeline, replayed, single
from bench.ingest import results, upload
from bench.live import many
from bench.stack import come_to_rest
from tests.running import Running, running

ROUNDS = 3
FILES = 5_000
GROWN_FILES = 100_000
#: Too long, or too much of a disturbance, for more than one round; or such as repeat by themselves.
ONCE = ("upload", "results", "idle", "many")
OURS = "Tanda"
LIMIT = "bare log: one outcome a file, in atomic batches"


async def measure(rounds: int, files: int, only: set[str]) -> list[dict[str, object]]:
    """Every figure, rounds interleaved: ours, then the limit, then ours again."""
    figures: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="tanda-bench-") as folder:
        Path(folder).chmod(0o711)
        window = os.environ.get("TANDA_BENCH_WINDOW")
        env = {"TANDA_WINDOW": window} if window else {}
        async with running(Path(folder) / "data", workers=1, env=env) as stack:
            benches: list[tuple[str, str, Callable[[Running, int], Awaitable[dict[str, float]]]]] = [
                ("idle", "MB of all servers and services, nothing to do", idle.run),
                ("single", "ms from the acceptance of one file to its result, p50", single.run),
                ("pipeline", "files/s, seal to BatchCompleted, noop, fsync always", pipeline.run),
                ("invoices", "files/s, upload's answer to BatchCompleted, sandboxed XML", invoices.run),
                ("control", "ms from a pause to the last start after it, 30,000 queued", control.run),
                ("live", "ms from the append's call to the client, p50", live.run),
                ("many", "ms from the append's call to the last of 3,000 clients, p50", many.run),
                ("upload", "files/s, ms, MB/s and MB of gateway memory while uploading", upload.run),
                (
                    "results",
                    "s of a core and MB to build a large document, MB/s to serve it",
                    results.run,
                ),
                ("replay", "events/s into all views", replayed.run),
            ]
            for name, unit, bench in benches:
                if only and name not in only:
                    continue
                taken = [await bench(stack, files) for _ in range(1 if name in ONCE else rounds)]
                medians = {key: statistics.median(one[key] for one in taken) for key in taken[0]}
                figures.append({"bench": name, "unit": unit, **{k: round(v, 3) for k, v in medians.items()}})
                print(json.dumps(figures[-1]), flush=True)
    return figures


async def beside(rounds: int, files: int) -> dict[str, float]:
    """Files per second of ours, of what people use today and of the bare log: medians of turns."""
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tanda-bench-") as folder:
        Path(folder).chmod(0o711)
        for _ in range(rounds):
            async with running(Path(folder) / "data", workers=1) as stack:
                await pipeline.through_the_pipeline(stack, files)  # as warm as the peers are
                await come_to_rest(stack)
                turn = {OURS: await pipeline.through_the_pipeline(stack, files, accepted=True)}
                turn[LIMIT] = await pipeline.outcomes_alone(stack, files)
            turn |= await peers.measure(files)
            for name, rate in turn.items():
                taken.setdefault(name, []).append(rate)
            print(json.dumps({name: round(rate) for name, rate in turn.items()}), flush=True)
    return {name: statistics.median(rates) for name, rates in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--only", nargs="*", default=[], help="of our own figures, only these")
    parser.add_argument("--grown", type=int, default=GROWN_FILES, help="of --only growth: files in the log")
    parser.add_argument("--peers", action="store_true", help="what people use today, beside ours, into docs/")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    if options.peers:
        rates = uvloop.run(beside(options.rounds, options.files))
        page.write(rates, OURS, LIMIT)
        figures: list[dict[str, object]] = [{"bench": "peers", "unit": "files/s", **rates}]
    elif options.only == ["growth"]:
        grown = uvloop.run(growth.run(options.grown))
        figures = [{"bench": f"growth: {name}", **figure} for name, figure in grown.items()]
        print("\n".join(json.dumps(figure) for figure in figures))
    else:
        figures = uvloop.run(measure(options.rounds, options.files, set(options.only)))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
