"""The result document of a large batch: what it costs to build, in the storage service and alone."""

import asyncio
import tempfile
import time
from pathlib import Path
from secrets import token_hex

import msgspec

from bench.ingest import served
from bench.stack import peak_mb, pid_of, rss_mb, settings
from tanda.adapters.nats import connect
from tanda.adapters.s3 import S3Blobs
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import NewEvent, Origin, new_event
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_subject, file_subject
from tanda.results import build
from tests.running import Running

FILES = 10_000
#: Of one file's result: with what is said of each file the document has some 20 MB.
RESULT_BYTES = 1_700
CHUNK_FILES = 500
BUILDS = 3
ORIGIN = Origin(source="/bench/1")


async def run(stack: Running, files: int) -> dict[str, float]:
    """Seconds of one core and MB to build a document of 10,000 files, and MB/s to serve it."""
    del files
    storage = pid_of(stack, "storage")
    batch_id = await finished_files(stack)
    figures = {"storage_before_mb": rss_mb(storage)}
    _, figures["storage_mb"] = await peak_mb(storage, sealed(stack, batch_id))
    figures |= await built(stack, batch_id)
    return figures | await asyncio.to_thread(served.run, stack, batch_id)


async def finished_files(stack: Running) -> str:
    """A batch that misses only its seal: nothing of it is work any more."""
    connection = await connect(settings(stack), "bench")
    now_ms = time.time_ns() // 1_000_000
    batch_id = ids.derived_id(ids.BATCH, now_ms, token_hex(8))
    created = e.BatchCreated(name="bench", processor="noop")
    await connection.log.append([_new(batch_subject("default", batch_id), created, 0, now_ms)])
    for start in range(0, FILES, CHUNK_FILES):
        numbers = range(start, start + CHUNK_FILES)
        subjects = [file_subject("default", batch_id, ids.file_id(batch_id, str(n))) for n in numbers]
        queued = [_new(on, _queued(n), 0, now_ms) for on, n in zip(subjects, numbers, strict=True)]
        seqs = await connection.log.append(queued)
        done = [_new(on, _completed(), seq, now_ms) for on, seq in zip(subjects, seqs, strict=True)]
        await connection.log.append(done)
    await connection.close()
    return batch_id


async def sealed(stack: Running, batch_id: str) -> None:
    """Returns once storage has built the document and the view says so."""
    connection = await connect(settings(stack), "bench")
    last = await connection.log.last(batch_subject("default", batch_id))
    assert last is not None
    seal = e.BatchSealed(total=FILES, bytes=FILES)
    await connection.log.append([_new(last.subject, seal, last.seq, time.time_ns() // 1_000_000)])
    await connection.close()
    await stack.finished(batch_id, 300)


async def built(stack: Running, batch_id: str) -> dict[str, float]:
    """Storage's own code in this process, where its time can be told from everything else's."""
    connection = await connect(settings(stack), "bench")
    blobs = S3Blobs(settings(stack))
    taken: list[float] = []
    size = 0
    with tempfile.TemporaryDirectory() as spool:
        for _ in range(BUILDS):
            begun = time.process_time()
            document = await build(connection.log, blobs, Path(spool), "default", batch_id, version=1)
            taken.append(time.process_time() - begun)
            size = document.bytes
            document.discard()
    await blobs.close()
    await connection.close()
    return {"build_cpu_s": min(taken), "document_mb": size / 1e6}


def _queued(number: int) -> e.FileQueued:
    source = BlobRef(key="bench/none", bytes=1, sha256="0" * 64)
    return e.FileQueued(
        name=f"{number:06d}.bin", index=number, content_type="application/octet-stream", bytes=1,
        sha256="0" * 64, source=source, processor="noop",
    )  # fmt: skip


def _completed() -> e.FileCompleted:
    result = msgspec.Raw(msgspec.json.encode({"kind": "bench", "text": "x" * RESULT_BYTES}))
    return e.FileCompleted(
        attempt=1, processor="noop", processor_version="1", duration_ms=1, result=result,
        result_bytes=len(bytes(result)), result_sha256="0" * 64, previous="queued",
    )  # fmt: skip


def _new(subject: str, event: e.Event, expected_seq: int, now_ms: int) -> NewEvent:
    return new_event(subject, event, expected_seq=expected_seq, time_ms=now_ms, origin=ORIGIN)
