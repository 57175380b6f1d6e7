"""Groups of files over the memory adapters: worked on as one where that is right, else one by one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.worker.sandbox.sandbox import Sandbox, installed_processors
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import Origin, Recorded, new_event
from tanda.contracts.subjects import LIMITS_SUBJECT
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK
from tanda.domain.groups import GROUP_FILES
from tanda.settings import Settings
from tests.batch_story import BatchStory
from tests.integration.workers import DEADLINE_S, House, completed, names

FILES = 20


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


async def sealed(house: House, count: int = FILES, **more: dict[str, Any]) -> BatchStory:
    story = BatchStory(house.log, house.blobs)
    await story.create()
    await story.upload_together([f"file {n}".encode() for n in range(count)], **more)
    await story.seal()
    return story


def kinds(events: list[Recorded]) -> Counter[str]:
    return Counter(record.name for record in events if not record.name.startswith("Batch"))


async def test_a_group_is_released_and_completed_as_one(house: House) -> None:
    """Two groups, two events each: every file has its result, and none an event of its own."""
    story = await sealed(house, GROUP_FILES + 20)
    house.scheduler()
    house.runner()
    events = await house.until(story, lambda seen: len(names(seen, e.FilesCompleted)) == 2)
    assert kinds(events) == {"FilesQueued": 2, "FilesCompleted": 2}
    told = [
        one for record in events if isinstance(record.event, e.FilesCompleted) for one in record.event.files
    ]
    assert sorted(file_id for file_id, _ in told) == sorted(story.file_ids)
    assert all(one.started_at and one.previous == "queued" and one.effort == 1 for _, one in told)
    await house.idle()


async def test_a_group_with_a_failure_goes_on_one_by_one(house: House) -> None:
    """The others complete, each by itself, and the failure is the one file's own."""
    story = await sealed(house, f3={"processor_version": "no-such"})
    house.scheduler()
    house.runner()
    await house.until(story, completed(FILES - 1))
    events = await house.until(story, lambda seen: bool(names(seen, e.FileAttemptFailed)))
    assert names(events, e.FileAttemptFailed) == [story.file_ids[3]]
    assert (names(events, e.FilesParted), names(events, e.FilesCompleted)) == (["grp_0"], [])
    assert sorted([*names(events, e.FileCompleted), story.file_ids[3]]) == sorted(story.file_ids)


async def test_a_group_whose_worker_was_lost_goes_on_one_by_one(house: House) -> None:
    """One of its files may be what killed the worker; who comes back late with the group changes nothing."""
    story = await sealed(house)
    house.scheduler()
    (lost,) = await house.work.take(LANE_QUICK, 1, DEADLINE_S)
    assert len(lost.items) == FILES
    runner = house.runner()
    await house.until(story, completed(FILES))
    await runner.handle([lost])
    assert kinds(await house.events(story)) == {"FilesQueued": 1, "FilesParted": 1, "FileCompleted": FILES}


async def test_a_group_is_not_parted_after_its_end(house: House) -> None:
    """The outcome is in the log, the acknowledgement was lost: the second delivery leaves it as it is."""
    story = await sealed(house)
    house.scheduler()
    (first,) = await house.work.take(LANE_QUICK, 1, DEADLINE_S)
    (again,) = await house.work.take(LANE_QUICK, 1, DEADLINE_S)
    runner = house.runner(LANE_DEFAULT)
    await runner.handle([first])
    await runner.handle([again])
    assert kinds(await house.events(story)) == {"FilesQueued": 1, "FilesCompleted": 1}


#: What keeps a group from being released as one: the limits set, the batch's own, what a file is otherwise.
HINDRANCES: dict[str, tuple[e.LimitsChanged, int | None, dict[str, Any]]] = {
    "a batch's limit": (e.LimitsChanged(), 2, {}),
    "a tenant's limit": (e.LimitsChanged(tenants={"acme": 2}), None, {}),
    "a processor's limit": (e.LimitsChanged(processors={"noop": 2}), None, {}),
    "slow work": (e.LimitsChanged(), None, {"f5": {"processor": "table"}}),
}


@pytest.mark.parametrize("name", HINDRANCES)
async def test_what_cannot_go_as_one_is_parted_before_it_is_released(house: House, name: str) -> None:
    """Each of its files is released and completed by itself."""
    limits, own_limit, more = HINDRANCES[name]
    origin = Origin(source="/test/1")
    await house.log.append([new_event(LIMITS_SUBJECT, limits, expected_seq=0, time_ms=1, origin=origin)])
    story = BatchStory(house.log, house.blobs)
    await story.create()
    await story.command(c.ChangeBatch(changed=["limit"], limit=own_limit))
    await story.upload_together([b"a,b\n1,2\n"] * FILES, **more)
    await story.seal()
    house.scheduler()
    for lane in (LANE_QUICK, LANE_DEFAULT):
        house.runner(lane)
    events = await house.until(story, completed(FILES))
    assert (names(events, e.FilesParted), names(events, e.FilesCompleted)) == (["grp_0"], [])


async def test_a_cancelled_group_has_an_end_for_each_file(house: House) -> None:
    """Parted, and then each of its files is cancelled by its own event."""
    story = await sealed(house)
    await story.command(c.CancelBatch())
    house.scheduler()
    house.runner()
    events = await house.until(story, lambda seen: len(names(seen, e.FileCancelled)) == FILES)
    assert kinds(events) == {"FilesQueued": 1, "FilesParted": 1, "FileCancelled": FILES}
    assert sorted(names(events, e.FileCancelled)) == sorted(story.file_ids)
