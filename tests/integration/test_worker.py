"""The worker over the memory adapters and the real sandbox: released, run and told, whatever happens."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import PIL.Image
import pytest

from services.worker.outcomes import Outcomes
from services.worker.reuse import PREFIX
from services.worker.sandbox.sandbox import Sandbox, installed_processors
from services.worker.scheduler import AHEAD_FILES
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.results import BlobRef
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK, WorkItem
from tanda.domain import file as file_aggregate
from tanda.domain.errors import Unavailable
from tanda.settings import Settings
from tests.batch_story import BatchStory, digest, put
from tests.integration.workers import DEADLINE_S, House, completed, names


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    box = Sandbox(Settings())
    await box.start(installed_processors())
    yield box
    await box.close()


@pytest.fixture
async def house(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[House]:
    house = House(sandbox, tmp_path)
    yield house
    for task in house.tasks:
        task.cancel()
    await asyncio.gather(*house.tasks, return_exceptions=True)


async def sealed(house: House, count: int, number: int = 1) -> BatchStory:
    story = BatchStory(house.log, house.blobs, number=number)
    await story.create()
    await story.upload([f"file {n}".encode() for n in range(count)])
    await story.seal()
    return story


async def state_of(house: House, story: BatchStory, file_id: str) -> tuple[file_aggregate.FileState, int]:
    """A file as its events make it, and the last one's position."""
    state, seq = file_aggregate.initial(), 0
    for record in await house.events(story):
        if record.file_id == file_id:
            state, seq = file_aggregate.evolve(state, record.event), record.seq
    return state, seq


async def test_a_batch_is_released_started_and_completed(house: House) -> None:
    """Each file once: queued and completed, each event on top of the one before; the last tells the start."""
    story = await sealed(house, 20)
    house.scheduler()
    house.runner()
    events = await house.until(story, completed(20))
    for file_id in story.file_ids:
        assert [r.name for r in events if r.file_id == file_id] == [
            "FileQueued",
            "FileCompleted",
        ]
    done = [r.event for r in events if isinstance(r.event, e.FileCompleted)]
    assert all(one.started_at and one.previous == "queued" for one in done)
    assert await house.work.take(LANE_QUICK, 1, 0.0) == []


async def test_of_files_that_share_a_child_each_has_its_own_outcome(house: House) -> None:
    """Each is started and completed by itself; the one whose bytes are gone fails by itself."""
    story = BatchStory(house.log, house.blobs)
    await story.create()
    for number in range(12):
        await story.queue_with("table", f"a,b\n1,{number}\n".encode(), f"{number}.csv")
    gone = sorted(key for key in house.blobs.objects if "/src/" in key)[0]
    await house.blobs.delete(gone)
    await story.seal()
    house.scheduler()
    house.runner(LANE_DEFAULT)
    events = await house.until(
        story, lambda seen: len(names(seen, e.FileCompleted)) >= 11 and bool(names(seen, e.FileAttemptFailed))
    )
    failed, *_ = [record for record in events if isinstance(record.event, e.FileAttemptFailed)]
    assert isinstance(failed.event, e.FileAttemptFailed)
    assert failed.event.error.code == "source_missing"
    for file_id in set(story.file_ids) - {failed.file_id}:
        assert [r.name for r in events if r.file_id == file_id] == [
            "FileQueued", "FileStarted", "FileCompleted",
        ]  # fmt: skip


async def test_a_copy_of_a_picture_has_its_result_and_no_work(house: House) -> None:
    """Started and completed in the log as ever, with objects of its own; its bytes are not even fetched."""
    picture = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), "red").save(picture, "PNG")
    house.scheduler()
    house.runner(LANE_DEFAULT)
    told: list[e.FileCompleted] = []
    for number in (1, 2):
        story = BatchStory(house.log, house.blobs, number=number)
        await story.create()
        await story.queue_with("image", picture.getvalue(), f"{number}.png")
        if told:
            for key in await house.blobs.keys(f"t/acme/{story.batch_id}/"):
                await house.blobs.delete(key)
        await story.seal()
        events = await house.until(story, completed(1))
        told += [record.event for record in events if isinstance(record.event, e.FileCompleted)]
        assert events[-2].name == "FileStarted"
        (thumbnail,) = told[-1].artifacts
        assert thumbnail.blob.key.startswith(f"t/acme/{story.batch_id}/out/")
        assert digest(await house.blobs.read(thumbnail.blob)) == told[0].artifacts[0].blob.sha256
        await house.idle()
    assert [one.reused for one in told] == [False, True] and told[0].result == told[1].result


async def test_cheap_work_is_not_kept(house: House) -> None:
    """Looking a result up would cost as much: neither what runs in groups nor what shares a child."""
    story = BatchStory(house.log, house.blobs)
    await story.create()
    await story.upload([b"a"])
    await story.queue_with("table", b"a,b\n1,2\n", "a.csv")
    await story.seal()
    house.scheduler()
    for lane in (LANE_QUICK, LANE_DEFAULT):
        house.runner(lane)
    await house.until(story, completed(2))
    await house.idle()
    assert await house.blobs.keys(PREFIX) == []


async def test_no_more_is_released_than_keeps_runners_busy(house: House) -> None:
    """A batch that comes later waits for few files of an earlier one, however large that is."""
    story = BatchStory(house.log, house.blobs)
    await story.create()
    for number in range(4 * AHEAD_FILES):
        await story.queue_with("table", b"a,b\n1,2\n", f"{number}.csv")
    await story.seal()
    house.scheduler()
    (first,) = await house.work.take(LANE_DEFAULT, 1, DEADLINE_S)
    assert len(await house.work.present()) == AHEAD_FILES
    await first.give_back(0.0)
    house.runner(LANE_DEFAULT)
    await house.until(story, completed(4 * AHEAD_FILES))


async def test_two_workers_and_two_schedulers_agree(house: House) -> None:
    """Two of everything: still one outcome for each file."""
    story = await sealed(house, 200)
    for name in ("a", "b"):
        house.scheduler(name)
        house.runner(name=name)
    events = await house.until(story, completed(200))
    assert sorted(names(events, e.FileCompleted)) == sorted(story.file_ids)


async def test_a_lost_worker_costs_only_time(house: House) -> None:
    """Its file is started and then silent; after the lease another worker starts and finishes it."""
    story = await sealed(house, 1)
    house.scheduler()
    (delivery,) = await house.work.take(LANE_QUICK, 1, DEADLINE_S)
    await story.start(0)
    del delivery  # the worker is gone, and with it the promise to renew
    house.runner(name="b")
    events = await house.until(story, completed(1))
    started = [r.event for r in events if isinstance(r.event, e.FileStarted)]
    assert [one.delivery for one in started] == [1, 2] and [one.previous for one in started] == [
        "queued", "processing",
    ]  # fmt: skip
    queued, outcome = events[1].event, events[-1].event
    assert isinstance(queued, e.FileQueued) and isinstance(outcome, e.FileCompleted)
    assert outcome.effort == queued.effort > 0, "also who reads the file again tells what it was to cost"


async def test_a_file_that_kills_workers_fails_in_the_end(house: House) -> None:
    """Poison: after a bounded number of starts the file fails, with a reason."""
    story = await sealed(house, 1)
    house.scheduler()
    for _ in range(house.settings.deliveries_max):
        await house.work.take(LANE_QUICK, 1, DEADLINE_S)
        await story.start(0)
    house.runner()
    events = await house.until(story, lambda events: bool(names(events, e.FileFailed)))
    (failed,) = [r.event for r in events if isinstance(r.event, e.FileFailed)]
    assert failed.error.code == "worker_lost" and "3 times" in failed.error.message


async def test_a_zombie_writes_nothing(house: House) -> None:
    """A worker that was slower than its lease finds another's outcome in the log and drops its own."""
    story = await sealed(house, 1)
    house.scheduler()
    (zombie,) = await house.work.take(LANE_QUICK, 1, DEADLINE_S)
    await story.complete(0)
    runner = house.runner()
    await runner.handle([zombie])
    assert len(names(await house.events(story), e.FileCompleted)) == 1
    assert len(names(await house.events(story), e.FileStarted)) == 1


async def test_a_forgetful_queue_is_supplied_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was released and lost with the queue is released again by the sweep."""
    monkeypatch.setattr("services.worker.scheduler.RELEASED_AGE_S", 0.2)
    story = await sealed(house, 3)
    house.scheduler()
    taken = [await house.work.take(LANE_QUICK, 3, DEADLINE_S)]
    for one in taken[0]:
        await one.done()  # gone from the queue, and nobody ran them
    house.runner()
    await house.until(story, completed(3))


async def test_a_faulty_file_fails_alone_with_its_reason(house: House) -> None:
    """An invoice that is none, beside noops that complete."""
    story = BatchStory(house.log, house.blobs)
    await story.create()
    await story.upload([b"a"])
    await story.queue_with("invoice", b"<poem>roses</poem>", "poem.xml")
    await story.seal()
    house.scheduler()
    house.runner(LANE_QUICK)
    house.runner(LANE_DEFAULT)
    events = await house.until(story, lambda events: bool(names(events, e.FileFailed)))
    await house.until(story, completed(1))
    (failed,) = [r.event for r in events if isinstance(r.event, e.FileFailed)]
    assert failed.error.code == "not_an_invoice" and "poem" in failed.error.message


async def test_a_missing_source_is_tried_again_and_then_fails(house: House) -> None:
    """Gone bytes are an error of the world: another attempt follows, by the retry policy."""
    story = BatchStory(house.log, house.blobs)
    await story.create()
    await story.queue_with("invoice", b"<a/>", "a.xml")
    await story.seal()
    for key in await house.blobs.keys("t/"):
        await house.blobs.delete(key)
    house.scheduler()
    house.runner(LANE_DEFAULT)
    events = await house.until(story, lambda events: bool(names(events, e.FileAttemptFailed)))
    (failed,) = [r.event for r in events if isinstance(r.event, e.FileAttemptFailed)]
    assert failed.error.code == "source_missing" and failed.retry_at > events[-1].time
    again = await house.until(story, lambda events: len(names(events, e.FileQueued)) == 2)
    assert [r.event.attempt for r in again if isinstance(r.event, e.FileQueued)] == [1, 2]


@pytest.mark.parametrize("processor", ["noop", "table"])
async def test_a_version_that_a_worker_lacks_is_never_replaced_by_another(
    house: House, processor: str
) -> None:
    """The file fails and says what there is; asked again for what there is, it is done with that."""
    house.settings = msgspec.structs.replace(house.settings, attempts_max=2)
    story = BatchStory(house.log, house.blobs)
    await story.create()
    await story.queue_with(processor, b"a,b\n1,2\n", "a.csv")
    await story.seal()
    await story.fail(0)
    (file_id,) = story.file_ids
    own = house.sandbox.known[processor].version
    await story.command(c.RetryFiles(file_ids=[file_id], processor_version="no-such"))
    await story.each({file_id: c.RequeueFile(processor_version="no-such", forced=True)})
    house.scheduler()
    for lane in (LANE_QUICK, LANE_DEFAULT):
        house.runner(lane)
    events = await house.until(story, lambda events: bool(names(events, e.FileFailed)[1:]))
    failed = [r.event for r in events if isinstance(r.event, e.FileFailed)][-1]
    assert failed.error.code == "unknown_processor" and failed.error.retryable
    assert f"Version no-such of {processor}" in failed.error.message
    assert f"this worker has {own}" in failed.error.message
    assert names(events, e.FileCompleted) == []

    story.states[file_id], story.seqs[file_id] = await state_of(house, story, file_id)
    await story.each({file_id: c.RequeueFile(processor_version=own, forced=True)})
    events = await house.until(story, completed(1))
    (done,) = [r.event for r in events if isinstance(r.event, e.FileCompleted)]
    assert (done.processor, done.processor_version) == (processor, own)


async def test_a_cancelled_batch_runs_nothing_more(house: House) -> None:
    """Every file that had not started is cancelled, each by its own event."""
    story = await sealed(house, 30)
    await story.command(c.CancelBatch())
    house.scheduler()
    house.runner()
    events = await house.until(story, lambda events: len(names(events, e.FileCancelled)) == 30)
    assert names(events, e.FileStarted) == names(events, e.FileCompleted) == []


async def test_a_paused_batch_waits_and_goes_on(house: House) -> None:
    story = await sealed(house, 5)
    await story.command(c.PauseBatch())
    other = await sealed(house, 5, number=2)
    house.scheduler()
    house.runner()
    await house.until(other, completed(5))
    assert names(await house.events(story), e.FileCompleted) == []
    await story.command(c.ResumeBatch())
    await house.until(story, completed(5))


class AbsentBlobs(MemoryBlobs):
    """A store that does not answer for a while, in either direction."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    async def fetch(self, ref: BlobRef, path: Path) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("s3", "gone fishing")
        await super().fetch(ref, path)


async def test_a_store_that_is_away_makes_no_poison(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file waits in its worker's hands: started once, completed in the end."""
    monkeypatch.setattr("services.worker.outcomes.TROUBLE_WAIT_S", 0.1)
    house.blobs = AbsentBlobs(refusals=3 * house.settings.deliveries_max)
    story = BatchStory(house.log, house.blobs)
    await story.create()
    await story.queue_with("table", b"a,b\n1,2\n", "a.csv")
    await story.seal()
    house.scheduler()
    house.runner(LANE_DEFAULT)
    events = await house.until(story, completed(1))
    assert len(names(events, e.FileStarted)) == 1


@pytest.mark.parametrize("act", ["segfault", "failure", "burn"])
async def test_a_file_that_cannot_be_drawn_keeps_its_result(tmp_path: Path, act: str) -> None:
    """Drawing may crash, fail, and take too much time: it costs the pictures and nothing else."""
    blobs = MemoryBlobs()
    (told,) = await _told_of(tmp_path, [act], blobs)
    assert await blobs.keys(PREFIX) == [], "the next one may be drawn"
    assert (bytes(told.result), told.warnings) == (b'{"read":true}', ["page 2 is empty", "not_drawn"])
    assert told.artifacts == []


async def test_what_is_drawn_is_an_artifact(tmp_path: Path) -> None:
    """The pictures are stored beside the result; who wants none gets none."""
    blobs = MemoryBlobs()
    (told,) = await _told_of(tmp_path, ["artifact"], blobs)
    assert len(await blobs.keys(PREFIX)) == 1
    assert [one.name for one in told.artifacts] == ["a.png"]
    assert told.warnings == ["page 2 is empty"]
    (told,) = await _told_of(tmp_path, ["artifact"], pictures=False)
    assert told.artifacts == []


async def test_files_that_are_drawn_together_do_not_share_their_fate(tmp_path: Path) -> None:
    """One that crashes the child they share loses its own pictures only."""
    told = await _told_of(tmp_path, ["artifact", "segfault", "artifact"])
    assert [(len(one.artifacts), one.warnings[1:]) for one in told] == [(1, []), (0, ["not_drawn"]), (1, [])]


async def _told_of(
    spool: Path, acts: list[str], blobs: MemoryBlobs | None = None, **options: bool
) -> list[c.CompleteFile]:
    """What is said of files whose processor draws in those ways."""
    box = Sandbox(sys_path=[str(Path(__file__).parent / "sandbox")])
    await box.start({"draws": "probes:Draws"})
    blobs = blobs or MemoryBlobs()
    source = await put(blobs, "t/acme/1/src/1", b"hola")
    outcomes = Outcomes(blobs=blobs, sandbox=box, settings=Settings(), spool=spool, entropy=lambda: 0.5)
    items = [
        WorkItem(
            tenant="acme", batch_id="bat_1", file_id=f"fil_{number}", seq=1, attempt=1, name="a",
            content_type="text/plain", bytes=4, sha256=digest(b"hola"), source=source, processor="draws",
            options={"act": act, **options},
        )
        for number, act in enumerate(acts)
    ]  # fmt: skip
    told = [command for command in await outcomes.of(items) if isinstance(command, c.CompleteFile)]
    for item, command in zip(items, told, strict=True):
        await outcomes.keep(item, command)
    await box.close()
    assert len(told) == len(acts)
    return told
