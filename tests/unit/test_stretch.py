"""A stretch of the log in as many parts as memory allows, and how the log is cut into stretches."""

import pytest

from services.projector.catalog import VIEWS
from services.projector.parallel.stretch import Part, parts
from services.projector.parallel.wire import Stretch
from tanda.adapters.memory import MemoryLog, streams
from tanda.contracts.envelope import told
from tests.builders import RandomBatches


async def story(events: int) -> MemoryLog:
    log = MemoryLog()
    await RandomBatches(log, seed=3, batches_max=40).run(events)
    return log


async def cut(log: MemoryLog, after: int, through: int, events_max: int) -> list[Part]:
    stretch = Stretch(after, None, through, events_max)
    return [part async for part in parts(log, VIEWS, stretch)]


async def test_a_stretch_denser_than_was_thought_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each follows the one before, none holds more than it may and what was read last, none is missing."""
    monkeypatch.setattr(streams, "READ_CHUNK", 3)
    log = await story(400)
    records = [one async for chunk in log.read(after=100, through=380) for one in chunk]
    densest = max(map(told, records))
    assert densest > 1, "the story has groups"
    found = await cut(log, 100, 380, 20)
    assert len(found) > 5
    assert [one.seq for one in found][-1] == 380
    assert [one.steps[0].seen.seq for one in found] == [100, *(one.seq for one in found[:-1])]
    assert all(one.told < 20 + 3 * densest for one in found)
    assert sum(one.told for one in found) == sum(map(told, records))


async def test_a_stretch_within_its_limit_is_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many times it is read in: what is queued and completed within it is written once, whole."""
    monkeypatch.setattr(streams, "READ_CHUNK", 3)
    log = await story(200)
    (part,) = await cut(log, 0, 200, 10_000)
    events = [one async for chunk in log.read(through=200) for one in chunk]
    assert {step.view: step.writes for step in part.steps} == {
        name: view.fold(events) for name, view in VIEWS.items()
    }
    assert {step.event_id for step in part.steps} == {events[-1].id}
