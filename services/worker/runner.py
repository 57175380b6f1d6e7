"""A runner: takes released files, writes that they started, has them processed, writes what came of it.

The order is safe at every point: the start is in the log before any work is done, so that a killed
worker counts; the result is durable before its event; the event is in the log before the item leaves
the queue. Whatever is lost on the way is delivered again, and optimistic concurrency lets exactly
one outcome stand.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import structlog

from services.worker.outcomes import Outcomes
from services.worker.sharing import Sharing
from services.worker.together import Together
from tanda.contracts import commands as c
from tanda.contracts.envelope import NewEvent, Origin, new_event
from tanda.contracts.events import Event
from tanda.contracts.results import FileError
from tanda.contracts.subjects import file_subject
from tanda.contracts.times import rfc3339
from tanda.contracts.work import WorkItem, lane_provider
from tanda.domain import file as file_aggregate
from tanda.domain.errors import Conflict, StateForbids, Unavailable
from tanda.ports import Delivery, Log, WorkQueue
from tanda.settings import Settings

_log = structlog.get_logger("tanda.runner")

#: How long a runner waits for work before it asks again.
TAKE_WAIT_S = 5.0
#: After a server that does not answer; the items come again by their own lease.
TROUBLE_WAIT_S = 0.5


class Run:
    """One delivery on its way: what the log knows of the file, and at which position."""

    def __init__(self, delivery: Delivery, slot: int = 1) -> None:
        self.delivery = delivery
        #: Which of the runner's slots it has, counted as they were taken.
        self.slot = slot
        self.item: WorkItem = delivery.item
        self.state = file_aggregate.queued_state(self.item.attempt, self.item.effort)
        self.seq = self.item.seq
        self.started_at = 0.0

    @property
    def subject(self) -> str:
        return file_subject(self.item.tenant, self.item.batch_id, self.item.file_id)

    def advance(self, event: Event, seq: int) -> None:
        """Takes note of an event of this file that is in the log."""
        self.state = file_aggregate.evolve(self.state, event)
        self.seq = seq


class Runner:
    """Runs one lane of the work queue: ``limit`` files at once, taken ``group`` at a time at most.

    With ``sharing``, files that share a child count as one.
    """

    def __init__(
        self, *, log: Log, work: WorkQueue, outcomes: Outcomes, settings: Settings, name: str, lane: str,
        limit: int, group: int | None = None, sharing: Sharing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._log = log
        self._work = work
        self._outcomes = outcomes
        self._settings = settings
        self._name = name
        self._lane = lane
        self._group = group or limit
        self._sharing = sharing
        self._clock = clock
        self._origin = Origin(source=f"/worker/{name}")
        self._together = Together(log, outcomes, self._origin, clock)
        self._limit = limit
        self._free = limit
        self._freed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Takes work for ever; cancelled to stop taking."""
        while True:
            while self._free <= 0:
                self._freed.clear()
                await self._freed.wait()
            try:
                room = self._sharing.room(self._free) if self._sharing else self._free
                deliveries = await self._work.take(self._lane, min(room, self._group), TAKE_WAIT_S)
            except Unavailable as error:
                _log.warning("the work queue does not answer", lane=self._lane, error=str(error))
                await asyncio.sleep(TROUBLE_WAIT_S)
                continue
            await self._spawn(deliveries)

    @property
    def _busy(self) -> int:
        """Slots that are taken."""
        return self._limit - self._free

    async def drain(self, wait_s: float) -> None:
        """Lets what runs finish; what does not is given back to other runners."""
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=wait_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _spawn(self, deliveries: Sequence[Delivery]) -> None:
        """A task for each group; what finds no room after all is given back."""
        for group in self._groups(deliveries):
            size = len(group) if self._sharing is None else 1
            if size > self._free:
                await asyncio.gather(*(one.give_back(0.0) for one in group))
                continue
            self._free -= size
            task = asyncio.create_task(self._guard(group, size, self._busy))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _groups(self, deliveries: Sequence[Delivery]) -> list[list[Delivery]]:
        """Quick work goes together, an outside provider's files and groups of the log each for itself."""
        if self._sharing is not None:
            return self._sharing.groups([(one.item, one) for one in deliveries], self._free)
        grouped = [[one] for one in deliveries if one.item.group]
        single = [one for one in deliveries if not one.item.group]
        if single and self._outcomes.quick(*(one.item for one in single)):
            return [*grouped, single]
        return [*grouped, *([one] for one in single)]

    async def _guard(self, group: Sequence[Delivery], size: int, slot: int) -> None:
        """Frees the slots whatever happens; a server's absence is no fault of the file."""
        try:
            await self.handle(group, slot)
        except Unavailable as error:
            _log.warning("work was interrupted and will come again", files=len(group), error=str(error))
            await asyncio.gather(*(one.give_back(TROUBLE_WAIT_S) for one in group))
        except asyncio.CancelledError:
            await asyncio.gather(*(one.give_back(0.0) for one in group))
            raise
        except Exception:
            _log.exception("a runner failed; its files will come again", files=len(group))
        finally:
            self._free += size
            self._freed.set()

    async def handle(self, deliveries: Sequence[Delivery], slot: int = 1) -> None:
        """Start, process, outcome, done: for each of them, with shared commits."""
        if deliveries and deliveries[0].item.group:
            await self._while_extended(deliveries, self._together.handle(deliveries[0]))
            return
        at_once, runs = self._sorted([Run(one, slot) for one in deliveries])
        runs = await self._start(runs) + at_once
        if not runs:
            return
        await self._while_extended([run.delivery for run in runs], self._work_on(runs))

    async def _work_on(self, runs: Sequence[Run]) -> None:
        begun_at = rfc3339(int(self._clock() * 1000))
        commands = await self._outcomes.of([run.item for run in runs])
        results = list(zip(runs, commands, strict=True))
        await self._finish(await self._began(results, begun_at))

    def _sorted(self, runs: list[Run]) -> tuple[list[Run], list[Run]]:
        """Those whose start is told with their outcome, which saves a third of all events, and the others.

        A start that is told late does not count a lost worker; so only what nobody has lost yet goes that
        way, and only work of our own that takes no time.
        """
        quick = [run.delivery.is_first and self._outcomes.quick(run.item) for run in runs]
        at_once = [run for run, so in zip(runs, quick, strict=True) if so]
        return at_once, [run for run, so in zip(runs, quick, strict=True) if not so]

    async def _began(
        self, results: Sequence[tuple[Run, c.Command]], begun_at: str
    ) -> list[tuple[Run, c.Command]]:  # fmt: skip
        """Each outcome with the start that it needs: only a result tells its own."""
        told: list[tuple[Run, c.Command]] = []
        for run, command in results:
            if run.state.status != "queued":
                told.append((run, command))
            elif isinstance(command, c.CompleteFile):
                told.append((run, msgspec.structs.replace(command, started_at=begun_at)))
            elif await self._start([run]):
                told.append((run, command))
        return told

    async def _while_extended(self, deliveries: Sequence[Delivery], work: Coroutine[Any, Any, None]) -> None:
        """Keeps the lease while the work lasts."""
        heartbeat = asyncio.create_task(self._extend(deliveries))
        try:
            await work
        finally:
            heartbeat.cancel()

    async def _extend(self, deliveries: Sequence[Delivery]) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            await asyncio.gather(*(one.extend() for one in deliveries))

    # -- the start

    async def _start(self, runs: Sequence[Run]) -> list[Run]:
        """The runs whose start is in the log; the others were somebody else's, or poison."""
        events = [self._started(run) for run in runs]
        outcomes = await self._log.append_each(events)
        started: list[Run] = []
        for run, new, outcome in zip(runs, events, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                if await self._start_again(run):
                    started.append(run)
                continue
            self._begin(run, new, outcome)
            started.append(run)
        return started

    def _started(self, run: Run) -> NewEvent:
        item = run.item
        version = self._outcomes.version(item.processor)
        command = c.StartFile(
            worker=self._name, processor=item.processor, processor_version=version,
            provider=lane_provider(item.lane),
        )  # fmt: skip
        (event,) = file_aggregate.decide(run.state, command)
        return self._new(run, event)

    def _begin(self, run: Run, new: NewEvent, seq: int) -> None:
        run.advance(new.event, seq)
        run.started_at = self._clock()
        if self._outcomes.quick(run.item):
            return  # thousands a second, of no interest one by one
        _log.info(
            "processing started", batch=run.item.batch_id, file=run.item.file_id, attempt=run.item.attempt,
            attempts_max=self._settings.attempts_max, lane=self._lane, slot=f"{run.slot} of {self._limit}",
        )  # fmt: skip

    async def _start_again(self, run: Run) -> bool:
        """The file is not as it was when it was released: read what it is now, and decide on that.

        State and version come from one read, so that neither can be older than the other.
        """
        last = await self._log.last(run.subject)
        if last is None or getattr(last.event, "attempt", 0) != run.item.attempt:
            await run.delivery.done()
            return False
        run.state = file_aggregate.evolve(run.state, last.event)
        run.seq = last.seq
        if run.state.status == "processing" and run.state.deliveries >= self._settings.deliveries_max:
            await self._fail_poison(run)
            return False
        try:
            new = self._started(run)
        except StateForbids:
            await run.delivery.done()
            return False
        outcome = (await self._log.append_each([new]))[0]
        if isinstance(outcome, Conflict):
            return False
        self._begin(run, new, outcome)
        _log.info(
            "started a file again whose worker was lost",
            batch=run.item.batch_id, file=run.item.file_id, delivery=run.state.deliveries,
        )  # fmt: skip
        return True

    async def _fail_poison(self, run: Run) -> None:
        error = FileError(
            code="worker_lost",
            message=f"The worker was lost {run.state.deliveries} times while it processed this file.",
        )
        await self._finish([(run, c.FailFile(error=error, quarantined=True))])

    # -- the outcome

    async def _finish(self, results: Sequence[tuple[Run, c.Command]]) -> None:
        """Writes the outcomes; where another event came first, that one stands and ours is dropped."""
        events = [self._new(run, file_aggregate.decide(run.state, command)[0]) for run, command in results]
        outcomes = await self._log.append_each(events)
        for (run, command), new, outcome in zip(results, events, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                _log.info("another outcome came first", batch=run.item.batch_id, file=run.item.file_id)
            else:
                run.advance(new.event, outcome)
                await self._outcomes.keep(run.item, command)
            await run.delivery.done()

    def _new(self, run: Run, event: Event) -> NewEvent:
        return new_event(
            run.subject, event, expected_seq=run.seq, time_ms=int(self._clock() * 1000), origin=self._origin
        )
