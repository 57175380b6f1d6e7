"""How well a batch's time left could be told: half-way, what the first half let expect and what came of it.

The estimate that is held to account is the one that people are shown (``tanda.domain.effort.time_left``):
the rate since the work began. A batch that was paused or retried says nothing of it.
"""

from typing import Final

import msgspec

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER
from tanda.contracts.times import epoch_ms
from tanda.domain.effort import effort_change, time_left

#: Of fewer files the rate is chance.
FILES_MIN: Final = 10
#: Shorter work is measured by the clock's own grain.
WORK_MS_MIN: Final = 200
#: A ratio beyond it is an outage, not an error of the estimate.
RATIO_MAX: Final = 100.0


class Pace(msgspec.Struct, frozen=True, array_like=True):
    """The three moments of a batch's work, in milliseconds since the epoch; 0 until they come."""

    began_ms: int = 0
    half_ms: int = 0
    #: What was told half-way of the time that is left; 0 where that says nothing.
    told_ms: float = 0.0
    ended_ms: int = 0
    #: Files rejected at the start: no work, and so neither done nor left.
    rejected: int = 0
    effort: int = 0
    effort_done: int = 0
    #: Paused, cancelled or retried.
    disturbed: bool = False

    def after(self, record: Recorded, files: int, final: int) -> "Pace":
        """With one more event; ``files`` and ``final`` are the batch's counts before it."""
        event = record.event
        replace = msgspec.structs.replace
        match event:
            case e.BatchPaused() | e.BatchCancelled() | e.FilesRetried():
                return replace(self, disturbed=True)
            case e.FileRejected():
                return replace(self, rejected=self.rejected + 1)
            case e.FileStarted() if not self.began_ms:
                return replace(self, began_ms=epoch_ms(record.time))
            case e.FileCompleted() if event.started_at and not self.began_ms:
                return replace(self, began_ms=epoch_ms(event.started_at)).after(record, files, final)
            case e.FilesCompleted() if not self.began_ms:
                began_ms = epoch_ms(event.files[0][1].started_at or record.time)
                return replace(self, began_ms=began_ms).after(record, files, final)
            case _:
                pass
        effort, done = effort_change(event)
        pace = self
        if effort or done:
            pace = replace(self, effort=self.effort + effort, effort_done=self.effort_done + done)
        if isinstance(event, e.FilesCompleted):
            return pace._settled(record, files, final + len(event.files))
        if STATUS_AFTER.get(type(event)) not in FINAL_STATUSES:
            return pace
        return pace._settled(record, files, final + 1)

    def _settled(self, record: Recorded, files: int, final: int) -> "Pace":
        replace = msgspec.structs.replace
        now_ms = epoch_ms(record.time)
        if final >= files:
            return replace(self, ended_ms=now_ms)
        done = final - self.rejected
        if self.half_ms or 2 * done < files - self.rejected:
            return self
        return replace(self, half_ms=now_ms, told_ms=self._told_ms(now_ms, done, files - final))

    def _told_ms(self, now_ms: int, done: int, left: int) -> float:
        work_ms = now_ms - self.began_ms
        if not self.began_ms or done + left < FILES_MIN or work_ms < WORK_MS_MIN:
            return 0.0
        return time_left(work_ms, done=done, left=left, effort=self.effort, effort_done=self.effort_done)

    @property
    def eta_ratio(self) -> float | None:
        """Time taken by the second half, as a multiple of the time told half-way; None where none tells."""
        if self.disturbed or not self.told_ms or not self.ended_ms:
            return None
        return min(round((self.ended_ms - self.half_ms) / self.told_ms, 3), RATIO_MAX)
