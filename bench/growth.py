"""What a long log costs: every figure on a young stack, and on one whose log tells of many finished batches.

The batches are written with the log's own API to servers alone, as they would stand there (their sources are
archived, their results were never asked for); the services then start on them, the projector in bulk.
"""

import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from bench.idle import cpu_s, family, pss_mb
from bench.replayed import raw_copy_s, replayed
from bench.stack import settings
from tanda.adapters.nats import Connection, connect
from tanda.adapters.s3 import S3Blobs
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.codec import encode
from tanda.contracts.envelope import FOLLOWS, NewEvent, Origin, new_event, told
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_subject, file_subject
from tanda.contracts.times import rfc3339
from tanda.domain.groups import together
from tanda.domain.settling import archived_ref
from tanda.embedded import servers
from tanda.settings import from_environment
from tests.running import SERVERS, SERVICES, Running, running

BATCH_FILES = 100
#: One batch in so many has events for each of its files, as those have whose work is not quick.
SINGLY_EVERY = 4
#: So many batches fit one atomic append; their events lie this far back.
APPEND_BATCHES = 4
#: The young stack's log: as many batches as a page of the list shows, so that the pages are alike.
YOUNG_FILES = 5_000
DAYS = 30
TENANT = "default"
ORIGIN = Origin(source="/bench/growth")
SHA = "0" * 64
RESULT = msgspec.Raw(
    encode({"kind": "table", "rows": 12, "columns": [{"name": n, "type": "text"} for n in "abcdefgh"]})
)
RESULT_SHA = sha256(bytes(RESULT)).hexdigest()
CALLS = 200
SMALL_BATCHES = 20
BODY = b"a,b\n1,2\n"
QUIET_S = 3.0
WAIT_S = 3_600.0


async def run(files: int) -> dict[str, dict[str, float]]:
    """Every figure as ``{"young": …, "grown": …, "ratio": …}``."""
    with tempfile.TemporaryDirectory(prefix="tanda-growth-") as folder:
        Path(folder).chmod(0o711)
        young = await measured(Path(folder) / "young", YOUNG_FILES)
        grown = await measured(Path(folder) / "grown", files)
    return {
        name: {
            "young": round(young[name], 2), "grown": round(grown[name], 2),
            "ratio": round(grown[name] / young[name], 2) if young[name] else 0.0,
        }
        for name in young
    }  # fmt: skip


async def measured(data: Path, files: int) -> dict[str, float]:
    """All figures of one stack with so many files in its log."""
    async with servers(data) as three:
        env = {
            **three.env,
            "TANDA_DATA": str(data),
            "TANDA_APPEND_TIMEOUT_S": "60",
            "TANDA_PATIENCE_S": "300",
        }
        connection = await connect(from_environment(env), "bench")
        begun = time.perf_counter()
        await fill(connection, files)
        say(f"{files} files written in {time.perf_counter() - begun:.0f} s")
        await connection.close()
    begun = time.perf_counter()
    async with running(data, workers=1) as stack:
        await at_rest(stack)
        say(f"built and archived in {time.perf_counter() - begun:.0f} s")
        await stack.stop()  # what follows starts from snapshots, as every later start does
        begun = time.perf_counter()
        await stack.start()
        figures = {"up_s": time.perf_counter() - begun}
        await at_rest(stack)
        figures |= await reads(stack)
        figures |= {f"{name}_start_s": await start_s(stack, name) for name in SERVICES}
        figures["small_batch_ms"] = statistics.median(
            [await small_batch_ms(stack) for _ in range(SMALL_BATCHES)]
        )
        await at_rest(stack)
        figures |= {f"{name}_mb": memory_mb(stack, name) for name in (*SERVICES, *SERVERS)}
        figures |= {f"snapshot_{name}_kb": size for name, size in (await snapshots_kb(stack)).items()}
        figures |= await replay(stack)
    return figures


def say(sentence: str) -> None:
    print(sentence, flush=True)


# -- filling


async def fill(connection: Connection, files: int) -> None:
    """Finished batches of the last ``DAYS`` days."""
    batches = files // BATCH_FILES
    now_ms = time.time_ns() // 1_000_000
    step_ms = DAYS * 86_400_000 // batches
    seq = await connection.log.position()
    for first in range(0, batches, APPEND_BATCHES):
        events: list[NewEvent] = []
        for number in range(first, min(first + APPEND_BATCHES, batches)):
            at_ms = now_ms - DAYS * 86_400_000 + number * step_ms
            events += finished_batch(number, at_ms, seq + len(events))
        seq = (await connection.log.append(events))[-1]


def finished_batch(number: int, at_ms: int, before: int) -> list[NewEvent]:
    """Everything that the log tells of a batch, from a position on."""
    batch_id = ids.derived_id(ids.BATCH, at_ms, str(number))
    subject = batch_subject(TENANT, batch_id)
    members = {ids.indexed_file_id(batch_id, index): index for index in range(BATCH_FILES)}
    refs = {file_id: source(batch_id, index) for file_id, index in members.items()}
    first = [(one, queued(index, refs[one])) for one, index in members.items()]
    last = [(one, completed(at_ms)) for one in members]
    ((group, together_queued),) = together(first)
    group = file_subject(TENANT, batch_id, group)
    singly = number % SINGLY_EVERY == 0
    own = [file_subject(TENANT, batch_id, one) for one in members]
    queued_told: list[tuple[str, e.Event]] = [(group, together_queued)]
    completed_told: list[tuple[str, e.Event]] = [(group, e.FilesCompleted(files=last))]
    if singly:
        queued_told = [(where, event) for where, (_, event) in zip(own, first, strict=True)]
        completed_told = [(where, event) for where, (_, event) in zip(own, last, strict=True)]
    through = before + (2 * BATCH_FILES + 2 if singly else 4)
    told: list[tuple[str, e.Event]] = [
        (subject, e.BatchCreated(name=f"Gastos {number:06d}", processor="noop")),
        *queued_told,
        (subject, e.BatchSealed(total=BATCH_FILES, bytes=BATCH_FILES * 1024)),
        *completed_told,
        (subject, e.BatchCompleted(
            version=1, through_seq=through, counts={"completed": BATCH_FILES},
            results=BlobRef(key=f"t/{TENANT}/{batch_id}/results/none", bytes=1, sha256=SHA),
        )),
        (subject, e.SourcesArchived(sources={one: archived_ref(ref) for one, ref in refs.items()})),
    ]  # fmt: skip
    seen: set[str] = set()
    events: list[NewEvent] = []
    for where, event in told:
        expected = FOLLOWS if where in seen else 0
        seen.add(where)
        events.append(new_event(where, event, expected_seq=expected, time_ms=at_ms, origin=ORIGIN))
    return events


def source(batch_id: str, index: int) -> BlobRef:
    return BlobRef(key=f"t/{TENANT}/{batch_id}/src/{SHA}", offset=index * 1024, bytes=1024, sha256=SHA)


def queued(index: int, ref: BlobRef) -> e.FileQueued:
    return e.FileQueued(
        name=f"recibo-{index:04d}.csv", index=index, content_type="text/csv", bytes=1024, sha256=SHA,
        source=ref, processor="noop",
    )  # fmt: skip


def completed(at_ms: int) -> e.FileCompleted:
    return e.FileCompleted(
        attempt=1, processor="noop", processor_version="1", duration_ms=3, result_sha256=RESULT_SHA,
        result_bytes=len(bytes(RESULT)), result=RESULT, previous="queued", started_at=rfc3339(at_ms),
    )  # fmt: skip


# -- measuring


async def at_rest(stack: Running) -> None:
    """Views and folds have caught up and nobody works any more: measured by what all processes use."""
    while True:
        before, begun = used_s(stack), time.perf_counter()
        await asyncio.sleep(QUIET_S)
        # Of a process that has ended meanwhile nothing is known, of a new one all.
        busy_s = sum(used - before.get(pid, 0.0) for pid, used in used_s(stack).items())
        if busy_s / (time.perf_counter() - begun) < 0.15:
            return
        assert time.perf_counter() - begun < WAIT_S


def used_s(stack: Running) -> dict[int, float]:
    """CPU by process."""
    return {pid: cpu_s(pid) for name in (*SERVICES, *SERVERS) for pid in pids(stack, name)}


def pids(stack: Running, name: str) -> list[int]:
    return [pid for one in stack.facts()["pids"][name] for pid in family(one)]


def memory_mb(stack: Running, name: str) -> float:
    return sum(map(pss_mb, pids(stack, name)))


async def reads(stack: Running) -> dict[str, float]:
    """Of each kind of reading, CPU milliseconds of gateway and database together, and ms at the median."""
    figures: dict[str, float] = {}
    async with stack.http() as http:
        batch_id = (await http.get("/v1/batches?limit=50")).json()["data"][-1]["id"]
        paths = {
            "list": "/v1/batches?limit=50",
            "list_active": "/v1/batches?status=active",
            "list_search": "/v1/batches?q=000001",
            "batch": f"/v1/batches/{batch_id}",
            "files": f"/v1/batches/{batch_id}/files?limit=100",
            "stats": "/v1/stats",
        }
        for name, path in paths.items():
            figures |= await timed(stack, name, lambda path=path: http.get(path))
        figures |= await timed(stack, "sse_snapshot", lambda: snapshot(http))
    return figures


async def timed(stack: Running, name: str, call: Any) -> dict[str, float]:
    watched = [pid for server in ("gateway", "postgres") for pid in pids(stack, server)]
    taken: list[float] = []
    before = sum(map(cpu_s, watched))
    for _ in range(CALLS):
        begun = time.perf_counter()
        await call()
        taken.append(1000 * (time.perf_counter() - begun))
    cpu_ms = 1000 * (sum(map(cpu_s, watched)) - before) / CALLS
    return {f"{name}_cpu_ms": cpu_ms, f"{name}_ms": statistics.median(taken)}


async def snapshot(http: httpx2.AsyncClient) -> None:
    async with http.stream("GET", "/v1/events") as response:
        async for frame in httpx2.EventSource(response):
            assert frame.event == "snapshot"
            return


async def start_s(stack: Running, name: str) -> float:
    """From the end of a service, by SIGTERM, until a batch goes through its successor."""
    begun = time.perf_counter()
    (pid,) = stack.facts()["pids"][name]
    os.kill(pid, signal.SIGTERM)
    await stack.until(lambda: pid not in stack.facts()["pids"][name], WAIT_S)
    await stack.until(stack.is_ready, WAIT_S)
    await small_batch_ms(stack)
    return time.perf_counter() - begun


async def small_batch_ms(stack: Running) -> float:
    """Three files, from their acceptance to ``completed`` in the view."""
    async with stack.http() as http:
        files = [("files", (f"{number}.csv", BODY, "text/csv")) for number in range(3)]
        begun = time.perf_counter()
        response = await http.post("/v1/batches", files=files, data={"processor": "noop"})
        await stack.finished(response.json()["id"], WAIT_S)
        return 1000 * (time.perf_counter() - begun)


async def snapshots_kb(stack: Running) -> dict[str, float]:
    facts = stack.facts()["s3"]
    env = {f"TANDA_S3_{key.upper()}": value for key, value in facts.items()}
    async with opened(S3Blobs(from_environment({**env, "TANDA_DATA": str(stack.data)}))) as blobs:
        sizes: dict[str, float] = {}
        for name in ("scheduler", "storage"):
            key = max(await blobs.keys(f"snapshots/{name}/"))
            stat = await blobs.stat(key)
            sizes[name] = (stat.bytes if stat else 0) / 1024
    return sizes


@asynccontextmanager
async def opened(blobs: Any) -> AsyncGenerator[Any]:
    try:
        yield blobs
    finally:
        await blobs.close()


async def replay(stack: Running) -> dict[str, float]:
    """Microseconds of an event in all views, beside a raw copy of their rows, and seconds of the whole
    ``--verify`` for a million of them.
    """
    rate, _ = await asyncio.to_thread(replayed, stack)
    _, verified_s = await asyncio.to_thread(replayed, stack, "--verify")
    connection = await connect(settings(stack), "bench")
    end = await connection.log.position()
    events = 0
    async for chunk in connection.log.follow(0, through=end):
        events += sum(map(told, chunk))
    await connection.close()
    say(f"replayed {events} events at {end} positions, verified in {verified_s:.1f} s")
    copied_s = await raw_copy_s(stack.facts()["postgres_dsn"])
    return {
        "replay_us_per_event": 1e6 / rate,
        "copy_us_per_event": 1e6 * copied_s / events,
        "verify_s_per_million": 1e6 * verified_s / events,
    }
