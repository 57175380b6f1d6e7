"""The whole pipeline with the no-op processor, beside the bare log: the same events, appended raw."""

import asyncio
import http.client
import json
import time
from collections.abc import Sequence
from hashlib import sha256
from secrets import token_hex

from nats.aio.subscription import Subscription

from bench.single import get
from bench.stack import come_to_rest, settings
from tanda.adapters.nats import connect
from tanda.adapters.s3 import S3Blobs
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import FOLLOWS, NewEvent, Origin, new_event
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import LIVE_PREFIX, batch_subject, file_subject
from tanda.domain.groups import together
from tanda.ports import Log
from tests.running import Running

ORIGIN = Origin(source="/bench/1")
CHUNK = 1_000
BYTES = bytes(1024)
DIGEST = sha256(BYTES).hexdigest()
#: Queued and completed: quick work tells its start with its outcome.
EVENTS_PER_FILE = 2
POLL_S = 0.002
PATIENCE_S = 300.0


async def store_source(stack: Running, tenant: str, batch_id: str) -> None:
    """The bytes that all files of a batch have, so that they can be archived."""
    blobs = S3Blobs(settings(stack))
    await blobs.put(source_key(tenant, batch_id), BYTES, sha256=DIGEST, content_type="text/plain")
    await blobs.close()


def source_key(tenant: str, batch_id: str) -> str:
    return f"t/{tenant}/{batch_id}/src/{DIGEST}"


def queued(tenant: str, batch_id: str, index: int, now_ms: int) -> NewEvent:
    """A file told by itself."""
    return told(
        tenant, batch_id, (ids.indexed_file_id(batch_id, index), first_event(tenant, batch_id, index)), now_ms
    )


def first_event(tenant: str, batch_id: str, index: int) -> e.FileQueued:
    source = BlobRef(key=source_key(tenant, batch_id), bytes=len(BYTES), sha256=DIGEST)
    return e.FileQueued(
        name=f"{index:06d}.bin", index=index, content_type="application/octet-stream", bytes=len(BYTES),
        sha256=DIGEST, source=source, processor="noop", effort=1,
    )  # fmt: skip


def told(tenant: str, batch_id: str, one: tuple[str, e.Event], now_ms: int) -> NewEvent:
    return new_event(
        file_subject(tenant, batch_id, one[0]), one[1], expected_seq=0, time_ms=now_ms, origin=ORIGIN
    )


def accepted_files(tenant: str, batch_id: str, files: int, now_ms: int) -> list[NewEvent]:
    """The first events of a batch's files as the gateway writes them."""
    firsts = [(ids.indexed_file_id(batch_id, n), first_event(tenant, batch_id, n)) for n in range(files)]
    return [told(tenant, batch_id, one, now_ms) for one in together(firsts)]


async def hold(log: Log, tenant: str, batch_id: str, now_ms: int) -> None:
    """An open batch that is paused: nobody works on files that are told of it."""
    subject = batch_subject(tenant, batch_id)
    events = (e.BatchCreated(name="held"), e.BatchPaused())
    await log.append(
        [
            new_event(subject, event, expected_seq=FOLLOWS if place else 0, time_ms=now_ms, origin=ORIGIN)
            for place, event in enumerate(events)
        ]
    )


async def let_go(log: Log, tenant: str, batch_id: str) -> None:
    """Cancels such a batch: it has been of use."""
    subject = batch_subject(tenant, batch_id)
    last = await log.last(subject)
    assert last is not None
    now_ms = time.time_ns() // 1_000_000
    cancelled = new_event(subject, e.BatchCancelled(), expected_seq=last.seq, time_ms=now_ms, origin=ORIGIN)
    await log.append([cancelled])


async def append(log: Log, events: Sequence[NewEvent]) -> None:
    """In atomic chunks."""
    for start in range(0, len(events), CHUNK):
        await log.append(events[start : start + CHUNK])


async def run(stack: Running, files: int) -> dict[str, float]:
    """``ours`` and ``limit`` in files/s, and their ratio; each when what was before it has come to rest."""
    await come_to_rest(stack)
    ours = await through_the_pipeline(stack, files)
    await come_to_rest(stack)
    limit = await bare_log(stack, files)
    await come_to_rest(stack)  # whatever is measured next: the limit's files are being cancelled
    return {"ours": ours, "limit": limit, "ratio": ours / limit}


async def through_the_pipeline(stack: Running, files: int, *, accepted: bool = False) -> float:
    """Files per second until ``BatchCompleted`` is in the log and the view shows it.

    From the seal on, or with ``accepted`` from the first file's acceptance, as queues are measured.
    """
    connection = await connect(settings(stack), "bench")
    now_ms = time.time_ns() // 1_000_000
    tenant = f"bench{token_hex(3)}"
    batch_id = ids.derived_id(ids.BATCH, now_ms, tenant)
    await store_source(stack, tenant, batch_id)
    subject = batch_subject(tenant, batch_id)
    heard = await connection.client.subscribe(f"{LIVE_PREFIX}{subject}")
    created = new_event(subject, e.BatchCreated(name="bench"), expected_seq=0, time_ms=now_ms, origin=ORIGIN)
    (seq,) = await connection.log.append([created])
    begun_accepting = time.perf_counter()
    await append(connection.log, accepted_files(tenant, batch_id, files, now_ms))
    sealed = e.BatchSealed(total=files, bytes=files * 1024)
    begun = time.perf_counter()
    await connection.log.append([new_event(subject, sealed, expected_seq=seq, time_ms=now_ms, origin=ORIGIN)])
    await completed(heard)
    await shown(stack, batch_id)
    taken = time.perf_counter() - (begun_accepting if accepted else begun)
    await connection.close()
    return files / taken


async def completed(heard: Subscription) -> None:
    """Waits until the log tells that a batch is complete; ``heard`` is a subscription to its events."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in heard.messages:
            if (message.headers or {}).get("ce-type") == e.TYPE_NAMES[e.BatchCompleted]:
                return


async def shown(stack: Running, batch_id: str) -> None:
    """Waits until the API shows a batch as complete; the standard library's client costs the stack least."""
    client = http.client.HTTPConnection(stack.url.removeprefix("http://"))
    async with asyncio.timeout(PATIENCE_S):
        while not json.loads(get(client, f"/v1/batches/{batch_id}")[1])["results"]["ready"]:
            await asyncio.sleep(POLL_S)
    client.close()


async def outcomes_alone(stack: Running, files: int) -> float:
    """One event a file, appended bare in atomic chunks: what the log itself allows."""
    return await bare_log(stack, files, events_per_file=1)


async def bare_log(stack: Running, files: int, *, events_per_file: int = EVENTS_PER_FILE) -> float:
    """The same events as bare atomic appends to the same log, nothing reading but what runs anyway."""
    connection = await connect(settings(stack), "bench")
    now_ms = time.time_ns() // 1_000_000
    tenant = f"raw{token_hex(3)}"
    batches = [ids.derived_id(ids.BATCH, now_ms, f"{tenant}{n}") for n in range(events_per_file)]
    chunks = [
        [queued(tenant, batch_id, i, now_ms) for i in range(start, min(start + CHUNK, files))]
        for batch_id in batches
        for start in range(0, files, CHUNK)
    ]
    for batch_id in batches:
        await hold(connection.log, tenant, batch_id, now_ms)
    begun = time.perf_counter()
    await asyncio.gather(*(connection.log.append(chunk) for chunk in chunks))
    taken = time.perf_counter() - begun
    for batch_id in batches:
        await let_go(connection.log, tenant, batch_id)
    await connection.close()
    return files / taken
