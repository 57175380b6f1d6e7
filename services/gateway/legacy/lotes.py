"""The front end of lotes (001): a finished batch is downloaded as its stored document."""

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import CallerDep, authenticate
from services.gateway.answers import JSON
from services.gateway.deps import GatewayDep
from services.gateway.downloads.results import get_results
from services.gateway.openapi import answers

router = APIRouter(tags=["older front ends"], dependencies=[Depends(authenticate)])


@router.get("/download_batch_results/{lote_id}", openapi_extra=answers(200, bytes, media_type=JSON))
async def download_batch_results(
    request: Request, lote_id: str, caller: CallerDep, gateway: GatewayDep
) -> Response:
    """``{lote_id}_resultados.json``: served where it is stored, else built, stored and served."""
    return await get_results(request, lote_id, caller, gateway)
