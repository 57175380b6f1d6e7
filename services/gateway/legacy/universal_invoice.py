"""The front end of universal invoices (004): a session is a file, its company the tenant."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import Answer, read, written
from services.gateway.batches.draft import Written
from services.gateway.batches.writes import upload
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.idempotency import IdempotencyKey
from services.gateway.legacy.commanding import act, commanded
from services.gateway.legacy.reading import Fresh, all_files, batch_seen, message_of
from services.gateway.legacy.whose import of_company, owner_named
from services.gateway.openapi import answers
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import singly
from tanda.contracts.events import FileStatus
from tanda.contracts.http import Batch, Body, File
from tanda.domain.progress import percent

router = APIRouter(tags=["older front ends"], dependencies=[Depends(authenticate)])

MESSAGE = "Los archivos se están procesando. Puedes salir de esta página y el procesamiento continuará."
SessionStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
STATUS: dict[FileStatus, SessionStatus] = {
    "queued": "pending",
    "retrying": "pending",
    "processing": "processing",
    "waiting": "processing",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}

Company = Annotated[str | None, Query(max_length=64)]
User = Annotated[str | None, Query(max_length=255)]


class Skipped(Body, frozen=True, kw_only=True):
    """A file without a session, and why."""

    filename: str
    code: str
    reason: str


class Uploaded(Body, frozen=True, kw_only=True):
    batch_id: str
    #: All that came, the skipped ones too.
    total_files: int
    created_sessions: int
    session_ids: list[str]
    status: Literal["processing_in_background"] = "processing_in_background"
    message: str = MESSAGE
    created_at: str
    skipped_files: list[Skipped]


class Session(Body, frozen=True, kw_only=True):
    session_id: str
    filename: str
    status: SessionStatus
    error: str | None
    created_at: str | None
    completed_at: str | None
    result_url: str | None


class SessionsStatus(Body, frozen=True, kw_only=True):
    batch_id: str
    total_sessions: int
    completed: int
    #: Cancelled ones too, so that the three make the total.
    failed: int
    pending: int
    #: Completed of all, one decimal; 0.0 where there is no session.
    progress_percentage: float
    is_complete: bool
    sessions: list[Session]


@router.post(
    "/universal-invoice/sessions/batch-upload/", openapi_extra=answers(200, Uploaded, multipart=True)
)
async def batch_upload(
    request: Request,
    caller: CallerDep,
    gateway: GatewayDep,
    company_id: Company = None,
    user_id: User = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Takes a batch of files; unsupported ones are skipped with their reason."""
    caller, owner = of_company(caller, company_id), owner_named(caller, "user_id", user_id)
    return await upload(request, caller, gateway, idempotency_key, owner=owner, answer=_uploaded)


def _uploaded(done: Written) -> Answer:
    records = list(singly(done.records))
    queued = [str(one.file_id) for one in records if _is_new(one.event)]
    skipped = [
        Skipped(filename=event.name, code=event.error.code, reason=event.error.message)
        for event in (record.event for record in records)
        if isinstance(event, e.FileRejected)
    ]
    body = Uploaded(
        batch_id=done.batch_id,
        total_files=len(queued) + len(skipped),
        created_sessions=len(queued),
        session_ids=queued,
        created_at=done.records[0].time,
        skipped_files=skipped,
    )
    return written(200, body, done.seq)


def _is_new(event: e.Event) -> bool:
    return isinstance(event, e.FileQueued) and event.previous is None


@router.get("/universal-invoice/sessions/batch-status/{batch_id}", openapi_extra=answers(200, SessionsStatus))
async def batch_status(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    position: Fresh,
    company_id: Company = None,
) -> Response:
    """How far the sessions of this batch have come."""
    caller = of_company(caller, company_id)
    batch = await batch_seen(gateway, caller, batch_id)
    return read(request, await _status(gateway, caller, batch), position)


@router.post(
    "/universal-invoice/sessions/batch-cancel/{batch_id}", openapi_extra=answers(200, SessionsStatus)
)
async def batch_cancel(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    company_id: Company = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Stops what is not running yet; the status after."""
    caller = of_company(caller, company_id)

    async def tell(batch: Batch) -> SessionsStatus:
        return await _status(gateway, caller, batch)

    deed = commanded(gateway, batch_id, c.CancelBatch())
    return await act(request, caller, gateway, idempotency_key, batch_id, deed, tell)


async def _status(gateway: Gateway, caller: Caller, batch: Batch) -> SessionsStatus:
    files = [one for one in await all_files(gateway, caller, batch.id) if one.status != "rejected"]
    return status_of(batch, files)


def status_of(batch: Batch, files: list[File]) -> SessionsStatus:
    """From the sessions themselves, so that numbers and list never differ."""
    sessions = [_session(one) for one in files]
    completed = sum(one.status == "completed" for one in sessions)
    failed = sum(one.status in ("failed", "cancelled") for one in sessions)
    pending = len(sessions) - completed - failed
    return SessionsStatus(
        batch_id=batch.id,
        total_sessions=len(sessions),
        completed=completed,
        failed=failed,
        pending=pending,
        progress_percentage=percent(completed, len(sessions)),
        is_complete=not pending and batch.status != "open",
        sessions=sessions,
    )


def _session(file: File) -> Session:
    return Session(
        session_id=file.id,
        filename=file.name,
        status=STATUS[file.status],
        error=message_of(file),
        created_at=file.queued_at,
        completed_at=file.finished_at,
        result_url=file.result_url,
    )
