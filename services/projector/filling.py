"""Filling shadows from the log: read once, folded as it comes, written while the next events are read."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from services.projector.reading import closing
from services.projector.store import Shadow
from services.projector.views.view import View
from tanda.contracts.envelope import Recorded, told
from tanda.domain.errors import LogDamaged
from tanda.ports import Log

#: Of so many events the rows are written at once. Most files are queued and completed within so many, and are
#: written once, whole; as many again are being folded meanwhile, which is what memory is needed for.
CHUNK_EVENTS = 50_000

T = TypeVar("T")

#: Told the number of positions read so far.
Progress = Callable[[int], None]


class Building:
    """A shadow on its way to a position."""

    def __init__(self, view: View, shadow: Shadow, through: int) -> None:
        self.view = view
        self.shadow = shadow
        self.through = through
        self._folding = view.folding()
        #: The last event that is folded, and whether it is not given to be written yet.
        self._last: Recorded | None = None
        self._unwritten = False

    def fold(self, events: Sequence[Recorded]) -> None:
        """The part of these events that the shadow does not have yet and is to have."""
        first = events[0].seq
        had = self._last.seq if self._last else self.shadow.checkpoint.seq
        mine = events[max(had + 1 - first, 0) : max(self.through + 1 - first, 0)]
        if mine:
            self._folding.add(mine)
            self._last = mine[-1]
            self._unwritten = True

    async def write(self) -> None:
        """What has been folded until now."""
        last, folding = self._last, self._folding
        if last is not None and self._unwritten:
            self._folding, self._unwritten = self.view.folding(), False
            await self.shadow.apply(folding.writes(), last.seq, last.id)


#: What fills every shadow from the log up to where it is to go; returns the events read.
Fill = Callable[[Log, Sequence[Building], Progress], Awaitable[int]]


def silent(_: int) -> None:
    return None


async def build(log: Log, building: Sequence[Building], progress: Progress = silent) -> int:
    """Reads the log once and fills every shadow up to where it is to go.

    Returns the events read, those of a group as many as it has files.
    """
    start = min((one.shadow.checkpoint for one in building), key=lambda checkpoint: checkpoint.seq)
    through = max(one.through for one in building)
    await check_end(log, through)
    seq, read, folded = start.seq, 0, 0
    writing = _Writing()
    async with closing(log.follow(start.seq, start.event_id, through=through)) as source:
        try:
            while seq < through:
                events = await anext(source)
                assert events[0].seq == seq + 1, "a follower passes over nothing"
                for one in building:
                    one.fold(events)
                seq = events[-1].seq
                folded += sum(told(one) for one in events if one.seq <= through)
                if folded >= CHUNK_EVENTS or seq >= through:
                    await writing.begin(building)
                    read, folded = read + folded, 0
                progress(min(seq, through) - start.seq)
            await writing.end()
        finally:
            await writing.stop()
    return read


async def check_end(log: Log, through: int) -> None:
    """LogDamaged where the log does not go as far: whoever follows it would wait for ever."""
    if (end := await log.position()) < through:
        raise LogDamaged(f"the log ends at {end}, but {through} had been seen")


class _Writing:
    """One chunk of all shadows at a time, beside what else is done."""

    def __init__(self) -> None:
        self._task: asyncio.Task[list[None]] | None = None

    async def begin(self, building: Sequence[Building]) -> None:
        """Waits for the one before; what it raised comes out here."""
        await self.end()
        self._task = asyncio.create_task(at_once(*(one.write() for one in building)))

    async def end(self) -> None:
        if self._task is not None:
            await self._task
            self._task = None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def at_once(*works: Coroutine[Any, Any, T]) -> list[T]:
    """All at once, each on its own connection; none is left at work when another one failed."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    done: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        done.append(outcome)
    return done
