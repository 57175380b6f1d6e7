"""How well a batch's time left could be told: half-way, what the first half let expect and what came of it.

The estimate that is held to account is the one that people are shown (``tanda.domain.progress.eta_s``):
the rate since the work began. A batch that was paused or retried says nothing of it.
"""

from typing import Final

import msgspec

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER
from tanda.contracts.times import epoch_ms

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
    #: Files settled at half-way, those rejected at the start not counted, and files left then.
    half_done: int = 0
    half_left: int = 0
    ended_ms: int = 0
    rejected: int = 0
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
            case _:
                pass
        if STATUS_AFTER.get(type(event)) not in FINAL_STATUSES:
            return self
        return self._settled(record, files, final + 1)

    def _settled(self, record: Recorded, files: int, final: int) -> "Pace":
        replace = msgspec.structs.replace
        if final >= files:
            return replace(self, ended_ms=epoch_ms(record.time))
        done = final - self.rejected
        if self.half_ms or 2 * done < files - self.rejected:
            return self
        return replace(self, half_ms=epoch_ms(record.time), half_done=done, half_left=files - final)

    @property
    def eta_ratio(self) -> float | None:
        """Time taken by the second half, as a multiple of the time told half-way; None where none tells."""
        work_ms = self.half_ms - self.began_ms
        if self.disturbed or not self.half_ms or not self.began_ms or not self.ended_ms:
            return None
        if self.half_done + self.half_left < FILES_MIN or work_ms < WORK_MS_MIN:
            return None
        told_ms = self.half_left * work_ms / self.half_done
        return min(round((self.ended_ms - self.half_ms) / told_ms, 3), RATIO_MAX)
