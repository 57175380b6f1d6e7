"""Workers over the memory adapters, as many as a test wants."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.worker.outcomes import Outcomes
from services.worker.runner import Runner
from services.worker.sandbox.sandbox import Sandbox
from services.worker.scheduler import Scheduler
from services.worker.sharing import Sharing
from tanda.adapters.memory import MemoryBoard, MemoryLease, MemoryLog, MemoryTimers, MemoryWork
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.subjects import batch_all
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK
from tanda.settings import Settings
from tests.batch_story import BatchStory

DEADLINE_S = 30
LEASE_S = 0.4


@dataclass
class House:
    """Everything a worker needs, in memory, and as many workers over it as a test wants."""

    sandbox: Sandbox
    spool: Path
    settings: Settings = field(default_factory=lambda: Settings(lease_s=LEASE_S, slots=2, deliveries_max=3))
    log: MemoryLog = field(default_factory=MemoryLog)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    work: MemoryWork = field(default_factory=lambda: MemoryWork(LEASE_S))
    timers: MemoryTimers = field(default_factory=MemoryTimers)
    lease: MemoryLease = field(default_factory=MemoryLease)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    #: Batches that have the small lane; the others' lanes are looked at one by one.
    small_files: int = 0

    def scheduler(self, name: str = "a") -> None:
        scheduler = Scheduler(
            board=MemoryBoard(),
            log=self.log, work=self.work, timers=self.timers, lease=self.lease, blobs=self.blobs,
            settings=self.settings, name=name, lanes={"noop": LANE_QUICK}, small_files=self.small_files,
        )  # fmt: skip
        self.tasks.append(asyncio.create_task(scheduler.run()))

    def runner(self, lane: str = LANE_QUICK, name: str = "a") -> Runner:
        outcomes = Outcomes(
            blobs=self.blobs, sandbox=self.sandbox, settings=self.settings, spool=self.spool,
            entropy=lambda: 0.5,
        )  # fmt: skip
        runner = Runner(
            log=self.log, work=self.work, outcomes=outcomes, settings=self.settings, name=name,
            lane=lane, limit=2, sharing=Sharing(lambda *_: 4) if lane == LANE_DEFAULT else None,
        )  # fmt: skip
        self.tasks.append(asyncio.create_task(runner.run()))
        return runner

    async def events(self, story: BatchStory) -> list[Recorded]:
        subject = batch_all(story.tenant, story.batch_id)
        return [record async for chunk in self.log.read(subject) for record in chunk]

    async def idle(self) -> None:
        """Until the work queue is rid of everything."""
        deadline = time.monotonic() + DEADLINE_S
        while await self.work.present():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async def until(self, story: BatchStory, done: Callable[[list[Recorded]], bool]) -> list[Recorded]:
        """Follows the log until a batch's events are as they should be."""
        deadline = time.monotonic() + DEADLINE_S
        while not done(events := await self.events(story)):
            assert time.monotonic() < deadline, [record.name for record in events]
            assert not any(task.done() for task in self.tasks), "a task of the worker ended"
            await asyncio.sleep(0.01)
        return events


def names(events: list[Recorded], kind: type[e.Event]) -> list[str]:
    return [str(record.file_id) for record in events if isinstance(record.event, kind)]


def completed(count: int) -> Callable[[list[Recorded]], bool]:
    return lambda events: len(names(events, e.FileCompleted)) >= count
