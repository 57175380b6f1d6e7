"""The system as its services tell of it, and the files that wait for a person."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import CallerDep, administrate, authenticate
from services.gateway.answers import read
from services.gateway.batches.reads import MIN_SEQ, Cursor, Limit
from services.gateway.deps import GatewayDep
from services.gateway.openapi import answers
from tanda.contracts.http import File, FileQuery, LogInfo, Page, SystemInfo, ViewsInfo

router = APIRouter(prefix="/v1", tags=["control"], dependencies=[Depends(authenticate)])


@router.get("/system", openapi_extra=answers(200, SystemInfo), dependencies=[Depends(administrate)])
async def get_system(request: Request, gateway: GatewayDep) -> Response:
    """Services, lag, queues and quarantine, of every tenant."""
    end = await gateway.log.position()
    seen = await gateway.positions.now()
    info = SystemInfo(
        version=version("tanda"),
        log=LogInfo(position=end),
        views=ViewsInfo(position=seen, lag=max(0, end - seen)),
        scheduler=await gateway.reasons.status(),
        services=await gateway.deps.board.services(),
        quarantined=await gateway.views.quarantined(None),
    )
    return read(request, info, seen)


@router.get("/quarantine", openapi_extra=answers(200, Page[File]), dependencies=[MIN_SEQ])
async def list_quarantine(
    request: Request,
    caller: CallerDep,
    gateway: GatewayDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    q: Annotated[str | None, Query(max_length=255)] = None,
) -> Response:
    """Files whose attempts are used up though their trouble was of a passing kind, newest first."""
    query = FileQuery(q=q, limit=limit, cursor=cursor)
    seq, page = await gateway.views.quarantine(caller.tenant, query)
    return read(request, page, seq)
