"""The scheduler's shell: one leader among the workers folds the log and keeps the work queue supplied.

The decisions are ``tanda.domain.scheduling``; here they meet the clock and the servers. Losing the lease,
a crash or two leaders at once cost nothing: the work queue holds a file once, the log takes one
outcome, and whatever a lost queue has forgotten is released again by the sweep.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import NewEvent, Origin, Recorded, new_event
from tanda.contracts.results import FileError
from tanda.contracts.subjects import batch_subject, file_subject
from tanda.contracts.times import rfc3339
from tanda.contracts.work import LANE_DEFAULT, LANE_SMALL, SchedulerStatus, provider_lane
from tanda.domain import batch as batch_aggregate
from tanda.domain import file as file_aggregate
from tanda.domain.errors import StateForbids, Unavailable
from tanda.domain.scheduling.due import Due
from tanda.domain.scheduling.fair import FairScheduler
from tanda.domain.scheduling.status import status_of
from tanda.follower import Follower, Snapshots
from tanda.ports import Blobs, Board, Lease, Log, Timers, WorkQueue
from tanda.settings import Settings, providers

_log = structlog.get_logger("tanda.scheduler")

LEASE_NAME = "scheduler"
#: A third of the lease: two renewals may fail before another worker leads.
LEASE_RENEW_S = 1.5
#: What was released and not started after this time is put into the queue again. What was started is
#: given the longest that its work and its lease may take.
RELEASED_AGE_S = 5.0
SWEEP_EVERY_S = 1.0
#: What it tells of itself goes out at once where it has changed, and else this often (a third of the time
#: after which it is forgotten).
TELL_EVERY_S = 5.0
#: How long the release waits for news at most; timers and due files are looked at this often.
TICK_S = 0.5
#: A provider's lane holds so many times what may run at once: the next call waits in the queue already.
WINDOW_CALLS = 2
#: Released beyond as many as are worked on, so that a runner that is free finds work at once.
AHEAD_FILES = 8
#: A batch of no more files has a lane without large ones.
SMALL_FILES = 16
TROUBLE_WAIT_S = 0.5


class Fold:
    """``FairScheduler`` as the follower drives it; every chunk of news wakes the release."""

    def __init__(
        self, lanes: Mapping[str, str], providers: Collection[str], provider_limit: int, small_files: int = 0
    ) -> None:
        self._given = (lanes, providers, provider_limit, small_files)
        self.fair = FairScheduler(*self._given)
        self.news = asyncio.Event()

    def dump(self) -> bytes:
        return self.fair.dump()

    def restore(self, data: bytes) -> None:
        self.fair = FairScheduler.restore(data, *self._given)

    def apply(self, records: Sequence[Recorded]) -> None:
        self.fair.apply_many(records)
        self.news.set()


class Scheduler:
    """Leads where it holds the lease; ``run`` never ends."""

    def __init__(
        self, *, log: Log, work: WorkQueue, timers: Timers, lease: Lease, board: Board, blobs: Blobs,
        settings: Settings, name: str, lanes: Mapping[str, str], small_files: int = SMALL_FILES,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._log = log
        self._work = work
        self._timers = timers
        self._lease = lease
        self._board = board
        self._blobs = blobs
        self._settings = settings
        self._name = name
        self._lanes = lanes
        self._small_files = small_files
        self._providers = providers(settings)
        self._clock = clock
        self._origin = Origin(source=f"/scheduler/{name}")
        #: What the board was last told, and when.
        self._said: SchedulerStatus | None = None
        self._said_at = 0.0
        #: What each provider's lane was last told: calls at once, and its brake's end.
        self._told: dict[str, tuple[int, int]] = {}

    async def run(self) -> None:
        """Waits for the lease, leads while it holds it, and begins again."""
        while True:
            if await self._holds():
                _log.info("this worker schedules", worker=self._name)
                await self._lead_while_held()
                _log.info("this worker schedules no more", worker=self._name)
            await asyncio.sleep(LEASE_RENEW_S)

    async def release_lease(self) -> None:
        """Lets another worker lead at once, instead of when the lease has run out."""
        with suppress(Unavailable):
            await self._lease.release(LEASE_NAME, self._name)

    async def _holds(self) -> bool:
        try:
            return await self._lease.hold(LEASE_NAME, self._name)
        except Unavailable as error:
            _log.debug("the lease does not answer", error=str(error))
            return False

    async def _lead_while_held(self) -> None:
        lead = asyncio.create_task(self.lead())
        try:
            while not lead.done():
                await asyncio.wait([lead], timeout=LEASE_RENEW_S)
                if not await self._holds():
                    break
        finally:
            lead.cancel()
            with suppress(asyncio.CancelledError):
                await lead

    async def lead(self) -> None:
        """Folds the log and releases; ends only by an error or by being cancelled."""
        fold = Fold(self._lanes, self._providers, self._settings.provider_limit, self._small_files)
        follower = Follower(self._log, Snapshots(self._blobs, "scheduler"), fold, self._settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follower.run())
            tasks.create_task(self._release_for_ever(fold, follower.caught_up))
            tasks.create_task(self._wake_by_timers(fold))

    async def _wake_by_timers(self, fold: Fold) -> None:
        """A timer that is due only wakes the release: what is due is in the fold itself."""
        while True:
            try:
                if await self._timers.due(TROUBLE_WAIT_S * 10):
                    fold.news.set()
            except Unavailable:
                await asyncio.sleep(TROUBLE_WAIT_S)

    async def _release_for_ever(self, fold: Fold, caught_up: asyncio.Event) -> None:
        """Nothing is released before the fold has caught up: what is settled by now is not work."""
        await caught_up.wait()
        # A leader that begins knows neither what another has released nor what the queue has lost.
        await self._take_over(fold.fair)
        swept_at = self._clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):  # unlike wait_for in 3.11, it swallows no cancellation
                    await fold.news.wait()
            fold.news.clear()
            try:
                await self.release(fold.fair)
                if self._clock() - swept_at >= SWEEP_EVERY_S:
                    swept_at = self._clock()
                    self._told.clear()
                    await self._sweep(fold.fair)
                    await self._tell_board(fold.fair)
            except Unavailable as error:
                _log.warning("a server does not answer, releasing later", error=str(error))
                await asyncio.sleep(TROUBLE_WAIT_S)

    async def release(self, fair: FairScheduler) -> None:
        """One round: fill each lane's window, set timers, do what has come due."""
        now_ms = int(self._clock() * 1000)
        for tenant, batch_id in fair.withdrawn():
            await self._work.drop(tenant, batch_id)
        await self._part(fair, now_ms)
        for lane in self._all_lanes():
            await self._tell_lane(fair, lane, now_ms)
            room = self._window(fair, lane) - fair.in_flight(lane)
            if room > 0 and (items := fair.release(now_ms, room, lane)):
                await self._work.put(items)
        for timer, at in fair.timers():
            await self._timers.set(timer, at)
        if due := fair.due(now_ms):
            await self._do(due, now_ms)

    async def _part(self, fair: FairScheduler, now_ms: int) -> None:
        """Groups whose files cannot go as one; where another event came first, the fold will see it."""
        events = [
            new_event(
                file_subject(one.tenant, one.batch_id, one.group), e.FilesParted(),
                expected_seq=one.seq, time_ms=now_ms, origin=self._origin,
            )
            for one in fair.partings(now_ms)
        ]  # fmt: skip
        if events:
            await self._log.append_each(events)

    def _all_lanes(self) -> list[str]:
        own = [LANE_SMALL, LANE_DEFAULT, *self._lanes.values()]
        return list(dict.fromkeys([*own, *(provider_lane(one) for one in sorted(self._providers))]))

    def _window(self, fair: FairScheduler, lane: str) -> int:
        """Released and not settled: a small batch waits for what was released before it, so no more than
        keeps the runners busy. Quick work goes in large groups, the rest as much again as is worked on.
        """
        allowed = fair.allowed(lane)
        if allowed is not None:
            return WINDOW_CALLS * allowed
        if lane in self._lanes.values():
            return self._settings.window
        return min(self._settings.window, 2 * fair.started(lane) + AHEAD_FILES)

    async def _tell_lane(self, fair: FairScheduler, lane: str, now_ms: int) -> None:
        """Sees that the queue itself holds a provider's limit and brake, whoever takes from it."""
        allowed = fair.allowed(lane)
        if allowed is None or self._told.get(lane) == (allowed, fair.brake(lane).until_ms):
            return
        until_ms = fair.brake(lane).until_ms
        await self._work.limit(lane, allowed)
        if until_ms > now_ms:
            await self._work.brake(lane, rfc3339(until_ms))
        self._told[lane] = (allowed, until_ms)

    async def _take_over(self, fair: FairScheduler) -> None:
        while True:
            try:
                now_ms = int(self._clock() * 1000)
                fair.adopt(await self._work.present(), now_ms)
                return await self._work.put(fair.outstanding(now_ms, 0))
            except Unavailable:
                await asyncio.sleep(TROUBLE_WAIT_S)

    async def _tell_board(self, fair: FairScheduler) -> None:
        now = self._clock()
        status = status_of(fair, self._all_lanes(), leader=self._name, now_ms=int(now * 1000))
        same = self._said is not None and msgspec.structs.replace(status, at=self._said.at) == self._said
        if not same or now - self._said_at >= TELL_EVERY_S:
            await self._board.tell(status)
            self._said, self._said_at = status, now

    async def _sweep(self, fair: FairScheduler) -> None:
        """Puts back what the queue may have lost; what it still has stays there once."""
        started_age_s = self._settings.process_wall_s + self._settings.lease_s
        items = fair.outstanding(
            int(self._clock() * 1000), int(RELEASED_AGE_S * 1000), int(started_age_s * 1000)
        )
        if items:
            _log.debug("releasing again what nobody has reported on", files=len(items))
            await self._work.put(items)

    async def _do(self, due: Sequence[Due], now_ms: int) -> None:
        """Retries, cancellations, deadlines and expiries, each by the aggregate's own decision."""
        events: list[NewEvent] = []
        for one in due:
            try:
                events += await self._events_of(one, now_ms)
            except StateForbids as refusal:
                _log.debug("what was due is no longer possible", file=one.file_id, reason=refusal.detail)
        if events:
            await self._log.append_each(events)

    async def _events_of(self, due: Due, now_ms: int) -> list[NewEvent]:
        if due.file_id is None or due.state is None:
            return await self._expire(due, now_ms)
        (event,) = file_aggregate.decide(due.state, _command(due))
        subject = file_subject(due.tenant, due.batch_id, due.file_id)
        return [
            new_event(subject, event, expected_seq=due.seq, time_ms=now_ms, origin=self._origin)
        ]  # fmt: skip

    async def _expire(self, due: Due, now_ms: int) -> list[NewEvent]:
        subject = batch_subject(due.tenant, due.batch_id)
        state, seq = batch_aggregate.initial(), 0
        async for chunk in self._log.read(subject):
            for record in chunk:
                state, seq = batch_aggregate.evolve(state, record.event), record.seq
        (event,) = batch_aggregate.decide(state, c.CancelBatch(reason=f"expired at {rfc3339(now_ms)}"))
        return [new_event(subject, event, expected_seq=seq, time_ms=now_ms, origin=self._origin)]


def _command(due: Due) -> c.Command:
    match due.kind:
        case "retry":
            return c.RequeueFile()
        case "cancel":
            return c.CancelFile()
        case _:
            error = FileError(code="confirmation_missing", message="The confirmation did not come in time.")
            return c.FailFile(error=error)
