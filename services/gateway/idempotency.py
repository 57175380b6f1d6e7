"""A request with an ``Idempotency-Key`` happens once; its repeat gets the first one's answer.

The key reserves the id of what is to be made before anything is written: a retry after a crash makes
the same batch again, and the log itself refuses the second one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Protocol

import msgspec
import structlog
from fastapi import Header
from starlette.responses import Response

from services.gateway.answers import Answer
from tanda.contracts.idempotency import Begun, Fresh, Mismatch, Replay, Running
from tanda.domain.errors import Refusal, WorldFailure

KEY_CHARS_MAX = 255
#: A running request says so this often; its lease is three times as long.
RENEW_S = 3.0
RUNNING_RETRY_S = 2.0

IdempotencyKey = Annotated[str | None, Header(max_length=KEY_CHARS_MAX, pattern=r"^[!-~]+$")]
log = structlog.get_logger(__name__)


class Idempotency(Protocol):
    """Where keys are kept for 24 hours."""

    async def begin(self, tenant: str, key: str, body_sha256: str, resource_id: str) -> Begun: ...

    async def renew(self, tenant: str, key: str) -> None: ...

    async def finish(self, tenant: str, key: str, answer: bytes) -> None: ...

    async def release(self, tenant: str, key: str) -> None: ...


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and whether it is the one of an earlier request."""

    answer: Answer
    replayed: bool = False

    def response(self) -> Response:
        return self.answer.response(**({"Idempotency-Replayed": "true"} if self.replayed else {}))


async def once(
    store: Idempotency,
    tenant: str,
    key: str | None,
    digest: str,
    resource_id: str,
    work: Callable[[str], Awaitable[Answer]],
) -> Outcome:
    """Does the work under the reserved id, or gives the answer of the first time."""
    if key is None:
        return Outcome(answer=await work(resource_id))
    match await store.begin(tenant, key, digest, resource_id):
        case Fresh(resource_id=reserved_id):
            return Outcome(answer=await _first(store, tenant, key, reserved_id, work))
        case Replay(answer=raw):
            return Outcome(answer=msgspec.json.decode(raw, type=Answer), replayed=True)
        case Running():
            detail = "A request with this Idempotency-Key is still at work."
            raise Refusal("idempotency_running", detail, status=409, retry_after_s=RUNNING_RETRY_S)
        case Mismatch():
            raise Refusal("idempotency_key_reused", "This Idempotency-Key was used with another body.")


async def _first(
    store: Idempotency, tenant: str, key: str, reserved_id: str, work: Callable[[str], Awaitable[Answer]]
) -> Answer:
    renewing = asyncio.create_task(_renew(store, tenant, key))
    try:
        answer = await work(reserved_id)
    except BaseException:
        # The reserved id stays with the key: what this try may have written, the next one finds.
        with suppress(WorldFailure):
            await asyncio.shield(store.release(tenant, key))
        raise
    finally:
        renewing.cancel()
    try:
        await store.finish(tenant, key, msgspec.json.encode(answer))
    except WorldFailure as error:
        log.warning("An answer was not kept for a repeat.", error=str(error))
    return answer


async def _renew(store: Idempotency, tenant: str, key: str) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        with suppress(WorldFailure):
            await store.renew(tenant, key)
