"""Shadows filled by several processes, each on a core of its own.

The log is cut into successive stretches. Each process reads and folds its own beside the others, which a
fold allows: it needs neither rows nor what came before. They are written in log order, each by the process
that has folded it: when all before it is there, in one transaction with the checkpoint that it has to follow.
"""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from services.projector.filling import CHUNK_EVENTS, Building, Progress, build, check_end
from services.projector.parallel.wire import (
    Begin,
    Failed,
    Folded,
    Link,
    News,
    Ready,
    Stretch,
    Written,
    YourTurn,
    link,
)
from tanda.contracts.views import Checkpoint
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.ports import Log
from tanda.settings import Settings

#: More would wait for their turn to write, which only one at a time does.
PROCESSES_MAX = 4
#: A shorter log is there before the processes are.
POSITIONS_MIN = 5_000
#: As if so many positions had been read, each with half a group: the first stretches are short.
FIRST_POSITIONS, FIRST_EVENTS = 200, 10_000
#: Of what this process does while the others are loading.
EARLY_PART = 0.2
#: Towards the end stretches get shorter, down to this part of a whole one: all processes end together.
LAST_PART = 0.1
#: A stretch takes a second or two. Who says nothing for so long has lost its servers or itself.
SILENCE_S_MAX = 600.0
STOP_S = 1.0

_ENDED = "a process that fills the views ended in the middle of its work"
_SILENT = "a process that fills the views says nothing any more"


def processes_here() -> int:
    """As many as there are cores."""
    return min(len(os.sched_getaffinity(0)), PROCESSES_MAX)


class Processes:
    """Fills shadows as ``build`` does."""

    def __init__(
        self, settings: Settings, *, number: int | None = None, positions_min: int = POSITIONS_MIN,
        events_max: int = CHUNK_EVENTS,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._number = processes_here() if number is None else number
        self._positions_min = positions_min
        self._events_max = events_max

    async def fill(self, log: Log, building: Sequence[Building], progress: Progress) -> int:
        """A short log, and what only some of the views are to have, is filled by this process itself."""
        start = building[0].shadow.checkpoint
        through = min(one.through for one in building)
        begun_alike = {one.shadow.checkpoint.seq for one in building} == {start.seq}
        if not begun_alike or through - start.seq < self._positions_min or self._number < 2:
            return await build(log, building, progress)
        await check_end(log, through)
        cutting = _Cutting(start, through, self._number, self._events_max, progress)
        begin = Begin(self._settings, {one.view.name: one.shadow.schema for one in building})
        async with _started(self._number) as links:
            await _all(_meanwhile(log, building, cutting), *(_employ(one, begin, cutting) for one in links))
        for one in building:
            await one.shadow.refresh()
        return cutting.read + await build(log, building, lambda read: progress(through - start.seq + read))


class _Cutting:
    """Which stretch comes next, and how far all are."""

    def __init__(
        self, start: Checkpoint, through: int, processes: int, events_max: int, progress: Progress
    ) -> None:
        self._progress = progress
        self._start = start
        self._at = start.seq
        self._through = through
        self._processes = processes
        self._events_max = events_max
        #: Of what has been folded, to know how many events a position stands for.
        self._positions, self._events = FIRST_POSITIONS, FIRST_EVENTS
        self._before = asyncio.Event()
        self._before.set()
        #: Set when the first process has loaded what it needs.
        self.ready = asyncio.Event()
        #: Events that are written.
        self.read = 0

    def next(self, part: float = 1.0) -> tuple[Stretch, asyncio.Event, asyncio.Event] | None:
        """A stretch, what to wait for before it is written, and what to set afterwards.

        ``part`` of a whole one is the most that it is to be.
        """
        left = self._through - self._at
        if not left:
            return None
        density = max(1.0, self._events / self._positions)
        fair = left * density / self._processes
        events = min(part * self._events_max, max(fair, LAST_PART * self._events_max))
        length = max(1, int(events / density))
        after, self._at = self._at, self._at + min(length, left)
        anchor = self._start.event_id if after == self._start.seq else None
        before, self._before = self._before, asyncio.Event()
        return Stretch(after, anchor, self._at, self._events_max), before, self._before

    def folded(self, stretch: Stretch, news: Folded) -> None:
        """Another stretch, or its first part."""
        self._positions += news.seq - stretch.after
        self._events += news.told

    def written(self, news: Written) -> None:
        """How far all are, since writing is in log order."""
        self.read += news.told
        self._progress(news.seq - self._start.seq)


async def _meanwhile(log: Log, building: Sequence[Building], cutting: _Cutting) -> None:
    """This process begins, until the others are there: theirs is what it leaves."""
    goals = [one.through for one in building]
    while not cutting.ready.is_set() and (cut := cutting.next(EARLY_PART)) is not None:
        stretch, _, after = cut
        for one in building:
            one.through = stretch.through
        told = await build(log, building)
        cutting.folded(stretch, Folded(stretch.through, told))
        cutting.written(Written(stretch.through, told))
        after.set()
    for one, goal in zip(building, goals, strict=True):
        one.through = goal


async def _employ(talk: Link, begin: Begin, cutting: _Cutting) -> None:
    """Gives a process one stretch after the other."""
    try:
        await talk.tell(begin)
        assert isinstance(await _news(talk), Ready), "what is told first"
        cutting.ready.set()
        while (cut := cutting.next()) is not None:
            stretch, before, after = cut
            await talk.tell(stretch)
            folded = await _news(talk)
            assert isinstance(folded, Folded), "what is told of a stretch first"
            cutting.folded(stretch, folded)
            await before.wait()
            await talk.tell(YourTurn())
            seq = stretch.after
            while seq < stretch.through:
                written = await _news(talk)
                assert isinstance(written, Written), "what follows a turn"
                cutting.written(written)
                seq = written.seq
            after.set()
    except (EOFError, ConnectionError) as error:
        raise Unavailable("projector", _ENDED) from error
    except TimeoutError as error:
        raise Unavailable("projector", _SILENT) from error


async def _news(talk: Link) -> News:
    async with asyncio.timeout(SILENCE_S_MAX):
        news = await talk.news()
    if isinstance(news, Failed):
        raise LogDamaged(news.reason) if news.log_is_damaged else Unavailable("projector", news.reason)
    return news


async def _all(*works: Coroutine[Any, Any, None]) -> None:
    """The first that fails ends the others: what they wait for may never come."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _started(number: int) -> AsyncGenerator[list[Link]]:
    """Processes that are loading, and end with the block or with this process, however that ends."""
    ours, theirs = zip(*(socket.socketpair() for _ in range(number)), strict=True)
    try:
        descriptors = [one.fileno() for one in theirs]
        # A session of their own: Ctrl-C at a terminal is for this process, which then lets go of them.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.projector.parallel", *map(str, descriptors),
            stdin=DEVNULL, pass_fds=descriptors, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Unavailable("projector", f"no process could be started ({error})") from error
    finally:
        for one in theirs:
            one.close()
    links = [await link(one) for one in ours]
    try:
        yield links
    finally:
        for one in links:
            one.close()
        await _ended(process)


async def _ended(process: Process) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            await process.wait()
            return
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
