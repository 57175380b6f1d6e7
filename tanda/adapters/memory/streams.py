"""The log, the work queue, the timers, leases and signals in this process's memory.

They keep the same promises as the real ones, and the same conformance suite says so. For tests,
for trying an integration without a server, and for simulations.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from tanda.contracts.codec import encode_event
from tanda.contracts.envelope import FOLLOWS, NewEvent, Recorded, recorded
from tanda.contracts.subjects import work_subject
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.contracts.work import Presence, SchedulerStatus, Timer, WorkItem, bundles, work_token
from tanda.domain.errors import Conflict, LogDamaged
from tanda.ports import Unread

READ_CHUNK = 1_000
LEASE_S = 5.0


class MemoryLog:
    """``ports.Log`` as a list."""

    def __init__(self) -> None:
        self._events: list[Recorded] = []
        self._last: dict[str, int] = {}
        self._ids: dict[str, int] = {}
        self._grown = asyncio.Event()

    async def append(self, events: Sequence[NewEvent], staged: str = "") -> list[int]:
        if all(event.id in self._ids for event in events):
            return [self._ids[event.id] for event in events]
        last: dict[str, int] = {}
        for seq, event in enumerate(events, len(self._events) + 1):
            if event.expected_seq not in (FOLLOWS, last.get(event.subject, self._last.get(event.subject, 0))):
                raise Conflict(event.subject, event.expected_seq)
            last[event.subject] = seq
        seqs = [self._write(event) for event in events]
        self._grown.set()
        self._grown = asyncio.Event()
        return seqs

    async def stage(self, events: Sequence[NewEvent]) -> str:
        return ""  # an append takes no time

    async def append_each(self, events: Sequence[NewEvent]) -> list[int | Conflict]:
        outcomes: list[int | Conflict] = []
        for event in events:
            try:
                outcomes += await self.append([event])
            except Conflict as conflict:
                outcomes.append(conflict)
        return outcomes

    def _write(self, event: NewEvent) -> int:
        seq = len(self._events) + 1
        self._events.append(recorded(event, seq))
        self._last[event.subject] = seq
        self._ids[event.id] = seq
        return seq

    async def last(self, subject: str) -> Recorded | None:
        return await self.get(self._last.get(subject, 0))

    async def get(self, seq: int) -> Recorded | None:
        return self._events[seq - 1] if 0 < seq <= len(self._events) else None

    async def position(self) -> int:
        return len(self._events)

    async def read(
        self, subject: str = "ev.>", *, after: int = 0, through: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        matches = _matcher(subject)
        end = len(self._events) if through is None else min(through, len(self._events))
        found = [record for record in self._events[after:end] if matches(record.subject)]
        for start in range(0, len(found), READ_CHUNK):
            yield found[start : start + READ_CHUNK]

    async def follow(
        self, after: int, anchor: str | None = None, *, through: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        self._check_anchor(after, anchor)
        while through is None or after < through:
            grown = self._grown
            chunk = self._events[after : after + READ_CHUNK][: None if through is None else through - after]
            if chunk:
                after = chunk[-1].seq
                yield chunk
            else:
                await grown.wait()

    async def watch(self, after: int, anchor: str | None = None) -> AsyncIterator[list[Unread]]:
        async for chunk in self.follow(after, anchor):
            yield [_unread(one) for one in chunk]

    def _check_anchor(self, after: int, anchor: str | None) -> None:
        if after > len(self._events):
            raise LogDamaged(f"the log ends at {len(self._events)}, but {after} had been seen")
        if after and anchor is not None and self._events[after - 1].id != anchor:
            raise LogDamaged(f"the event at {after} is not the one that this reader had seen there")


def _unread(record: Recorded) -> Unread:
    size = len(encode_event(record.event))
    return Unread(record.seq, record.id, record.tenant, record.batch_id, size, lambda: record)


#: When an item is free that nobody has had yet.
_NEVER_LENT = 0.0


class MemoryDelivery:
    """``ports.Delivery``."""

    def __init__(self, queue: "MemoryWork", subject: str, items: list[WorkItem], *, is_first: bool) -> None:
        self._queue = queue
        self._subject = subject
        self.items = items
        self.item = items[0]
        self.is_first = is_first

    async def done(self) -> None:
        self._queue.remove(self._subject)

    async def extend(self) -> None:
        self._queue.lend(self._subject)

    async def give_back(self, delay_s: float) -> None:
        self._queue.lend(self._subject, delay_s)


class MemoryWork:
    """``ports.WorkQueue``: items by subject, each free or lent until a moment."""

    def __init__(
        self,
        lease_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._limits: dict[str, int] = {}
        #: By lane, in seconds since the epoch.
        self._brakes: dict[str, float] = {}
        self._items: OrderedDict[str, list[WorkItem]] = OrderedDict()
        self._free_at: dict[str, float] = {}
        self._changed = asyncio.Event()

    async def put(self, items: Sequence[WorkItem]) -> None:
        for bundle in bundles(items):
            item = bundle[0]
            subject = work_subject(item.lane, item.tenant, item.batch_id, work_token(item))
            if subject not in self._items:
                self._items[subject] = bundle
                self._free_at[subject] = _NEVER_LENT
        self._changed.set()

    async def take(self, lane: str, limit: int, wait_s: float) -> list[MemoryDelivery]:
        deadline = self._clock() + wait_s
        while True:
            free = self._free(lane)[:limit]
            if free:
                return [self._lent(subject) for subject in free]
            wake_s = min(min([deadline, *self._lent_until(lane)]) - self._clock(), self._braked_s(lane))
            if self._clock() >= deadline:
                return []
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wake_s, 0.0)):
                    await self._changed.wait()

    def _lent(self, subject: str) -> MemoryDelivery:
        is_first = self._free_at[subject] == _NEVER_LENT
        self.lend(subject)
        return MemoryDelivery(self, subject, self._items[subject], is_first=is_first)

    async def drop(self, tenant: str, batch_id: str) -> None:
        now = self._clock()
        for subject in [one for one in self._items if f".{tenant}.{batch_id}." in one]:
            if self._free_at[subject] <= now:
                self.remove(subject)

    async def present(self) -> list[tuple[str, str, str]]:
        return [(one[0].tenant, one[0].batch_id, work_token(one[0])) for one in self._items.values()]

    async def limit(self, lane: str, at_once: int) -> None:
        self._limits[lane] = at_once
        self._changed.set()

    async def brake(self, lane: str, until: str) -> None:
        self._brakes[lane] = max(self._brakes.get(lane, 0.0), epoch_ms(until) / 1000)

    async def braked_until(self, lane: str) -> str | None:
        return rfc3339(round(self._brakes[lane] * 1000)) if lane in self._brakes else None

    def _braked_s(self, lane: str) -> float:
        """Seconds until a lane's brake ends; for ever where there is none to wait for."""
        left_s = self._brakes.get(lane, 0.0) - self._wall_clock()
        return left_s if left_s > 0 else float("inf")

    def lend(self, subject: str, lease_s: float | None = None) -> None:
        """Keeps an item from others for a lease."""
        if subject in self._items:
            self._free_at[subject] = self._clock() + (self._lease_s if lease_s is None else lease_s)
            self._changed.set()

    def remove(self, subject: str) -> None:
        """Takes an item off the queue."""
        self._items.pop(subject, None)
        self._free_at.pop(subject, None)
        self._changed.set()

    def _free(self, lane: str) -> list[str]:
        now = self._clock()
        mine = [one for one in self._items if one.startswith(f"work.{lane}.")]
        free = [one for one in mine if self._free_at[one] <= now]
        if self._braked_s(lane) != float("inf"):
            return []
        room = self._limits.get(lane, len(mine)) - (len(mine) - len(free))
        return free[: max(room, 0)]

    def _lent_until(self, lane: str) -> list[float]:
        return [at for one, at in self._free_at.items() if one.startswith(f"work.{lane}.")]


class MemoryTimers:
    """``ports.Timers`` over the wall clock."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._timers: dict[tuple[str, str, str | None], tuple[float, Timer]] = {}
        self._changed = asyncio.Event()

    async def set(self, timer: Timer, at: str) -> None:
        key = (timer.tenant, timer.batch_id, timer.file_id)
        self._timers[key] = (epoch_ms(at) / 1000, timer)
        self._changed.set()

    async def due(self, wait_s: float) -> list[Timer]:
        deadline = self._clock() + wait_s
        while True:
            now = self._clock()
            due = [key for key, (at, _) in self._timers.items() if at <= now]
            if due or now >= deadline:
                return [self._timers.pop(key)[1] for key in due]
            wake = min([deadline, *(at for at, _ in self._timers.values())])
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wake - now, 0.0)):
                    await self._changed.wait()


class MemoryLease:
    """``ports.Lease``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    async def hold(self, name: str, holder: str) -> bool:
        now = self._clock()
        current, until = self._held.get(name, (holder, 0.0))
        if current != holder and until > now:
            return False
        self._held[name] = (holder, now + LEASE_S)
        return True

    async def release(self, name: str, holder: str) -> None:
        if self._held.get(name, ("", 0.0))[0] == holder:
            del self._held[name]


class MemoryBoard:
    """``ports.Board``; what was told is there for as long as the process is."""

    def __init__(self) -> None:
        self._scheduler: SchedulerStatus | None = None
        self._services: dict[tuple[str, str], Presence] = {}

    async def tell(self, status: SchedulerStatus) -> None:
        self._scheduler = status

    async def hello(self, presence: Presence) -> None:
        self._services[presence.name, presence.instance] = presence

    async def scheduler(self) -> SchedulerStatus | None:
        return self._scheduler

    async def services(self) -> list[Presence]:
        return [presence for _, presence in sorted(self._services.items())]


class MemorySignals:
    """``ports.Signals``: each listener has its own queue."""

    def __init__(self) -> None:
        self._listeners: list[asyncio.Queue[tuple[str, int]]] = []

    async def announce(self, view: str, seq: int) -> None:
        for queue in self._listeners:
            queue.put_nowait((view, seq))

    async def positions(self) -> AsyncIterator[tuple[str, int]]:
        queue: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)


def _matcher(subject: str) -> Callable[[str], bool]:
    """A subject filter as a test; ``*`` is one token, a final ``>`` is the rest."""
    if subject == "ev.>":
        return lambda _: True
    if subject.endswith(".>"):
        prefix = subject[:-1]
        if "*" not in prefix:
            return lambda one: one.startswith(prefix)
    pattern = subject.replace(">", "*")
    return lambda one: fnmatchcase(one, pattern)
