"""Waiting for the views by what the projector says of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.gateway.batches.positions import ViewPositions
from services.projector.catalog import VIEWS
from tanda.adapters.memory import MemoryLog, MemorySignals
from tanda.adapters.memory.views import MemoryViews
from tanda.ports import AsOf

DEADLINE_S = 5


class Listening:
    """Positions that listen, and views that count how often they are asked."""

    def __init__(self) -> None:
        self.signals = MemorySignals()
        self.positions = ViewPositions(MemoryViews(MemoryLog(), VIEWS.values()), self.signals)
        self.seq = 0
        self.asked = 0

    async def say(self, seq: int) -> None:
        """The projector announces, and is heard."""
        self.seq = seq
        async with asyncio.timeout(DEADLINE_S):
            while self.positions.known < seq:
                await self.signals.announce("views", seq)
                await asyncio.sleep(0)

    async def look(self) -> AsOf[str]:
        self.asked += 1
        return AsOf(self.seq, "found")


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    one = Listening()
    task = asyncio.create_task(one.positions.run())
    yield one
    task.cancel()


async def test_the_views_are_asked_once_they_are_said_to_be_there(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, since each question takes time from the projector; and once."""
    monkeypatch.setattr("services.gateway.batches.positions.POLL_S", 1000.0)
    await listening.say(5)
    waiting = asyncio.create_task(listening.positions.told(7, 1000.0, listening.look))
    await listening.say(6)
    await asyncio.sleep(0)
    assert listening.asked == 0
    await listening.say(7)
    async with asyncio.timeout(DEADLINE_S):
        assert await waiting == AsOf(7, "found")
    assert listening.asked == 1


async def test_an_announcement_that_was_lost_holds_nobody_up(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader asks after a while without one, and at once where none was ever heard."""
    monkeypatch.setattr("services.gateway.batches.positions.POLL_S", 1000.0)
    listening.seq = 3
    async with asyncio.timeout(DEADLINE_S):
        await listening.positions.told(3, 1000.0, listening.look)
    monkeypatch.setattr("services.gateway.batches.positions.POLL_S", 0.001)
    listening.seq = 9
    async with asyncio.timeout(DEADLINE_S):
        assert await listening.positions.told(9, 1000.0, listening.look) == AsOf(9, "found")
    assert listening.positions.known == 9
