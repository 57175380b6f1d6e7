"""Documents that are ready when the last file is: the same bytes, without reading the log again."""

from io import BytesIO
from pathlib import Path

import pytest

from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import commands as c
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import FINAL_STATUSES
from tanda.domain.settling import Settling, archived_ref
from tanda.results import Drafts, ResultsCache, build, drafts
from tanda.results.fold import DocumentFold
from tests.batch_story import BatchStory
from tests.builders import RandomBatches


async def all_of(log: MemoryLog) -> list[Recorded]:
    return [record async for chunk in log.read() for record in chunk]


async def settled(log: MemoryLog, blobs: MemoryBlobs, name: str) -> tuple[BatchStory, int]:
    """A batch of which everything has happened but its end, and the position of its last outcome."""
    story = BatchStory(log, blobs, tenant=name)
    await story.half_way()
    await story.command(c.PauseBatch())
    await story.complete(2)
    return story, await log.position()


async def test_a_draft_becomes_the_same_document(tmp_path: Path) -> None:
    """Byte for byte what is built from the log, with events in between that it does not tell of."""
    log, blobs = MemoryLog(), MemoryBlobs()
    story, through = await settled(log, blobs, "acme")
    await story.command(c.ResumeBatch())
    held = Drafts()
    for record in await all_of(log):
        held.apply([record])

    key = (story.tenant, story.batch_id)
    draft = held.take(key, through)

    assert draft is not None and held.take(key, through) is None
    without_log = ResultsCache(MemoryLog(), blobs, tmp_path)
    stored = await without_log.store(*key, 1, through, draft)
    built = await build(log, blobs, tmp_path, *key, version=1, through_seq=through)
    assert stored.ref == built.ref and stored.counts == built.counts
    assert await blobs.read(stored.ref) == built.open().read()


async def test_a_draft_of_another_moment_is_no_draft() -> None:
    """Behind or ahead of what is asked for: the log tells."""
    log, blobs = MemoryLog(), MemoryBlobs()
    story, through = await settled(log, blobs, "acme")
    records = await all_of(log)
    for events in (records[:-1], records[1:]):
        held = Drafts()
        held.apply(events)
        assert held.take((story.tenant, story.batch_id), through) is None


async def test_the_oldest_draft_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for so many drafts, files and results, whichever is full first."""
    log, blobs = MemoryLog(), MemoryBlobs()
    stories = [await settled(log, blobs, name) for name in ("first", "second", "third")]
    records = await all_of(log)
    one = DocumentFold(stories[0][0].batch_id, BytesIO())
    one.apply([record for record in records if record.batch_id == one.batch_id])
    two_and_a_half = {"DRAFTS_MAX": 2, "FILES_MAX": 10, "ENTRY_BYTES_MAX": 5 * one.bytes_spooled // 2}
    for limit, value in two_and_a_half.items():
        with monkeypatch.context() as patch:
            patch.setattr(drafts, limit, value)
            held = Drafts()
            held.apply(records)
        kept = [held.take((one.tenant, one.batch_id), through) is not None for one, through in stories]
        assert kept == [False, True, True], limit


@pytest.mark.parametrize("seed", range(3))
async def test_files_of_a_group_are_known_as_any_others(seed: int) -> None:
    """After any possible story: settling and the document know the status of each, however it was told."""
    log = MemoryLog()
    random = RandomBatches(log, seed, batches_max=20)
    await random.run(400)
    records = await all_of(log)
    settling, archivable = Settling(), 0
    for one in random.batches:
        mine = [record for record in records if record.batch_id == one.batch_id]
        fold = DocumentFold(one.batch_id, BytesIO())
        fold.apply(mine)
        settling.adopt(one.tenant, one.batch_id, mine)
        batch = settling.batches[one.tenant, one.batch_id]
        statuses = {file_id: state.status for file_id, state in one.files.items()}
        assert {file.file_id: file.status for file in fold.files()} == statuses
        assert {file_id: file.status for file_id, file in batch.files.items()} == statuses
        assert batch.final == sum(status in FINAL_STATUSES for status in statuses.values())
        unarchived = [one for one in batch.files.values() if one.status == "completed" and not one.archived]
        assert batch.unarchived == sum(
            archived_ref(one.source) != one.source for one in unarchived if one.source
        )
        archivable += batch.unarchived
    assert archivable
    assert {record.name for record in records} >= {"FilesQueued", "FilesCompleted", "FilesParted"}
