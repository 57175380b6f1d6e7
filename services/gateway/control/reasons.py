"""Why a batch waits, where only the scheduler knows: its word of late, laid over what the views say."""

import time

import msgspec
import structlog

from tanda.contracts.http import Batch
from tanda.contracts.work import SchedulerStatus
from tanda.domain.errors import Unavailable
from tanda.ports import Board

#: The scheduler's word is asked for this often at most.
FRESH_S = 0.5

_log = structlog.get_logger("tanda.gateway")


class Reasons:
    """The scheduler's status, kept for a moment for all who ask."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._status: SchedulerStatus | None = None
        self._asked_at = -FRESH_S

    async def status(self) -> SchedulerStatus | None:
        """What the leading scheduler said last; None where nobody leads or nobody answers."""
        now = time.monotonic()
        if now - self._asked_at >= FRESH_S:
            self._asked_at = now
            try:
                self._status = await self._board.scheduler()
            except Unavailable as error:
                _log.debug("the scheduler's status is not there", error=str(error))
                self._status = None
        return self._status

    async def explained(self, batches: list[Batch]) -> list[Batch]:
        """The batches with the scheduler's reasons where the views have none."""
        status = await self.status() if batches else None
        if status is None:
            return batches
        return [_explained(batch, status.reasons.get(batch.id)) for batch in batches]


def _explained(batch: Batch, reason: str | None) -> Batch:
    if reason is None or batch.progress.waiting_reason is not None or not batch.counts.queued:
        return batch
    progress = msgspec.structs.replace(batch.progress, waiting_reason=reason)
    return msgspec.structs.replace(batch, progress=progress)
