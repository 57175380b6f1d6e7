"""Sources into the archive: in bounded steps, and never in the way of a batch whose results are awaited."""

import asyncio
from pathlib import Path

import pytest

from services.storage.archive import EVENT_BYTES_MAX, event_sizes
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import events as e
from tanda.contracts.codec import encode
from tanda.contracts.results import BlobRef
from tests.storage_world import World, sources


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Stuck(MemoryBlobs):
    """An object store that copies nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.copying = 0
        self.free = asyncio.Event()

    async def copy(self, source: str, target: str) -> None:
        self.copying += 1
        await self.free.wait()
        await super().copy(source, target)


async def test_a_batch_is_completed_whatever_is_being_archived(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are archived at once are at it, and more wait; the results of the next come all the same."""
    monkeypatch.setattr("services.storage.storage.OTHERS_MAX", 2)
    blobs = world.blobs = Stuck()
    stories = [world.story(number) for number in range(12)]
    async with world.running() as storage:
        for done, story in enumerate(stories, 1):
            await story.create()
            await story.upload([b"uno"])
            await story.seal()
            await story.complete(0)
            async with asyncio.timeout(10):
                while len(await world.events(e.BatchCompleted)) < done:
                    await asyncio.sleep(0.001)
        assert blobs.copying == 2
        blobs.free.set()
        await world.settle(storage)
    assert len(sources(world, "/archive/")) == len(stories)
    assert sources(world, "/src/") == []


async def test_many_sources_are_archived_a_few_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many objects, so many files an event and so many events an append: each file is told of once."""
    monkeypatch.setattr("services.storage.archive.OBJECTS_MAX", 3)
    monkeypatch.setattr("services.storage.archive.FILES_MAX", 2)
    monkeypatch.setattr("services.storage.storage.EVENTS_MAX", 2)
    story = world.story()
    await story.create()
    for number in range(4):
        await story.upload([f"{number} {place}".encode() for place in range(5)], pack=True)
    await story.seal()
    await story.complete(*range(20))
    async with world.running() as storage:
        await world.settle(storage)
    archived = [list(one.sources) for one in await world.events(e.SourcesArchived)]
    assert sorted(map(len, archived)) == [1] * 2 + [2] * 9
    assert sorted(name for names in archived for name in names) == sorted(story.file_ids)
    assert sources(world, "/src/") == []


def test_archived_sources_fit_into_events() -> None:
    """Ten thousand files are told of in events that the log accepts, each file once."""
    archived = {
        f"fil_{n:026d}": BlobRef(key=f"t/acme/bat_{0:026d}/archive/{'a' * 64}", bytes=n, sha256="b" * 64)
        for n in range(10_000)
    }
    portions = list(event_sizes(archived))
    assert {name: ref for portion in portions for name, ref in portion.items()} == archived
    assert max(
        len(encode(e.SourcesArchived(sources=portion))) for portion in portions
    ) <= EVENT_BYTES_MAX + len(encode(e.SourcesArchived(sources={})))
    assert sum(map(len, portions)) == 10_000
