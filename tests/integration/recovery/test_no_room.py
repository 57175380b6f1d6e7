"""A log whose server keeps as many open batches as it may, all of gateways that died before the commit."""

import asyncio

import msgspec
import pytest

from tanda.adapters.jetstream import STAGED_MAX, STAGED_S, JetStreamLog
from tanda.adapters.nats import connect
from tanda.contracts import events as e
from tanda.contracts.envelope import FOLLOWS, NewEvent, Origin, new_event
from tanda.contracts.subjects import batch_subject
from tanda.domain.errors import Unavailable
from tanda.embedded.servers.nats import ATOMIC_IDLE_S, ATOMIC_MESSAGES_MAX, ATOMIC_OPEN_MAX
from tests.house.sources import ROOT
from tests.integration.recovery.site import Site

PATIENCE_S = 1.0
#: Less than the server waits for a commit, after which there would be room.
DEADLINE_S = ATOMIC_IDLE_S / 2


def batch(number: int) -> list[NewEvent]:
    """Two events of one batch, which belong together."""
    subject, origin = batch_subject("acme", f"bat_{number}"), Origin(source="/test")
    created = new_event(subject, e.BatchCreated(name="x"), expected_seq=0, time_ms=1, origin=origin)
    return [created, new_event(subject, e.BatchPaused(), expected_seq=FOLLOWS, time_ms=1, origin=origin)]


async def leave_no_room(place: Site) -> None:
    """Gateways stage what each may, and are gone."""
    dead = await connect(place.settings, "dead")
    for first in range(0, ATOMIC_OPEN_MAX, STAGED_MAX):
        gateway = JetStreamLog(dead.client, place.settings)
        for number in range(first, first + STAGED_MAX):
            assert await gateway.stage(batch(number))
    assert await dead.log.append(batch(ATOMIC_OPEN_MAX)[:1]) == [1], "behind all of them"
    await dead.close()


async def test_others_write_while_no_batch_can_be_opened(place: Site) -> None:
    """What need not be together is written; what must be is refused for now, and nothing of it is there.

    A restarted server has room, and keeps nothing of what was never committed.
    """
    hasty, patient = (
        JetStreamLog(place.connection.client, msgspec.structs.replace(place.settings, patience_s=patience_s))
        for patience_s in (PATIENCE_S, 2 * DEADLINE_S)
    )
    await leave_no_room(place)
    now = asyncio.get_running_loop().time
    began = now()
    with pytest.raises(Unavailable):
        await hasty.append(batch(1000))
    assert now() - began >= PATIENCE_S, "who asked would find patience left, and begin again"
    singles = [batch(number)[0] for number in range(2000, 2050)]
    async with asyncio.timeout(DEADLINE_S):
        assert set(await patient.append_each(singles)) == set(range(2, 52))

    await place.kill_nats()
    await place.servers.nats.start()
    assert await patient.append(batch(1000)) == [52, 53]
    assert not list((place.servers.nats.folder.path / "nats").rglob("streams/EVENTS/batches/*"))


def test_a_gateway_counts_what_its_server_keeps() -> None:
    """It forgets no batch before the server does; the server of a deployment is set as the embedded one."""
    assert STAGED_S >= ATOMIC_IDLE_S
    limits = f"max_msgs: {ATOMIC_MESSAGES_MAX}, timeout: {ATOMIC_IDLE_S}s"
    line = f"batch {{ {limits}, max_inflight_per_stream: {ATOMIC_OPEN_MAX} }}"
    assert line in (ROOT / "deploy" / "nats.conf").read_text()
