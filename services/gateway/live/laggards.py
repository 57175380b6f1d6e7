"""Clients that fell behind get a snapshot, one for all of the same tenant or batch, and go on from there."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from services.gateway.deps import Gateway
from services.gateway.live.chunks import Audience, framed
from services.gateway.live.hub import in_slices
from services.gateway.live.routes import snapshot_frame
from services.gateway.live.wire import Wire
from services.gateway.problems import Busy
from tanda.domain.errors import WorldFailure

#: While events come faster than they can be told one by one, the state is told this often.
EVERY_S: Final = 1.0

log = structlog.get_logger(__name__)


async def tell_for_ever(gateway: Gateway) -> None:
    """Waits for laggards, and brings them up to date."""
    while True:
        await gateway.hub.laggards.wait()
        for audience, wires in gateway.hub.take_laggards().items():
            await _tell(gateway, audience, wires)
        await asyncio.sleep(EVERY_S)


async def _tell(gateway: Gateway, audience: Audience, wires: Sequence[Wire]) -> None:
    """What they missed is in the views before the snapshot is taken; what comes meanwhile waits for it."""
    tenant, batch_id = audience
    assert tenant is not None, "a stream has one tenant"
    for wire in wires:
        wire.hold()
    missed_to = gateway.hub.position
    try:
        await gateway.positions.reached(missed_to, gateway.settings.min_seq_wait_s)
        frame, seq = await snapshot_frame(gateway, tenant, batch_id, missed_to)
    except (Busy, WorldFailure) as error:
        log.info("No snapshot for those behind yet.", clients=len(wires), reason=str(error))
        for wire in wires:
            wire.release()
        return
    chunk = framed(frame)
    async for wire in in_slices(wires):
        wire.tell(chunk, seq)
