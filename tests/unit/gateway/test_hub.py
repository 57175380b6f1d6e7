"""What the hub takes apart of the log, and for whom."""

import asyncio
from collections.abc import AsyncIterator, Callable

from services.gateway.live.hub import Hub
from tanda.adapters.memory import MemoryLog
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import NewEvent, Origin, Recorded, new_event
from tanda.contracts.subjects import batch_subject
from tanda.ports import Unread
from tanda.settings import Settings

DEADLINE_S = 5
ORIGIN = Origin(source="/test")


class WatchedLog(MemoryLog):
    """Notes which events whoever watches it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_seqs: list[int] = []

    async def watch(self, after: int, anchor: str | None = None) -> AsyncIterator[list[Unread]]:
        async for chunk in super().watch(after, anchor):
            yield [one._replace(read=self._noting(one)) for one in chunk]

    def _noting(self, one: Unread) -> Callable[[], Recorded]:
        def read() -> Recorded:
            self.read_seqs.append(one.seq)
            return one.read()

        return read


def created(tenant: str) -> NewEvent:
    batch_id = ids.derived_id(ids.BATCH, 1, tenant)
    subject = batch_subject(tenant, batch_id)
    return new_event(subject, e.BatchCreated(name="x"), expected_seq=0, time_ms=1, origin=ORIGIN)


async def test_only_what_somebody_listens_to_is_read() -> None:
    """And once for all who do; the hub's position goes on with the others as well."""
    log = WatchedLog()
    hub = Hub(log, Settings(), lambda _: None)
    running = asyncio.create_task(hub.run())
    await hub.ready()
    mine, another = hub.subscribe(("mine", None)), hub.subscribe(("mine", None))
    for tenant in ("other", "mine", "else"):
        await log.append([created(tenant)])
    async with asyncio.timeout(DEADLINE_S):
        told = [await one.take(DEADLINE_S) for one in (mine, another)]
        while hub.position < 3:
            await asyncio.sleep(0)
    running.cancel()
    assert [[chunk.first for chunk in chunks] for chunks in told] == [[2], [2]]
    assert log.read_seqs == [2]
