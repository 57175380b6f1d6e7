"""The routes that act on a batch beyond its own pause, resume and cancel: retry, archive, reschedule."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import Answer, written
from services.gateway.batches.writes import batch_after, command_batch, owner_of
from services.gateway.control.archive import force_archive
from services.gateway.control.retry import Pinned, Selection, check_offered, retry
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.idempotency import IdempotencyKey
from services.gateway.openapi import answers
from services.gateway.problems import InvalidFields
from services.gateway.upload.body import json_body
from services.gateway.upload.fields import AUTO, limit_error, time_field
from tanda.contracts import commands as c
from tanda.contracts.events import Changeable
from tanda.contracts.http import Batch, ChangeBatch, ForceArchive, Retried, Retry
from tanda.domain.errors import Refusal

router = APIRouter(prefix="/v1/batches", tags=["control"], dependencies=[Depends(authenticate)])

#: Named one by one; more of them are a status.
FILE_IDS_MAX = 5_000


@router.post("/{batch_id}/retry", openapi_extra=answers(202, Retried, body=Retry))
async def retry_files(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Starts files again: those named, those of a status, or all failed ones."""
    tenant = await _known(gateway, caller, batch_id)
    asked, raw = await json_body(request, gateway.settings, Retry)
    selection = _selection(asked, gateway.processors)
    pinned = Pinned(processor=asked.processor, version=asked.processor_version)

    async def run(_: str) -> Answer:
        origin = gateway.accept.origin(idempotency_key, caller.actor)
        if pinned.version is not None:
            check_offered(pinned, await gateway.deps.board.services())
        retried, seq = await retry(gateway.accept, tenant, batch_id, selection, pinned, origin)
        return written(202, retried, seq)

    return await _once(gateway, caller, idempotency_key, f"retry {batch_id}", raw, run)


@router.post("/{batch_id}/archive", openapi_extra=answers(202, Batch, body=ForceArchive))
async def archive_sources(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Archives sources without waiting for their results: an override, recorded with who and why."""
    tenant = await _known(gateway, caller, batch_id)
    asked, raw = await json_body(request, gateway.settings, ForceArchive)

    async def run(_: str) -> Answer:
        origin = gateway.accept.origin(idempotency_key, caller.actor)
        seq = await force_archive(
            gateway.accept, gateway.blobs, tenant, batch_id, asked.file_ids, asked.reason, origin
        )
        return written(202, await batch_after(gateway, caller, tenant, batch_id, seq), seq)

    return await _once(gateway, caller, idempotency_key, f"archive {batch_id}", raw, run)


@router.patch("/{batch_id}", openapi_extra=answers(202, Batch, body=ChangeBatch))
async def change_batch(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Changes how a batch is scheduled: its priority, its times, its own limit."""
    await _known(gateway, caller, batch_id)
    asked, _ = await json_body(request, gateway.settings, ChangeBatch)
    return await command_batch(gateway, caller, batch_id, _change(asked), idempotency_key)


async def _known(gateway: Gateway, caller: Caller, batch_id: str) -> str:
    """The tenant of a batch that is there; asked before the body, so that no answer tells more."""
    tenant = await owner_of(gateway, caller, batch_id)
    await gateway.accept.batch_records(tenant, batch_id)
    return tenant


def _selection(asked: Retry, processors: frozenset[str]) -> Selection:
    if asked.processor is not None and (asked.processor == AUTO or asked.processor not in processors):
        raise InvalidFields(("processor", "there is no such processor"))
    if asked.file_ids is not None and asked.status is not None:
        raise InvalidFields(("status", "is not asked for together with file_ids"))
    if asked.file_ids is not None and not asked.file_ids:
        raise Refusal("empty_selection", "No file is named.")
    if asked.file_ids is not None and len(asked.file_ids) > FILE_IDS_MAX:
        raise InvalidFields(("file_ids", f"at most {FILE_IDS_MAX:,}; retry a status instead"))
    return Selection(file_ids=asked.file_ids, status=asked.status or "failed")


def _change(asked: ChangeBatch) -> c.ChangeBatch:
    values: dict[Changeable, Any] = {}
    errors: list[tuple[str, str]] = []
    for name in ("priority", "start_at", "expires_at", "limit"):
        value = getattr(asked, name)
        if value is not msgspec.UNSET:
            values[name] = value
    for name in ("start_at", "expires_at"):
        if values.get(name) is not None:
            values[name] = time_field(name, values[name], errors)
    errors += limit_error("limit", values.get("limit"))
    if errors:
        raise InvalidFields(*errors)
    if not values:
        raise Refusal("empty_change", "Name what is to be changed: priority, start_at, expires_at or limit.")
    return c.ChangeBatch(changed=list(values), **values)


async def _once(
    gateway: Gateway,
    caller: Caller,
    key: str | None,
    what: str,
    raw: bytes,
    run: Callable[[str], Awaitable[Answer]],
) -> Response:
    digest = sha256(f"{what}\0".encode() + raw).hexdigest()
    return (await gateway.once(caller, key, digest, what, run)).response()
