"""Reading the log ahead, so that the next events are there when the last ones are written."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tanda.contracts.envelope import Recorded, told
from tanda.contracts.events import NO_RESULT, FileCompleted

#: Up to this many events at a time come from a single file or command: nothing to gather.
LONE_EVENTS_MAX = 8
#: A result up to here is not worth a copy of its event without it.
RESULT_BYTES_MAX = 2_000

Source = AsyncIterator[list[Recorded]]


class ReadAhead:
    """Collects chunks of the log while its user is at work, up to twice what one ``take`` gives."""

    def __init__(self, source: Source, events_max: int) -> None:
        self._source = source
        self._events_max = events_max
        self._waiting: list[Recorded] = []
        #: What is waiting and what the last ``take`` gave, in events as views count them: each file's.
        self._waiting_told = 0
        self._error: Exception | None = None
        self._ended = False
        self._taken_told = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def fill(self) -> None:
        """Reads to the end of the source; what it raises comes out of ``take``."""
        try:
            async for chunk in self._source:
                self._waiting += map(lean, chunk)
                self._waiting_told += sum(map(told, chunk))
                self._news.set()
                while self._waiting_told >= 2 * self._events_max:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._news.set()

    async def take(self, gather_s: float = 0.0) -> list[Recorded]:
        """The next events, those of ``events_max`` files or the first that has more; [] at the end.

        Where the log is busy it waits ``gather_s`` for more; a lone event is not held up.
        """
        while not self._waiting and not self._ended:
            self._news.clear()
            await self._news.wait()
        if gather_s and self._taken_told > LONE_EVENTS_MAX and self._waiting_told < self._events_max:
            await asyncio.sleep(gather_s)
        events = self._take()
        self._room.set()
        if not events and self._error is not None:
            raise self._error
        return events

    def _take(self) -> list[Recorded]:
        number = self._taken_told = 0
        for record in self._waiting:
            size = told(record)
            if number and self._taken_told + size > self._events_max:
                break
            number += 1
            self._taken_told += size
        events = self._waiting[:number]
        del self._waiting[:number]
        self._waiting_told -= self._taken_told
        return events


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
async def read_ahead(source: Source, events_max: int) -> AsyncGenerator[ReadAhead]:
    """A reader that runs beside its user and stops with it."""
    ahead = ReadAhead(source, events_max)
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
