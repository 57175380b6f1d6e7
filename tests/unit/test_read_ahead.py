"""Events that are folded while the ones before them are written: all of a chunk, or nothing of it."""

from collections.abc import AsyncIterator, Sequence

import pytest

from services.projector.catalog import VIEWS
from services.projector.reading import Chunk, read_ahead
from services.projector.views.view import Folding, View
from tanda.adapters.memory import MemoryLog
from tanda.contracts.envelope import Recorded, told
from tanda.contracts.views import Write
from tests.builders import RandomBatches


async def story(events: int) -> list[Recorded]:
    log = MemoryLog()
    await RandomBatches(log, seed=7).run(events)
    return [record async for chunk in log.read() for record in chunk]


async def one_by_one(records: Sequence[Recorded]) -> AsyncIterator[list[Recorded]]:
    for record in records:
        yield [record]


class Fragile(View):
    """Cannot fold the third event."""

    name = "fragile"
    version = 1
    ddl = ""
    tables = ()

    def folding(self) -> Folding:
        return _FragileFolding()


class _FragileFolding:
    def add(self, events: Sequence[Recorded]) -> None:
        if any(record.seq == 3 for record in events):
            raise ValueError("not this one")

    def writes(self) -> list[Write]:
        return []


async def test_a_fold_that_fails_leaves_nothing_to_be_written() -> None:
    """Also of the events before it: one view has them and the failed event, another has only them."""
    views: dict[str, View] = {"files": VIEWS["files"], "fragile": Fragile()}
    async with read_ahead(one_by_one(await story(20)), views, 1_000) as ahead:
        with pytest.raises(ValueError, match="not this one"):
            await ahead.take()


async def test_what_came_before_a_reader_broke_off_is_written() -> None:
    """It is whole; the error comes after it."""
    records = await story(20)

    async def broken() -> AsyncIterator[list[Recorded]]:
        yield records[:5]
        raise ConnectionError("gone")

    async with read_ahead(broken(), VIEWS, 1_000) as ahead:
        chunk = await ahead.take()
        assert chunk is not None and chunk.events == records[:5]
        with pytest.raises(ConnectionError):
            await ahead.take()


async def test_a_reader_waits_where_a_chunk_is_full() -> None:
    """However much there is to read, no more is held than the limit and what the last read brought."""
    records = await story(40)
    taken: list[Chunk] = []
    async with read_ahead(one_by_one(records), VIEWS, 10) as ahead:
        while chunk := await ahead.take():
            taken.append(chunk)
    assert len(taken) > 2
    assert all(sum(map(told, chunk.events[:-1])) < 10 for chunk in taken)
    assert [one for chunk in taken for one in chunk.events] == records


@pytest.mark.parametrize("view", VIEWS)
async def test_a_chunk_says_the_same_twice(view: str) -> None:
    """A commit that was refused is tried again; in pieces or at once, the writes are those of the fold."""
    records = await story(200)
    chunk = Chunk(VIEWS)
    for record in records:
        chunk.add([record])
    assert chunk.writes(view) == chunk.writes(view)
    assert {(one.table, one.rows) for one in chunk.writes(view)} == {
        (one.table, one.rows) for one in VIEWS[view].fold(records)
    }
