"""Keeps the live views up with the log: one reader, one transaction per chunk, no truth of its own.

It may be killed at any moment and run twice at once: rows and checkpoints move together or not at
all, and only from where this projector had seen them.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from services.projector.filling import Fill, build
from services.projector.reading import Chunk, ReadAhead, read_ahead
from services.projector.rebuild import rebuild_changed
from services.projector.store import Store, live_schema
from services.projector.version import version_of
from services.projector.views.view import View
from tanda.contracts.envelope import Recorded
from tanda.contracts.views import Checkpoint, Step
from tanda.domain.errors import Conflict, LogDamaged, Unavailable
from tanda.ports import Log, Signals
from tanda.settings import Settings

_log = structlog.get_logger("tanda.projector")

RETRY_WAIT_S_MAX = 1.0
#: The name under which the position of all views together is announced.
SIGNAL = "views"


class Projector:
    """The process, without its signals and its exit code (``__main__``)."""

    def __init__(
        self, log: Log, store: Store, signals: Signals, views: Mapping[str, View], settings: Settings,
        fill: Fill = build,
    ) -> None:  # fmt: skip
        self._log = log
        self._store = store
        self._signals = signals
        self._views = views
        self._settings = settings
        self._fill = fill
        self._seen: dict[str, Checkpoint] = {}
        self._wait_s = 0.0

    async def run(self) -> None:
        """For ever; LogDamaged ends it, a server that is away does not."""
        while True:
            try:
                await rebuild_changed(self._log, self._store, self._views, self._fill)
                await self._load()
                await self._follow()
            except Conflict as conflict:
                _log.info("another writer was faster, going on from where it came to", reason=str(conflict))
            except Unavailable as error:
                self._wait_s = min(max(self._wait_s * 2, 0.1), RETRY_WAIT_S_MAX)
                _log.warning("waiting for a server", reason=str(error), wait_s=self._wait_s)
                await asyncio.sleep(self._wait_s)

    @property
    def position(self) -> int:
        """What every view has reached, as this projector knows."""
        return min((checkpoint.seq for checkpoint in self._seen.values()), default=0)

    async def _load(self) -> None:
        """Reads the checkpoints; a view that is gone or of another version sends us back to the start."""
        seen: dict[str, Checkpoint] = {}
        for name, view in self._views.items():
            checkpoint = await self._store.checkpoint(name)
            if checkpoint is None or checkpoint.version != version_of(view):
                raise Conflict(live_schema(name), self._seen[name].seq if name in self._seen else 0)
            seen[name] = checkpoint
        self._seen = seen

    async def _follow(self) -> None:
        start = min(self._seen.values(), key=lambda checkpoint: checkpoint.seq)
        _log.info("following the log", after=start.seq)
        await self._signals.announce(SIGNAL, self.position)
        source = self._log.follow(start.seq, start.event_id)
        async with read_ahead(source, self._views, self._settings.projector_events_max) as ahead:
            while await self._advance(ahead):
                self._wait_s = 0.0

    async def _advance(self, ahead: ReadAhead) -> bool:
        """One chunk; False where the log's reader ended."""
        chunk = await ahead.take(self._settings.projector_gather_s)
        if chunk is not None:
            await self._commit(chunk)
        return chunk is not None

    async def _commit(self, chunk: Chunk) -> None:
        """Writes a chunk. Fenced by another projector that is ahead, its work is taken over as it is."""
        while steps := [step for name in self._views if (step := self._step(name, chunk))]:
            try:
                await self._store.commit(steps)
                self._seen |= {step.view: _reached(step) for step in steps}
            except Conflict:
                known = self.position
                await self._load()
                if self.position < known:
                    raise
        await self._signals.announce(SIGNAL, self.position)

    def _step(self, name: str, chunk: Chunk) -> Step | None:
        """What a chunk means to one view, which may be further than the others."""
        seen = self._seen[name]
        ahead = unseen(chunk.events, seen)
        if not ahead:
            return None
        last = ahead[-1]
        writes = chunk.writes(name) if len(ahead) == len(chunk.events) else self._views[name].fold(ahead)
        return Step(view=name, seen=seen, seq=last.seq, event_id=last.id, writes=writes)


def _reached(step: Step) -> Checkpoint:
    return Checkpoint(seq=step.seq, event_id=step.event_id, version=step.seen.version)


def unseen(events: Sequence[Recorded], seen: Checkpoint) -> Sequence[Recorded]:
    """The events after a checkpoint; LogDamaged where the log differs from what was seen there."""
    at = seen.seq - events[0].seq
    if at < 0:
        assert at == -1, f"events from {events[0].seq} do not follow on {seen.seq}"
        return events
    if at < len(events) and events[at].id != seen.event_id:
        raise LogDamaged(f"the event at {seen.seq} is not the one that the view had seen there")
    return events[at + 1 :]
