"""Work on a group of files as one: one event tells what came of all of them (``tanda.domain.groups``).

That is for first deliveries of quick work. Where not every file has a result, or a worker was lost with the
group, it is parted instead, and each of its files comes again by itself, with all that makes that safe.
"""

from collections.abc import Callable

import structlog

from services.worker.outcomes import Outcomes
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import Origin, new_event
from tanda.contracts.subjects import file_subject
from tanda.contracts.times import rfc3339
from tanda.domain.errors import Conflict
from tanda.domain.file import completed_at_once
from tanda.domain.groups import completed
from tanda.ports import Delivery, Log

_log = structlog.get_logger("tanda.runner")


class Together:
    """Handles deliveries of groups."""

    def __init__(self, log: Log, outcomes: Outcomes, origin: Origin, clock: Callable[[], float]) -> None:
        self._log = log
        self._outcomes = outcomes
        self._origin = origin
        self._clock = clock

    async def handle(self, delivery: Delivery) -> None:
        """Work, outcome, done. Another event that came first stands, and ours is dropped."""
        item = delivery.item
        event = await self._outcome(delivery)
        new = new_event(
            file_subject(item.tenant, item.batch_id, item.group), event,
            expected_seq=item.seq, time_ms=int(self._clock() * 1000), origin=self._origin,
        )  # fmt: skip
        (outcome,) = await self._log.append_each([new])
        if isinstance(outcome, Conflict):
            _log.info("another event of a group came first", batch=item.batch_id, group=item.group)
        elif isinstance(event, e.FilesParted):
            _log.info("the files of a group go on one by one", batch=item.batch_id, group=item.group)
        await delivery.done()

    async def _outcome(self, delivery: Delivery) -> e.FilesCompleted | e.FilesParted:
        items = delivery.items
        if not delivery.is_first or not self._outcomes.quick(*items):
            return e.FilesParted()
        begun_at = rfc3339(int(self._clock() * 1000))
        results: list[tuple[str, e.FileCompleted]] = []
        for item, command in zip(items, await self._outcomes.of(items), strict=True):
            if not isinstance(command, c.CompleteFile):
                return e.FilesParted()
            event = completed_at_once(item.attempt, item.effort, command, begun_at)
            results.append((item.file_id, event))
        return completed(results) or e.FilesParted()
