"""Reading the log ahead, so that the next events are folded when the last ones are written."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from services.projector.views.view import View
from tanda.contracts.envelope import Recorded, told
from tanda.contracts.events import NO_RESULT, FileCompleted
from tanda.contracts.views import Write

#: Up to this many events at a time come from a single file or command: nothing to gather.
LONE_EVENTS_MAX = 8
#: A result up to here is not worth a copy of its event without it.
RESULT_BYTES_MAX = 2_000

Source = AsyncIterator[list[Recorded]]


class Chunk:
    """Successive events, folded into every view as they came."""

    def __init__(self, views: Mapping[str, View]) -> None:
        self.events: list[Recorded] = []
        #: As views count them: each file's.
        self.told = 0
        self._foldings = {name: view.folding() for name, view in views.items()}
        self._writes: dict[str, list[Write]] = {}

    def add(self, records: Sequence[Recorded]) -> None:
        """Folds further events in."""
        events = list(map(lean, records))
        self.events += events
        self.told += sum(map(told, events))
        for folding in self._foldings.values():
            folding.add(events)

    def writes(self, view: str) -> list[Write]:
        """What all of the events do to a view's rows; asked again, the same."""
        if view not in self._writes:
            self._writes[view] = self._foldings[view].writes()
        return self._writes[view]


class ReadAhead:
    """Reads and folds while its user writes, as much as one chunk may have."""

    def __init__(self, source: Source, views: Mapping[str, View], events_max: int) -> None:
        self._source = source
        self._views = views
        self._events_max = events_max
        self._next = Chunk(views)
        self._taken_told = 0
        self._error: Exception | None = None
        self._ended = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def fill(self) -> None:
        """Reads to the end of the source; what it raises comes out of ``take``."""
        try:
            async for records in self._source:
                self._add(records)
                self._news.set()
                while self._next.told >= self._events_max:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._news.set()

    def _add(self, records: Sequence[Recorded]) -> None:
        try:
            self._next.add(records)
        except BaseException:
            self._next = Chunk(self._views)  # some views have these events and others not: none is written
            raise

    async def take(self, gather_s: float = 0.0) -> Chunk | None:
        """All that has come since the last time; None at the end.

        Where the log is busy it waits ``gather_s`` for more; a lone event is not held up.
        """
        while not self._next.events and not self._ended:
            self._news.clear()
            await self._news.wait()
        if gather_s and self._taken_told > LONE_EVENTS_MAX and self._next.told < self._events_max:
            await asyncio.sleep(gather_s)
        chunk, self._next = self._next, Chunk(self._views)
        self._taken_told = chunk.told
        self._room.set()
        if chunk.events:
            return chunk
        if self._error is not None:
            raise self._error
        return None


@asynccontextmanager
async def closing(source: Source) -> AsyncGenerator[Source]:
    """A reader that is closed with the block."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


@asynccontextmanager
async def read_ahead(source: Source, views: Mapping[str, View], events_max: int) -> AsyncGenerator[ReadAhead]:
    """A reader that runs beside its user and stops with it."""
    ahead = ReadAhead(source, views, events_max)
    async with closing(source):
        task = asyncio.create_task(ahead.fill())
        try:
            yield ahead
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def lean(record: Recorded) -> Recorded:
    """The event without a long inline result, which no view holds: 64 kB each would add up.

    Those of a group are short: all of them are in one event.
    """
    event = record.event
    if isinstance(event, FileCompleted) and event.result_bytes > RESULT_BYTES_MAX and not event.result_ref:
        return msgspec.structs.replace(record, event=msgspec.structs.replace(event, result=NO_RESULT))
    return record
