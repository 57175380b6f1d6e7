"""The storage service: every batch gets its results once per version, and no source is ever lost."""

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.adapters.nats import connect
from tanda.adapters.s3 import S3Blobs
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.domain.settling import Settling
from tanda.embedded.servers import servers
from tanda.ports import Blobs, BlobStat, Log
from tanda.results import ResultsCache
from tanda.settings import from_environment
from tests.batch_story import BatchStory
from tests.storage_world import Failing, Life, Outrun, World, mixed, running_until_dead, sources


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running batches are archived at once, not every five seconds."""
    monkeypatch.setattr("services.storage.storage.ARCHIVE_EVERY_S", 0.01)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_settled_batch_is_completed_and_archived(world: World) -> None:
    """The document, the event, the archive: what completed has moved, what failed is where it was."""
    story = world.story()
    async with world.running() as storage:
        await mixed(story)
        await world.settle(storage)

        (completed,) = await world.check_results(story, versions=1)
        assert completed.counts == {"completed": 4, "failed": 1, "rejected": 1}
        archived = {name for one in await world.events(e.SourcesArchived) for name in one.sources}
        assert archived == {story.file_ids[n] for n in (0, 1, 2, 4)}
        assert sources(world, "/src/") == [story.states[story.file_ids[3]].queued.source.key]  # type: ignore[union-attr]
        assert len(sources(world, "/archive/")) == 3
        assert storage.unfinished == 0


async def test_nothing_is_completed_too_early(world: World) -> None:
    """Unsealed, or with one file still at work, a batch has no results."""
    story = world.story()
    async with world.running() as storage:
        await story.create()
        await story.upload([b"uno", b"dos"])
        await story.complete(0)
        await world.settle(storage)
        await story.seal()
        await story.start(1)
        await asyncio.sleep(0.05)
        assert await world.events(e.BatchCompleted) == []


async def test_a_retry_makes_another_version(world: World) -> None:
    """A batch that was forgotten comes back, and its second version tells of the second attempt."""
    story = world.story()
    async with world.running() as storage:
        await mixed(story)
        await world.settle(storage)
        assert storage.unfinished == 0

        await story.retry(3)
        await asyncio.sleep(0.05)
        assert len(await world.events(e.BatchCompleted)) == 1
        await story.complete(3, version="2")
        await world.settle(storage)

        await world.check_results(story, versions=2)
        assert storage.unfinished == 0
        assert sources(world, "/src/") == []


async def test_a_retry_is_awaited_until_its_files_are_queued(world: World) -> None:
    """Between FilesRetried and the files' own events every file is final, and yet nothing is complete."""
    story = world.story()
    await mixed(story)
    async with world.running() as storage:
        await world.settle(storage)
        before = await world.log.position()
        await story.retry(3)
        batch_event = (await world.log.get(before + 1)).event  # type: ignore[union-attr]
        assert isinstance(batch_event, e.FilesRetried)

    key = (story.tenant, story.batch_id)
    for end in range(before + 1, await world.log.position() + 1):
        fold = Settling()
        records = [record async for chunk in world.log.read(through=end) for record in chunk]
        fold.apply(records)
        assert not fold.batches and list(fold.unknown) == [key]
        fold.adopt(*key, records)
        assert not fold.batches[key].complete_due


async def test_a_batch_that_is_over_leaves_only_what_is_to_be_deleted(world: World) -> None:
    """A fold of a long log holds what is unfinished; the rest is known by the keys that are to go."""
    story = world.story()
    await mixed(story)
    async with world.running() as storage:
        await world.settle(storage)
    records = [record async for chunk in world.log.read() for record in chunk]
    fold = Settling()
    fold.apply(records)
    again = Settling.restore(fold.dump())
    key = (story.tenant, story.batch_id)
    for one in (fold, again):
        assert not one.batches and not one.unknown
        deleted = set(one.leavings[key])
        assert deleted and not deleted & set(await world.blobs.keys("t/")), "the service has deleted them"
        assert set(one.leavings[key].values()) <= set(await world.blobs.keys("t/"))
    retried = msgspec.structs.replace(
        records[-1], seq=records[-1].seq + 1, event=e.FilesRetried(file_ids=[story.file_ids[3]])
    )
    again.apply([retried])
    assert list(again.unknown) == [key] and not again.leavings


async def test_a_cancelled_batch_has_results_too(world: World) -> None:
    """Once each of its files is final; what was cancelled keeps its source."""
    story = world.story()
    async with world.running() as storage:
        await story.create()
        await story.upload([b"uno", b"dos"])
        await story.seal()
        await story.complete(0)
        await story.cancel()
        await story.cancel_files(1)
        await world.settle(storage)

        (completed,) = await world.check_results(story, versions=1)
        assert completed.counts == {"completed": 1, "cancelled": 1}
        assert len(sources(world, "/src/")) == 1


async def test_a_cancelled_open_batch_is_forgotten(world: World) -> None:
    """Never sealed, never whole: no results, and nothing kept in memory."""
    story = world.story()
    async with world.running() as storage:
        await story.create()
        await story.upload([b"uno"])
        await story.cancel()
        await story.cancel_files(0)
        await world.settle(storage)
        assert await world.events(e.BatchCompleted) == []
        assert storage.unfinished == 0


async def test_many_batches_at_once(world: World) -> None:
    """Two processes and fifty batches: each has exactly one document per version."""
    async with world.running() as one, world.running() as two:
        for number in range(50):
            story = world.story(number)
            await story.create()
            await story.upload([f"{number}".encode(), b"x"])
            await story.seal()
            await story.complete(0, 1)
        await world.settle(one, two)
        completed = await world.events(e.BatchCompleted)
        assert len(completed) == 50
        assert sources(world, "/src/") == []
        assert (one.unfinished, two.unfinished) == (0, 0)
        for event in completed:
            assert await world.blobs.read(event.results)
    world.check_sources()


@pytest.mark.parametrize("keeps_pace", [True, False])
async def test_killed_at_every_step(tmp_path: Path, keeps_pace: bool) -> None:
    """C-03: wherever the process dies, the next one ends the work, once, and no source is ever gone."""
    killed = 0
    for deadline in itertools.count(1):
        world = World(tmp_path / f"{deadline}")
        story = world.story()
        life = Life(deadline, watch=world.check_sources)
        first = world.storage(life)
        if not keeps_pace:
            await mixed(story)
        async with running_until_dead(first):
            if keeps_pace:
                await mixed(story)
            await world.settle(first, life=life)
        async with world.running() as second:
            await world.settle(second)
            await world.check_results(story, versions=1)
            await story.retry(3)
            await story.complete(3)
            await world.settle(second)
        await world.check_results(story, versions=2)
        archived = [name for one in await world.events(e.SourcesArchived) for name in one.sources]
        assert sorted(archived) == sorted(story.file_ids[n] for n in range(5))
        assert sources(world, "/src/") == []
        world.check_sources()
        if not life.dead.is_set():
            break
        killed += 1
    assert killed > 30


async def test_servers_that_fail_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls fail by chance, half of them after the deed; the work is done all the same, once."""
    monkeypatch.setattr("services.storage.storage.BACKOFF_S", 0.0001)
    monkeypatch.setattr("services.storage.storage.BACKOFF_MAX_S", 0.001)
    monkeypatch.setattr("tanda.follower._BACKOFF_S", 0.0001)
    failures = 0
    for seed in range(20):
        world = World(tmp_path / f"{seed}")
        story = world.story()
        chance = Random(seed)
        blobs, log = Failing(world.blobs, chance), Failing(world.log, chance)
        async with world.running(world.storage(log=log, blobs=blobs)) as storage:
            await mixed(story)
            await world.settle(storage)
        await world.check_results(story, versions=1)
        assert len(sources(world, "/src/")) == 1
        world.check_sources()
        failures += blobs.failures + log.failures
    assert failures > 50


@pytest.mark.parametrize("is_folded", [False, True])
async def test_another_writer_after_a_failure(world: World, is_folded: bool) -> None:
    """A server was away, and then somebody else wrote first: the batch is taken up with that one's news, also
    where it ``is_folded`` before the conflict is known, while another try is under way."""
    story = world.story()

    async def deed() -> None:
        await story.command(c.ChangeBatch(changed=["limit"], limit=2))
        while is_folded and storage.position < await world.log.position():
            await asyncio.sleep(0)
        for _ in range(20 * is_folded):  # turns in which it would be taken up
            await asyncio.sleep(0)

    async with world.running(storage := world.storage(log=Outrun(world.log, deed))):
        await mixed(story)
        await world.settle(storage)
        assert storage.unfinished == 0
    await world.check_results(story, versions=1)


class Meddling(MemoryBlobs):
    """An object store in which somebody acts in the middle of a step: just before a barrier."""

    def __init__(self) -> None:
        super().__init__()
        self.deeds: list[Callable[[], Coroutine[Any, Any, None]]] = []

    async def barrier(self) -> None:
        if self.deeds:
            await self.deeds.pop(0)()


async def test_a_retry_in_the_middle_of_completing(world: World) -> None:
    """The document was built, then came a retry: it is not recorded, and version 1 tells of the retry."""
    blobs = world.blobs = Meddling()
    story = world.story()

    async def retry() -> None:
        await story.retry(3)

    blobs.deeds = [retry]
    async with world.running() as storage:
        await mixed(story)
        await world.settle(storage)
        assert await world.events(e.BatchCompleted) == []
        await story.complete(3)
        await world.settle(storage)
    (completed,) = await world.check_results(story, versions=1)
    assert completed.counts == {"completed": 5, "rejected": 1}


async def test_a_retry_in_the_middle_of_archiving(world: World) -> None:
    """The copy was made, then came a retry: the file at work keeps its source until it is done."""
    blobs = world.blobs = Meddling()
    story = world.story()

    async def nothing() -> None:
        pass

    async def retry() -> None:
        await story.retry(0)

    blobs.deeds = [nothing, retry]
    async with world.running() as storage:
        await mixed(story)
        await world.settle(storage)
        source = story.states[story.file_ids[0]].queued.source  # type: ignore[union-attr]
        assert await world.blobs.read(source) == b"uno"
        assert len(await world.events(e.BatchCompleted)) == 1
        await story.complete(0, version="2")
        await world.settle(storage)
    await world.check_results(story, versions=2)
    assert len(sources(world, "/src/")) == 1


async def test_a_running_batch_is_archived_meanwhile(world: World) -> None:
    """Objects of which every file is completed go first; a pack with work in it stays whole."""
    story = world.story()
    async with world.running() as storage:
        await story.create()
        await story.upload([b"uno", b"dos"], pack=True)
        await story.upload([b"tres", b"cuatro"], pack=True)
        await story.seal()
        await story.complete(0, 1, 2)
        await world.settle(storage)
        archived = {name for one in await world.events(e.SourcesArchived) for name in one.sources}
        assert archived == {story.file_ids[0], story.file_ids[1]}
        assert len(sources(world, "/src/")) == 1
        await story.complete(3)
        await world.settle(storage)
    await world.check_results(story, versions=1)
    assert sources(world, "/src/") == []


async def test_a_restart_goes_on_from_its_snapshot(world: World) -> None:
    """A clean stop leaves a snapshot; the next process reads only what came after it."""
    story = world.story()
    async with world.running() as storage:
        await story.create()
        await story.upload([b"uno", b"dos"])
        await story.seal()
        await story.complete(0)
        while storage.position < await world.log.position():
            await asyncio.sleep(0.001)
    assert len(sources(world, "snapshots/storage/")) == 1
    position = await world.log.position()
    await story.complete(1)

    seen: list[int] = []

    class Watching(MemoryLog):
        async def follow(
            self, after: int, anchor: str | None = None, *, through: int | None = None
        ) -> AsyncIterator[Any]:
            seen.append(after)
            async for chunk in world.log.follow(after, anchor, through=through):
                yield chunk

        def __getattribute__(self, name: str) -> Any:
            return object.__getattribute__(self, name) if name == "follow" else getattr(world.log, name)

    async with world.running(world.storage(log=Watching())) as storage:
        await world.settle(storage)
    assert seen == [position]
    await world.check_results(story, versions=1)


async def test_what_was_cleared_away_is_not_looked_for_again(world: World) -> None:
    """A process that only deletes what was left writes no event, and its last snapshot tells of it."""

    class Store(MemoryBlobs):
        """The world's, which may keep all it has."""

        def __init__(self, *, keeping: bool = False) -> None:
            super().__init__()
            self.objects = world.blobs.objects
            self.looked_for: list[str] = []
            self._keeping = keeping

        async def stat(self, key: str) -> BlobStat | None:
            self.looked_for += [key] if "/src/" in key else []
            return await super().stat(key)

        async def delete(self, key: str) -> None:
            if self._keeping and "/src/" in key:
                raise Unavailable("s3", "no answer")
            await super().delete(key)

    story = world.story()
    async with world.running(world.storage(blobs=Store(keeping=True))) as storage:
        await story.create()
        await story.upload([b"uno"])
        await story.seal()
        await story.complete(0)
        while not await world.events(e.SourcesArchived) or storage.position < await world.log.position():
            await asyncio.sleep(0.001)
    assert sources(world, "/src/")
    looked_for: list[list[str]] = []
    for _ in range(2):
        blobs = Store()
        async with world.running(world.storage(blobs=blobs)) as storage:
            await world.settle(storage)
        looked_for.append(blobs.looked_for)
    assert sources(world, "/src/") == []
    assert looked_for[0]
    assert not looked_for[1]
    assert len(sources(world, "snapshots/storage/")) == 1


async def test_a_torn_snapshot_is_passed_over(world: World) -> None:
    """Where the newest is damaged the one before is taken, and where all are, the log."""
    story = world.story()
    async with world.running() as storage:
        await mixed(story)
        await world.settle(storage)
    for key in sources(world, "snapshots/storage/"):
        world.blobs.objects[key] = world.blobs.objects[key][:-1]
    async with world.running() as storage:
        await world.settle(storage)
        assert storage.position == await world.log.position()
    await world.check_results(story, versions=1)


async def test_a_log_that_went_back_stops_the_service(world: World, tmp_path: Path) -> None:
    """The snapshot tells of an event that is not there any more: an alarm, not a guess."""
    await mixed(world.story())
    async with world.running() as storage:
        await world.settle(storage)
    shorter = World(tmp_path / "shorter")
    shorter.blobs = world.blobs
    await shorter.story(2).create()
    with pytest.raises(LogDamaged):
        await shorter.storage().run()


async def test_a_gone_document_is_served_again(world: World) -> None:
    """The gateway's cache gives the bytes of the event, from the object or from the log."""
    story = world.story()
    async with world.running() as storage:
        await mixed(story)
        await world.settle(storage)
    cache = ResultsCache(world.log, world.blobs, world.spool)
    event = await cache.recorded(story.tenant, story.batch_id, 1)
    asked = (story.tenant, story.batch_id, 1, event.through_seq, event.results)
    assert await cache.open(*asked) == (event.results, True)
    await world.blobs.delete(event.results.key)
    assert await cache.open(*asked) == (event.results, False)
    assert await cache.open(*asked) == (event.results, True)
    assert await world.blobs.read(event.results)


# -- on the real servers


async def test_the_process_on_the_real_servers(tmp_path: Path) -> None:
    """Started beside NATS and S3 it completes and archives a batch, and stops at once."""
    async with servers() as real:
        settings = from_environment(real.env)
        connection = await connect(settings, "test")
        blobs = S3Blobs(settings)
        story = BatchStory(connection.log, blobs)
        await mixed(story)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.storage",
            env={**os.environ, **real.env, "TANDA_DATA": str(tmp_path)},
        )  # fmt: skip
        cache = ResultsCache(connection.log, blobs, tmp_path / "own")
        completed = await until_completed(connection.log, story, blobs)

        assert await cache.open(
            story.tenant, story.batch_id, 1, completed.through_seq, completed.results
        ) == (completed.results, True)
        document = json.loads(await blobs.read(completed.results))
        assert document["metadata"]["counts"]["total"] == 6

        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert await asyncio.wait_for(process.wait(), 5) == 0
        assert time.monotonic() - begun < 2.0  # 0.1 s on an idle machine
        assert len(await blobs.keys("snapshots/storage/")) == 1
        await blobs.close()
        await connection.close()


async def until_completed(log: Log, story: BatchStory, blobs: Blobs) -> e.BatchCompleted:
    """Waits until the batch is completed and all its archived sources have left their old places."""
    prefix = f"t/{story.tenant}/{story.batch_id}/src/"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(LookupError):
            cache = ResultsCache(log, blobs, Path("unused"))
            if len(await blobs.keys(prefix)) == 1:
                return await cache.recorded(story.tenant, story.batch_id, 1)
        await asyncio.sleep(0.02)
    raise AssertionError("the batch was not completed in time")
