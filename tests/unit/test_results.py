"""The result JSON: what it says, and that it says it in the same bytes for ever."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from hashlib import file_digest, sha256
from pathlib import Path

import pytest

from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts.envelope import Recorded
from tanda.contracts.results import BlobRef
from tanda.domain.errors import LogDamaged, NotFound
from tanda.results import Built, ResultLost, ResultsCache, build, sweep
from tests.batch_story import BatchStory


class ChoppedLog(MemoryLog):
    """A memory log that reads in chunks of another size, and counts the reads."""

    chunk = 1
    reads = 0

    async def read(
        self, subject: str = "ev.>", *, after: int = 0, through: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        self.reads += 1
        async for records in super().read(subject, after=after, through=through):
            for start in range(0, len(records), self.chunk):
                await asyncio.sleep(0)
                yield records[start : start + self.chunk]


@pytest.fixture
def log() -> ChoppedLog:
    return ChoppedLog()


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def story(log: ChoppedLog, blobs: MemoryBlobs) -> BatchStory:
    return BatchStory(log, blobs)


async def mixed(story: BatchStory) -> int:
    """A completed, a failed, a cancelled and a rejected file; returns the last position."""
    await story.half_way()
    await story.cancel()
    await story.cancel_files(2)
    return await story.log.position()


async def document(story: BatchStory, spool: Path, version: int = 1, through: int | None = None) -> Built:
    return await build(
        story.log, story.blobs, spool, story.tenant, story.batch_id, version=version, through_seq=through
    )


async def stored(story: BatchStory, spool: Path, version: int, through: int) -> BlobRef:
    return (await document(story, spool, version, through)).ref


async def test_says_what_became_of_every_file_in_upload_order(story: BatchStory, tmp_path: Path) -> None:
    """Every file has its entry, whatever became of it, and the fields of the contract in their order."""
    through = await mixed(story)

    built = await document(story, tmp_path, through=through)

    text = built.open().read()
    last = await story.log.get(through)
    assert last is not None
    entry = {"lote_id": story.batch_id, "resultado": None, "error": None}
    assert json.loads(text) == {
        "metadata": {
            "lote_id": story.batch_id, "name": "noviembre", "generated_at": last.time, "version": 1,
            "through_seq": through,
            "counts": {"total": 4, "completed": 1, "failed": 1, "rejected": 1, "cancelled": 1},
            "processor_versions": {"noop": "1"},
        },
        "archivos_procesados": [
            entry | {"archivo_id": story.file_ids[0], "nombre": "factura-0.xml", "indice": 0,
                     "estado": "completed", "intentos": 1, "sha256": sha256(b"uno").hexdigest(),
                     "resultado": {"número": 0}},
            entry | {"archivo_id": story.file_ids[1], "nombre": "factura-1.xml", "indice": 1,
                     "estado": "failed", "intentos": 1, "sha256": sha256(b"dos").hexdigest(),
                     "error": {"code": "not_an_invoice", "message": "It is a poem.", "attempt": 1}},
            entry | {"archivo_id": story.file_ids[2], "nombre": "factura-2.xml", "indice": 2,
                     "estado": "cancelled", "intentos": 1, "sha256": sha256(b"tres").hexdigest()},
            entry | {"archivo_id": story.file_ids[3], "nombre": "virus.exe", "indice": 3,
                     "estado": "rejected", "intentos": 0, "sha256": None,
                     "error": {"code": "unsupported_type", "message": "No processor takes it.",
                               "attempt": 0}},
        ],
    }  # fmt: skip
    assert list(json.loads(text)["archivos_procesados"][0]) == [
        "lote_id", "archivo_id", "nombre", "indice", "estado", "intentos", "sha256", "resultado", "error",
    ]  # fmt: skip
    assert (built.bytes, built.sha256) == (len(text), sha256(text).hexdigest())


@pytest.mark.parametrize("chunk", [1, 2, 3, 1_000])
async def test_same_bytes_however_it_is_read(
    log: ChoppedLog, story: BatchStory, tmp_path: Path, chunk: int
) -> None:
    """I11: the size of the log's chunks and what came after leave no trace in the document."""
    through = await mixed(story)
    first = await document(story, tmp_path, through=through)
    await story.retry(1)
    await story.complete(1, version="2")

    log.chunk = chunk
    again = await document(story, tmp_path, through=through)

    assert again.open().read() == first.open().read()


async def test_files_are_told_in_upload_order_in_whatever_order_they_ended(
    story: BatchStory, tmp_path: Path
) -> None:
    """Each with its own result, whether what was written of it lies beside its neighbour's or elsewhere."""
    await story.create()
    await story.upload([f"{n}".encode() for n in range(6)])
    await story.seal()
    for number in (2, 3, 0, 5, 4, 1):
        await story.complete(number)

    entries = json.loads((await document(story, tmp_path)).open().read())["archivos_procesados"]

    assert [(one["indice"], one["resultado"]) for one in entries] == [(n, {"número": n}) for n in range(6)]


async def test_a_retried_file_has_its_latest_outcome(story: BatchStory, tmp_path: Path) -> None:
    """Version 2 tells of the second attempt and names both processor versions; version 1 stays."""
    first_through = await mixed(story)
    await story.retry(1)
    await story.complete(1, version="2", result=["ok"])

    first = json.loads((await document(story, tmp_path, 1, first_through)).open().read())
    second = json.loads((await document(story, tmp_path, 2)).open().read())

    assert first["archivos_procesados"][1]["estado"] == "failed"
    entry = second["archivos_procesados"][1]
    assert (entry["estado"], entry["intentos"], entry["resultado"]) == ("completed", 2, ["ok"])
    assert entry["error"] is None
    assert second["metadata"]["processor_versions"] == {"noop": "1,2"}
    assert second["metadata"]["version"] == 2


async def test_a_result_is_put_in_as_it_was_written(story: BatchStory, tmp_path: Path) -> None:
    """Numbers, spaces and the order of keys of a processor's own JSON survive."""
    await story.create()
    await story.upload([b"uno"])
    await story.seal()
    raw = b'{"z": 1.10,\n "a":  1e3}'
    await story.complete_large(0, raw)

    assert b'"resultado":' + raw + b',"error":null}' in (await document(story, tmp_path)).open().read()


async def test_memory_stays_small(story: BatchStory, blobs: MemoryBlobs, tmp_path: Path) -> None:
    """Results of 96 MB in all, inline and as objects, are never in memory together."""
    await story.create()
    await story.upload([f"{n}".encode() for n in range(1_001)])
    await story.seal()
    await story.complete(*range(1_000), result="x" * 64_000)
    await story.complete_large(1_000, b'"' + b"y" * 32_000_000 + b'"')

    tracemalloc.start()
    built = await document(story, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert built.bytes > 96_000_000
    assert peak < 48 * 1024**2
    with built.open() as file:
        built.discard()
        assert file_digest(file, "sha256").hexdigest() == built.sha256
    assert list(tmp_path.iterdir()) == []


async def test_a_lost_result_is_told(story: BatchStory, blobs: MemoryBlobs, tmp_path: Path) -> None:
    """A large result that is gone or damaged stops the document; no half document is left."""
    await story.create()
    await story.upload([b"uno"])
    await story.seal()
    large = b'"' + bytes(3 * 1024**2).replace(b"\0", b"a") + b'"'
    await story.complete_large(0, large)
    (key,) = await blobs.keys(f"t/{story.tenant}/{story.batch_id}/out/")

    blobs.objects[key] = large[:-2] + b'b"'
    with pytest.raises(ResultLost):
        await document(story, tmp_path)
    await blobs.delete(key)
    with pytest.raises(ResultLost):
        await document(story, tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_log_that_lacks_the_position_is_damaged(story: BatchStory, tmp_path: Path) -> None:
    """A recorded position that is none of the batch's is no position to build from."""
    through = await mixed(story)
    with pytest.raises(LogDamaged):
        await document(story, tmp_path, through=through + 1)
    with pytest.raises(NotFound):
        await build(story.log, story.blobs, tmp_path, "acme", "bat_unknown", version=1)


# -- the cache


async def test_gone_is_rebuilt_once_for_everybody(
    log: ChoppedLog, story: BatchStory, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    """A hundred callers of a missing document wait for one build; the next one finds it stored."""
    through = await mixed(story)
    expected = await stored(story, tmp_path, 1, through)
    cache = ResultsCache(log, blobs, tmp_path / "spool")
    log.reads = 0

    async def open_late(n: int) -> tuple[BlobRef, bool]:
        for _ in range(n):
            await asyncio.sleep(0)
        return await cache.open(story.tenant, story.batch_id, 1, through, expected)

    opened = await asyncio.gather(*(open_late(n // 5) for n in range(100)))

    assert log.reads == 1
    assert opened.count((expected, False)) >= 1
    assert {ref for ref, _ in opened} == {expected}
    assert sha256(blobs.objects[expected.key]).hexdigest() == expected.sha256
    assert await cache.open(story.tenant, story.batch_id, 1, through, expected) == (expected, True)

    blobs.objects[expected.key] += b"!"
    assert await cache.open(story.tenant, story.batch_id, 1, through, expected) == (expected, False)
    assert await blobs.read(expected)
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_caller_that_leaves_does_not_stop_the_build(
    log: ChoppedLog, story: BatchStory, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    """The first caller hangs up; the second one gets what the first one's build made."""
    through = await mixed(story)
    expected = await stored(story, tmp_path, 1, through)
    cache = ResultsCache(log, blobs, tmp_path)
    log.reads = 0

    first = asyncio.create_task(cache.open(story.tenant, story.batch_id, 1, through, expected))
    second = asyncio.create_task(cache.open(story.tenant, story.batch_id, 1, through, expected))
    while not log.reads:
        await asyncio.sleep(0)
    first.cancel()

    assert await second == (expected, False)
    assert log.reads == 1


async def test_other_bytes_than_recorded_are_an_alarm(
    log: ChoppedLog, story: BatchStory, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    """A rebuild that differs from what was recorded is never served and never stored."""
    through = await mixed(story)
    expected = await stored(story, tmp_path, 1, through)
    other = BlobRef(key=expected.key, bytes=expected.bytes, sha256="0" * 64)

    with pytest.raises(LogDamaged):
        await ResultsCache(log, blobs, tmp_path).open(story.tenant, story.batch_id, 1, through, other)
    assert await blobs.stat(expected.key) is None


async def test_partial_is_as_of_now(story: BatchStory, blobs: MemoryBlobs, tmp_path: Path) -> None:
    """While a batch runs, its document has version 0 and each file as it is at this moment."""
    await story.create()
    await story.upload([b"uno", b"dos"])
    await story.seal()
    await story.complete(0)
    spool = tmp_path / "spool"

    async with ResultsCache(story.log, blobs, spool).partial(story.tenant, story.batch_id) as built:
        partial = json.loads(built.open().read())

    assert partial["metadata"]["version"] == 0
    assert [one["estado"] for one in partial["archivos_procesados"]] == ["completed", "queued"]
    assert partial["metadata"]["counts"]["queued"] == 1
    assert list(spool.iterdir()) == []


def test_left_over_documents_are_swept(tmp_path: Path) -> None:
    """What a killed process left goes; what is being written stays."""
    (tmp_path / "results-old.json").write_bytes(b"")
    (tmp_path / "something.else").write_bytes(b"")

    sweep(tmp_path, older_than=0.0)
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path, older_than=4e9)
    assert [path.name for path in tmp_path.iterdir()] == ["something.else"]
