"""Commands of the older front ends: decided as any other, told in their own words, done once for a key."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller
from services.gateway.answers import Answer, written
from services.gateway.batches.writes import batch_after, owner_of
from services.gateway.deps import Gateway
from tanda.contracts import commands as c
from tanda.contracts.envelope import Origin
from tanda.contracts.http import Batch

#: Does it to the batch of a tenant; the last position.
Deed = Callable[[str, Origin], Awaitable[int]]
#: The old answer about a batch.
Tell = Callable[[Batch], Awaitable[Any]]


async def once(
    request: Request,
    caller: Caller,
    gateway: Gateway,
    key: str | None,
    work: Callable[[], Awaitable[Answer]],
    raw: bytes = b"",
) -> Response:
    """Does the work, or gives its answer again where the same request comes again with its key."""
    path: str = request.scope["path"]

    async def run(_: str) -> Answer:
        return await work()

    digest = sha256(f"{path}\0".encode() + raw).hexdigest()
    return (await gateway.once(caller, key, digest, path, run)).response()


async def act(
    request: Request, caller: Caller, gateway: Gateway, key: str | None, batch_id: str, deed: Deed, tell: Tell
) -> Response:
    """Does something to a batch and tells how it is afterwards."""
    tenant = await owner_of(gateway, caller, batch_id)

    async def work() -> Answer:
        seq = await deed(tenant, gateway.accept.origin(key, caller.actor))
        return written(200, await tell(await batch_after(gateway, caller, tenant, batch_id, seq)), seq)

    return await once(request, caller, gateway, key, work)


def commanded(gateway: Gateway, batch_id: str, command: c.Command) -> Deed:
    """A command that the batch's own aggregate decides."""

    async def deed(tenant: str, origin: Origin) -> int:
        return await gateway.accept.command(tenant, batch_id, command, origin)

    return deed
