"""What the log says must be there, may be there, and should have gone on."""

from pathlib import Path

import pytest

from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts.codec import encode_event
from tanda.contracts.times import epoch_ms
from tanda.doctor.inventory import ORPHAN_GRACE_MS, STUCK_MS, Inventory
from tests.batch_story import BatchStory
from tests.builders import RandomBatches
from tests.storage_world import World, mixed


async def inventory_of(log: MemoryLog) -> Inventory:
    inventory = Inventory()
    async for chunk in log.read():
        for one in chunk:
            inventory.apply(one, encode_event(one.event))
    return inventory


async def test_a_whole_life_misses_nothing_and_leaves_no_orphan(tmp_path: Path) -> None:
    """Packs, single objects, a failed file, a rejected one, archived or not: all of it is live, for ever."""
    world = World(tmp_path)
    story = world.story()
    later = 10**15
    async with world.running() as storage:
        await mixed(story)
        await world.settle(storage)
    inventory = await inventory_of(world.log)
    there = {key: len(content) for key, content in world.blobs.objects.items()}
    assert inventory.missing(there) == {}
    assert inventory.orphans([(key, 0) for key in there], later) == []
    required = inventory.required()
    assert required and set(required) <= set(there)
    for key in required:
        assert key in inventory.missing({one: size for one, size in there.items() if one != key})
        assert key in inventory.missing({**there, key: required[key][0] - 1})


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_any_event_ever_named_is_no_orphan(seed: int) -> None:
    """Random lives: every key in any event, and the archive's copy of it."""
    log = MemoryLog()
    await RandomBatches(log, seed).run(200)
    inventory = await inventory_of(log)
    assert set(inventory.required()) <= inventory.live
    both = inventory.live | {key.replace("/src/", "/archive/") for key in inventory.live}
    assert inventory.orphans([(key, 0) for key in both], 10**15) == []


async def test_an_orphan_is_old_unnamed_and_ours() -> None:
    """What is young, or belongs to the log's archive, a snapshot or a stored result, is none."""
    inventory = Inventory()
    now = 10 * ORPHAN_GRACE_MS
    old, young = now - ORPHAN_GRACE_MS - 1, now - ORPHAN_GRACE_MS
    theirs = [("log/1", old), ("snapshots/storage/1", old), ("reuse/a/1", old)]
    there = [("t/a/b/src/1", old), ("t/a/b/src/2", young), *theirs]
    assert inventory.orphans(there, now) == ["t/a/b/src/1"]


async def test_work_is_stuck_only_where_nothing_explains_it() -> None:
    """Paused, not begun, explained or finished work is not; a queued file is late only in a quiet log."""
    story = BatchStory(MemoryLog(), MemoryBlobs())
    await story.create()
    await story.upload([b"uno", b"dos"])
    await story.seal()
    await story.complete(0)
    log = story.log
    assert isinstance(log, MemoryLog)
    last = await log.get(await log.position())
    assert last is not None
    inventory = await inventory_of(log)
    late = epoch_ms(last.time) + STUCK_MS + 1
    key = (story.tenant, story.batch_id)
    assert inventory.stuck(late) == {key: [story.file_ids[1]]}
    assert inventory.stuck(late - 10) == {}
    assert inventory.stuck(late, [story.batch_id]) == {}
    inventory.last_ms = late
    assert inventory.stuck(late) == {}
