"""Why batches wait, for those who wait for them."""

from collections.abc import Callable

from tanda.domain.scheduling.backlog import Backlog, BatchEntry
from tanda.domain.scheduling.limits import Brake

#: Batches that are told of; a person reads no more.
REASONS_MAX = 1_000


class Reasons:
    """Looks at a backlog; ``brake`` and ``allowed`` are those of a lane."""

    def __init__(
        self, backlog: Backlog, brake: Callable[[str], Brake], allowed: Callable[[str], int | None]
    ) -> None:
        self._backlog = backlog
        self._brake = brake
        self._allowed = allowed

    def all(self, now_ms: int) -> dict[str, str]:
        """Of batches with queued files, by id: ``limit``, ``brake``, ``fair_share``."""
        found: dict[str, str] = {}
        for batch in self._backlog.batches.values():
            if len(found) >= REASONS_MAX:
                break
            if batch.may_run and (reason := self._of(batch, now_ms)):
                found[batch.batch_id] = reason
        return found

    def _of(self, batch: BatchEntry, now_ms: int) -> str | None:
        tracks = [track for track, queue in batch.queues.items() if queue]
        if not tracks:
            return None
        if batch.full or self._backlog.tenant_full(batch.tenant):
            return "limit"
        if all(self._brake(lane).until_ms > now_ms for lane, _ in tracks):
            return "brake"
        if all(self._backlog.processor_full(processor) for _, processor in tracks):
            return "limit"
        if batch.flying:
            return None
        return "limit" if all(map(self._full, {lane for lane, _ in tracks})) else "fair_share"

    def _full(self, lane: str) -> bool:
        most = self._allowed(lane)
        return most is not None and self._backlog.flying_by_lane[lane] >= most
