"""The log into its archive: a segment when it is full, and the news of a quiet log every few seconds.

Two processes at once do no harm: they cut the log alike, so they write the same objects, and a short last
segment is only replaced by a longer one. What is archived must still be in the log; where it is not, the
archiver stops like every other reader, and nothing of the archive is touched.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from tanda.archive.log_archive import ArchiveDamaged, ArchiveWriter, LogArchive
from tanda.archive.records import RawLog
from tanda.archive.segments import SEGMENT_EVENTS_MAX
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.ports import Blobs

#: The log's end is looked at this often, and what is new is archived at the latest after ``LAG_S``: what a
#: total loss of the log may cost.
LOOK_EVERY_S = 2.0
LAG_S = 10.0
#: What a clean stop may spend on the last events.
LAST_S = 1.5
BACKOFF_S = 0.2
BACKOFF_S_MAX = 5.0

_log = structlog.get_logger("tanda.storage")


class LogArchiver:
    """One process's archiver; ``run`` never ends by itself."""

    def __init__(self, log: RawLog, blobs: Blobs, seen: Callable[[], int] = lambda: sys.maxsize) -> None:
        """``seen`` is the last position that this process knows of: up to there the log need not be asked."""
        self._log = log
        self._seen = seen
        self._writer = ArchiveWriter(log, LogArchive(blobs))
        self._begun = False
        self._new_since: float | None = None
        self._backoff_s = BACKOFF_S

    async def run_beside(self, other: Coroutine[Any, Any, None]) -> None:
        """Runs with another task until one of them fails; the last events are archived on the way out."""
        tasks = [asyncio.create_task(other), asyncio.create_task(self.run())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """Raises LogDamaged; cancelled, it archives what is left."""
        try:
            while True:
                wait_s = await self._step()
                await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            with suppress(Unavailable, ArchiveDamaged, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(LAST_S):
                    await self._archive_all()
            raise

    async def _step(self) -> float:
        """One look, and what is due; how long until the next."""
        try:
            await self._look()
            self._backoff_s = BACKOFF_S
        except Unavailable as error:
            _log.warning("A server does not answer; the log is archived later.", error=str(error))
            self._backoff_s = min(self._backoff_s * 2, BACKOFF_S_MAX)
            return self._backoff_s
        except ArchiveDamaged as damage:
            _log.error("The log's archive is damaged; `tanda doctor --repair` mends it.", error=str(damage))
            self._begun = False
            return LAG_S
        return LOOK_EVERY_S

    async def _look(self) -> None:
        if not self._begun:
            await self._writer.begin()
            self._begun = True
            _log.info("The log is being archived.", archived=self._writer.last)
        elif self._seen() <= self._writer.last:
            self._new_since = None
            return
        end = (await self._log.facts()).last
        new = end - self._writer.last
        if new < 0:
            raise LogDamaged(f"the log ends at {end}, but its archive at {self._writer.last}")
        now = time.monotonic()
        if new == 0:
            self._new_since = None
            return
        self._new_since = self._new_since or now
        if new >= SEGMENT_EVENTS_MAX or now - self._new_since >= LAG_S:
            await self._archive_all()

    async def _archive_all(self) -> None:
        if not self._begun:
            return
        await self._writer.advance_to_end()
        self._new_since = None
