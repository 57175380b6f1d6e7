"""The routes of bulk actions."""

from hashlib import sha256
from typing import get_args

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import CallerDep, authenticate
from services.gateway.answers import Answer
from services.gateway.control.bulk import new_bulk_id
from services.gateway.deps import GatewayDep
from services.gateway.idempotency import IdempotencyKey
from services.gateway.openapi import answers
from services.gateway.problems import InvalidFields
from services.gateway.upload.body import json_body
from services.gateway.upload.fields import time_field
from tanda.contracts import codec
from tanda.contracts.http import BatchStatus, BulkAction, BulkFilter, BulkRequest

router = APIRouter(prefix="/v1/bulk-actions", tags=["control"], dependencies=[Depends(authenticate)])

_STATUSES: frozenset[str] = frozenset(get_args(BatchStatus))


@router.post("", openapi_extra=answers(202, BulkAction, body=BulkRequest))
async def begin(
    request: Request, caller: CallerDep, gateway: GatewayDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Pauses, resumes, cancels or retries every batch that a filter names; a dry run only counts (200)."""
    asked, raw = await json_body(request, gateway.settings, BulkRequest)
    _check(asked.filter)

    async def run(bulk_id: str) -> Answer:
        action = await gateway.bulk.begin(caller.tenant, bulk_id, asked, caller.actor)
        return Answer(status=200 if asked.dry_run else 202, body=codec.encode(action))

    digest = sha256(b"bulk\0" + raw).hexdigest()
    key = None if asked.dry_run else idempotency_key
    return (await gateway.once(caller, key, digest, new_bulk_id(gateway.now_ms()), run)).response()


@router.get("/{bulk_id}", openapi_extra=answers(200, BulkAction))
async def get_bulk_action(bulk_id: str, caller: CallerDep, gateway: GatewayDep) -> Response:
    """How far a bulk action has come."""
    return Answer(status=200, body=codec.encode(await gateway.bulk.get(caller.tenant, bulk_id))).response()


@router.post("/{bulk_id}/abort", openapi_extra=answers(202, BulkAction))
async def abort(bulk_id: str, caller: CallerDep, gateway: GatewayDep) -> Response:
    """Does no further batch; what is done stays done."""
    return Answer(status=202, body=codec.encode(await gateway.bulk.abort(caller.tenant, bulk_id))).response()


def _check(wanted: BulkFilter) -> None:
    errors: list[tuple[str, str]] = []
    if wanted.status not in (None, "active") and wanted.status not in _STATUSES:
        errors.append(("filter.status", f"one of active, {', '.join(sorted(_STATUSES))}"))
    if wanted.created_after is not None:
        time_field("filter.created_after", wanted.created_after, errors)
    if errors:
        raise InvalidFields(*errors)
