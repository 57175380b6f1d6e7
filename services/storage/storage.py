"""The storage service: result documents of settled batches, and sources into the archive.

A fold of the log (``tanda.domain.settling``) says which batch has something due; each such batch is
advanced by one step at a time, a few batches at once::

    complete ──▶ archive ──▶ delete originals ──▶ forget

After a step that wrote to the log nothing more is decided about that batch until the fold has seen
its own event. Every step may be repeated, and two processes may do the same step at once: the log
takes one of their events, and what they put into the object store is the same.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import structlog

from services.storage.archive import EVENTS_MAX, Archive, event_sizes, in_turns
from tanda.contracts import commands as c
from tanda.contracts.envelope import FOLLOWS, Origin, Recorded, new_event
from tanda.contracts.subjects import batch_all, batch_subject
from tanda.domain.batch import BatchState, decide
from tanda.domain.errors import Conflict, Refusal, Unavailable
from tanda.domain.settling import Settling, SettlingBatch
from tanda.follower import Follower, Snapshots
from tanda.ports import Blobs, Log
from tanda.results import Drafts, ResultLost, ResultsCache
from tanda.settings import Settings

#: Batches that are completed at once, and beside them batches that something else is done for.
COMPLETING_MAX = 8
OTHERS_MAX = 4
#: Of a running batch, sources are archived when so many are due, or this long after the last time.
ARCHIVE_FILES = 1_000
ARCHIVE_EVERY_S = 5.0
#: Between two looks at a running batch of which very many are due, since packs may hold them back.
ARCHIVE_PAUSE_S = 1.0
#: A server that does not answer is asked again after this long, and then less and less often.
BACKOFF_S = 0.2
BACKOFF_MAX_S = 5.0
#: What only a person can mend is tried again this often.
ALARM_EVERY_S = 30.0

BatchKey = tuple[str, str]

_log = structlog.get_logger("tanda.storage")


class _Fold:
    """``Settling`` as the follower drives it; remembers which batches have news."""

    def __init__(self) -> None:
        self.settling = Settling()
        self.drafts = Drafts()
        self.touched: set[BatchKey] = set()
        self.news = asyncio.Event()

    def dump(self) -> bytes:
        return self.settling.dump()

    def restore(self, data: bytes) -> None:
        self.settling = Settling.restore(data)
        self.touched = {*self.settling.batches, *self.settling.unknown, *self.settling.leavings}

    def apply(self, records: Sequence[Recorded]) -> None:
        self.touched |= self.settling.apply(records)
        self.drafts.apply(records)
        self.news.set()


class Storage:
    """One process of the service; ``run`` never ends by itself."""

    def __init__(
        self, *, log: Log, blobs: Blobs, settings: Settings, spool: Path, name: str,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._log = log
        self._blobs = blobs
        self._settings = settings
        self._clock = clock
        self._origin = Origin(source=f"/storage/{name}")
        self._results = ResultsCache(log, blobs, spool)
        self._archive = Archive(blobs)
        self._fold = _Fold()
        self._follower = Follower(log, Snapshots(blobs, "storage"), self._fold, settings)
        #: Batches to be completed, in the order in which that was known: what somebody waits for.
        self._ends: dict[BatchKey, None] = {}
        #: Batches to look at, in the order in which they had news, and when at the earliest.
        self._due: dict[BatchKey, float] = {}
        self._steps: dict[BatchKey, asyncio.Task[None]] = {}
        #: Those of the steps that complete a batch.
        self._completing: set[BatchKey] = set()
        #: The position on a batch's subject that the fold has to reach first.
        self._awaited: dict[BatchKey, int] = {}
        self._archived_at: dict[BatchKey, float] = {}
        self._failures: dict[BatchKey, int] = {}

    @property
    def position(self) -> int:
        """How far in the log it has come."""
        return self._follower.position

    @property
    def unfinished(self) -> int:
        """Batches that are not completed and archived yet, or have left something to delete."""
        settling = self._fold.settling
        return len(settling.batches) + len(settling.unknown) + len(settling.leavings)

    @property
    def idle(self) -> bool:
        """Nothing is due and nothing is being done: for those who wait for that."""
        at_rest = not (self._ends or self._due or self._steps or self._fold.touched)
        return self._follower.caught_up.is_set() and at_rest

    async def run(self) -> None:
        """Raises LogDamaged; cancelled, it stops at once, and what it was at is done again later."""
        following = asyncio.create_task(self._follower.run())
        deciding = asyncio.create_task(self._decide_for_ever())
        try:
            await asyncio.wait([following, deciding], return_when=asyncio.FIRST_COMPLETED)
            for task in (following, deciding):
                if task.done():
                    task.result()
        finally:
            tasks = [following, deciding, *self._steps.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- which batch is next

    async def _decide_for_ever(self) -> None:
        # What is settled by now needs no step: nothing is decided on the past.
        await self._follower.caught_up.wait()
        while True:
            self._fold.news.clear()
            self._take_news()
            self._start_steps()
            await self._wait()

    def _take_news(self) -> None:
        touched, self._fold.touched = self._fold.touched, set()
        for key in touched:
            if self._failures.get(key):
                continue
            batch = self._fold.settling.batches.get(key)
            if batch is not None and batch.complete_due:
                self._ends[key] = None
            else:
                self._due[key] = 0.0

    def _start_steps(self) -> None:
        for key in list(self._ends):
            if len(self._completing) == COMPLETING_MAX:
                break
            if key not in self._steps:
                del self._ends[key]
                self._completing.add(key)
                self._start_step(key)
        now = time.monotonic()
        for key, at in list(self._due.items()):
            if not self._has_room:
                return
            if at <= now and key not in self._steps:
                del self._due[key]
                self._start_step(key)

    @property
    def _has_room(self) -> bool:
        """For a step that completes nothing."""
        return len(self._steps) - len(self._completing) < OTHERS_MAX

    def _start_step(self, key: BatchKey) -> None:
        self._steps[key] = asyncio.create_task(self._step(key))

    async def _wait(self) -> None:
        news = asyncio.create_task(self._fold.news.wait())
        timeout = None
        if self._has_room:  # else a step's end comes first, however many batches wait
            later = [at for key, at in self._due.items() if key not in self._steps]
            timeout = max(0.0, min(later) - time.monotonic()) if later else None
        try:
            await asyncio.wait({news, *self._steps.values()}, timeout=timeout,
                               return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        finally:
            news.cancel()
        for key, task in list(self._steps.items()):
            if task.done():
                del self._steps[key]
                self._completing.discard(key)
                task.result()

    # -- one step of one batch

    async def _step(self, key: BatchKey) -> None:
        """Does the next thing for a batch, and sees to it that there is a next time where one is due."""
        try:
            again_s = await self._advance(key)
            self._failures.pop(key, None)
        except Conflict as conflict:
            _log.debug("Another writer was first; deciding again.", batch=key[1], error=str(conflict))
            self._awaited[key] = conflict.expected_seq + 1
            # While a further try was due, news was passed over: it may have been the other writer's event.
            again_s = 0.0 if self._failures.pop(key, 0) else None
        except Unavailable as error:
            again_s = self._backoff_s(key)
            _log.warning("A server does not answer; the batch is tried again.",
                         batch=key[1], error=str(error), again_s=again_s)  # fmt: skip
        except (ResultLost, Refusal) as error:
            again_s = ALARM_EVERY_S
            _log.error("A batch cannot be completed.", batch=key[1], error=str(error))
        if again_s is not None:
            self._due.setdefault(key, time.monotonic() + again_s)

    def _backoff_s(self, key: BatchKey) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return min(BACKOFF_S * 2 ** min(failures - 1, 10), BACKOFF_MAX_S)

    async def _advance(self, key: BatchKey) -> float | None:
        """One step. When to look again without news: at once, in a while, or not (None)."""
        if key in self._fold.settling.unknown:
            await self._adopt(key)
            return 0.0
        if key in self._fold.settling.leavings:
            await self._clear_up(key)
            return None
        batch = self._fold.settling.batches.get(key)
        if batch is None:
            self._forget(key)
            return None
        if batch.subject_seq < self._awaited.get(key, 0):
            return None
        if batch.complete_due:
            await self._complete(key, batch)
            return None
        if batch.deletable_news:
            await self._delete(batch)
            return 0.0
        wait_s = self._archive_wait_s(key, batch)
        if wait_s == 0.0:
            return await self._archive_sources(key, batch)
        if batch.is_done:
            self._forget(key)
        return wait_s

    async def _adopt(self, key: BatchKey) -> None:
        """A batch that was forgotten has news: a retry, or an operator's override."""
        tenant, batch_id = key
        records: list[Recorded] = []
        async for chunk in self._log.read(batch_all(tenant, batch_id)):
            records += chunk
        self._fold.settling.adopt(tenant, batch_id, records)

    def _forget(self, key: BatchKey) -> None:
        self._fold.settling.forget(key)
        self._follower.changed()
        for book in (self._awaited, self._archived_at, self._failures):
            book.pop(key, None)

    # -- completing

    async def _complete(self, key: BatchKey, batch: SettlingBatch) -> None:
        """The document, durable, then the event. What changes meanwhile makes the append a Conflict."""
        state, through_seq, expected_seq = batch.state, batch.through_seq, batch.subject_seq
        draft = self._fold.drafts.take(key, through_seq)
        built = await self._results.store(*key, state.version + 1, through_seq, draft)
        command = c.CompleteBatch(
            through_seq=through_seq, results=built.ref, counts=built.counts, eta_ratio=batch.pace.eta_ratio
        )
        await self._blobs.barrier()
        await self._append(key, state, [command], expected_seq, cause=through_seq)
        _log.info("A batch is complete.", batch=batch.batch_id, tenant=batch.tenant,
                  version=built.version, bytes=built.bytes, counts=built.counts)  # fmt: skip

    # -- archiving

    def _archive_wait_s(self, key: BatchKey, batch: SettlingBatch) -> float | None:
        """0 where sources are to be archived now, seconds until then, None where there is nothing."""
        if not batch.unarchived or not batch.state.sealed:
            return None
        if batch.is_settled:
            return 0.0
        pause_s = ARCHIVE_PAUSE_S if batch.unarchived >= ARCHIVE_FILES else ARCHIVE_EVERY_S
        now = time.monotonic()
        return max(0.0, self._archived_at.setdefault(key, now) + pause_s - now)

    async def _archive_sources(self, key: BatchKey, batch: SettlingBatch) -> float | None:
        """Copies, then the events; the deletion follows when the fold has seen them."""
        self._archived_at[key] = time.monotonic()
        state, seq, files = batch.state, batch.subject_seq, 0
        for objects in in_turns(batch.archivable()):
            archived = await self._archive.copy(objects)
            portions = event_sizes(archived)
            while commands := [c.ArchiveSources(sources=one) for one in islice(portions, EVENTS_MAX)]:
                seq = await self._append(key, state, commands, seq)
            files += len(archived)
        if not files:
            return ALARM_EVERY_S if batch.is_settled else None
        _log.debug("Sources are archived.", batch=batch.batch_id, files=files)
        return None

    async def _delete(self, batch: SettlingBatch) -> None:
        batch.deletable_news = False
        try:
            batch.deleted.update(await self._archive.delete(batch.deletable()))
        except BaseException:
            batch.deletable_news = True
            raise

    async def _clear_up(self, key: BatchKey) -> None:
        """Deletes what a batch that is over has left; a retry that comes meanwhile holds what it needs."""
        await self._archive.delete(self._fold.settling.leavings[key])
        self._fold.settling.leavings.pop(key, None)
        self._forget(key)

    # -- the log

    async def _append(
        self,
        key: BatchKey,
        state: BatchState,
        commands: Sequence[c.Command],
        expected_seq: int,
        cause: int | None = None,
    ) -> int:
        """All of their events or none, and the position of the last one."""
        origin = msgspec.structs.replace(self._origin, cause=cause)
        time_ms = int(self._clock() * 1000)
        events = [event for command in commands for event in decide(state, command)]
        new = [
            new_event(
                batch_subject(*key), event, expected_seq=FOLLOWS if place else expected_seq,
                time_ms=time_ms, origin=origin,
            )
            for place, event in enumerate(events)
        ]  # fmt: skip
        seq = (await self._log.append(new))[-1]
        self._awaited[key] = seq
        return seq
