"""Reading the log ahead, so that the next events are there when the last ones are written."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tanda.contracts.envelope import Recorded
from tanda.contracts.events import NO_RESULT, FileCompleted

#: Up to this many events at a time come from a single file or command: nothing to gather.
LONE_EVENTS_MAX = 8

Source = AsyncIterator[list[Recorded]]


class ReadAhead:
    """Collects chunks of the log while its user is at work, up to twice what one ``take`` gives."""

    def __init__(self, source: Source, events_max: int) -> None:
        self._source = source
        self._events_max = events_max
        self._waiting: list[Recorded] = []
        self._error: Exception | None = None
        self._ended = False
        #: Events of the last ``take``: how busy the log is.
        self._taken = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def fill(self) -> None:
        """Reads to the end of the source; what it raises comes out of ``take``."""
        try:
            async for chunk in self._source:
                self._waiting += map(lean, chunk)
                self._news.set()
                while len(self._waiting) >= 2 * self._events_max:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._news.set()

    async def take(self, gather_s: float = 0.0) -> list[Recorded]:
        """The next events, at most ``events_max``; [] at the end.

        Where the log is busy it waits ``gather_s`` for more; a lone event is not held up.
        """
        while not self._waiting and not self._ended:
            self._news.clear()
            await self._news.wait()
        if gather_s and self._taken > LONE_EVENTS_MAX and len(self._waiting) < self._events_max:
            await asyncio.sleep(gather_s)
        events = self._waiting[: self._events_max]
        del self._waiting[: self._events_max]
        self._taken = len(events)
        self._room.set()
        if not events and self._error is not None:
            raise self._error
        return events


@asynccontextmanager
async def read_ahead(source: Source, events_max: int) -> AsyncGenerator[ReadAhead]:
    """A reader that runs beside its user and stops with it."""
    ahead = ReadAhead(source, events_max)
    task = asyncio.create_task(ahead.fill())
    try:
        yield ahead
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


def lean(record: Recorded) -> Recorded:
    """The event without its inline result, which no view holds: 64 kB each would add up."""
    event = record.event
    if isinstance(event, FileCompleted) and event.result_ref is None:
        return msgspec.structs.replace(record, event=msgspec.structs.replace(event, result=NO_RESULT))
    return record
