"""``GET /v1/batches/{id}/results``: the cached document, and other formats made from it as it streams."""

from collections.abc import AsyncIterator
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.gateway.access import CallerDep, authenticate
from services.gateway.answers import JSON, matches, not_modified
from services.gateway.batches.accept import Accept
from services.gateway.batches.writes import owner_of
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.downloads.formats import FORMATS, convert
from services.gateway.downloads.ranges import SAFE_HEADERS, attachment, blob_response, started
from services.gateway.openapi import answers
from tanda.contracts import events as e
from tanda.contracts.results import BlobRef
from tanda.domain.errors import NotFound, Refusal

router = APIRouter(prefix="/v1", tags=["results"], dependencies=[Depends(authenticate)])

PIECE_BYTES = 256 * 1024
Format = Literal["json", "ndjson", "csv", "zip"]


@router.get("/batches/{batch_id}/results", openapi_extra=answers(200, bytes, media_type=JSON))
async def get_results(
    request: Request,
    batch_id: str,
    caller: CallerDep,
    gateway: GatewayDep,
    format: Format = "json",  # the name in the contract
    version: Annotated[int | None, Query(ge=1)] = None,
    partial: bool = False,
) -> Response:
    """The results of a finished batch, or with ``partial`` of one that is still running."""
    tenant = await owner_of(gateway, caller, batch_id)
    completed = await completed_of(gateway.accept, tenant, batch_id, version)
    if completed is None:
        if not partial:
            detail = "The batch has no results yet; ?partial=true gives what there is."
            raise Refusal("results_not_ready", detail, status=409)
        return await _partial(gateway, tenant, batch_id, format)
    headers = {"Tanda-Cache": "hit", "Tanda-Results-Version": str(completed.version)}
    if format == "json" and (document := await gateway.documents.get(completed.results)) is not None:
        return await _from_memory(request, gateway, batch_id, completed.results, document, headers)
    ref, hit = await gateway.results.open(
        tenant, batch_id, completed.version, completed.through_seq, completed.results
    )
    headers["Tanda-Cache"] = "hit" if hit else "miss"
    return await _answer(request, gateway, batch_id, ref, format, headers)


async def completed_of(
    accept: Accept, tenant: str, batch_id: str, version: int | None
) -> e.BatchCompleted | None:
    """The completion of a version, or the latest one unless a retry has made that old."""
    found: e.BatchCompleted | None = None
    wanted = False
    for record in await accept.batch_records(tenant, batch_id):
        match record.event:
            case e.BatchCompleted() as event if version in (None, event.version):
                found, wanted = event, True
            case e.FilesRetried() if version is None:
                found = None
            case _:
                pass
    if version is not None and not wanted:
        raise NotFound("version_not_found", "The batch has no results of this version.")
    return found


async def _answer(
    request: Request, gateway: Gateway, batch_id: str, ref: BlobRef, kind: Format, headers: dict[str, str]
) -> Response:
    name, media_type = file_name(batch_id, kind), FORMATS[kind]
    headers = {**headers, "Content-Disposition": attachment(name)}
    if kind == "json":
        return await blob_response(request, gateway.blobs, ref, media_type, headers)
    etag = f'"{ref.sha256}-{kind}"'
    headers = {**SAFE_HEADERS, **headers, "ETag": etag}
    if matches(request.headers.get("if-none-match"), etag):
        return not_modified(etag, headers)
    source = await started(gateway.blobs.stream(ref))
    return StreamingResponse(convert(kind, source, batch_id), headers=headers, media_type=media_type)


async def _from_memory(
    request: Request, gateway: Gateway, batch_id: str, ref: BlobRef, document: bytes, headers: dict[str, str]
) -> Response:
    headers = {**headers, "Content-Disposition": attachment(file_name(batch_id, "json"))}
    view = memoryview(document)

    def sent(start: int, length: int) -> AsyncIterator[memoryview]:
        return gateway.documents.sent(ref, view[start : start + length])

    return await blob_response(request, gateway.blobs, ref, FORMATS["json"], headers, sent)


async def _partial(gateway: Gateway, tenant: str, batch_id: str, kind: Format) -> Response:
    async with gateway.results.partial(tenant, batch_id) as built:
        file = built.open()
    headers = {
        **SAFE_HEADERS,
        "Content-Disposition": attachment(file_name(batch_id, kind)),
        "Cache-Control": "no-store",
        "Tanda-Cache": "miss",
        "Tanda-Seq": str(built.through_seq),
        "Tanda-Results-Version": "0",
    }
    body = convert(kind, _pieces(file), batch_id)
    return StreamingResponse(body, headers=headers, media_type=FORMATS[kind])


def file_name(batch_id: str, kind: Format) -> str:
    return f"{batch_id}_resultados.{kind}"


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece
