"""A file's bytes: its source, its result, and what a processor made beside it."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import Caller, CallerDep, authenticate
from services.gateway.answers import JSON, matches, not_modified
from services.gateway.batches.reads import MIN_SEQ, last_event, seen
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.downloads.ranges import SAFE_HEADERS, attachment, blob_response
from services.gateway.openapi import answers
from tanda.contracts.events import FileCompleted
from tanda.contracts.http import File, FileBlobs
from tanda.domain.errors import NotFound
from tanda.ports import AsOf

router = APIRouter(prefix="/v1", tags=["bytes"], dependencies=[Depends(authenticate)])
_BASE = "/batches/{batch_id}/files/{file_id}"


@router.get(f"{_BASE}/source", openapi_extra=answers(200, bytes, media_type="*/*"), dependencies=[MIN_SEQ])
@router.head(f"{_BASE}/source", include_in_schema=False, dependencies=[MIN_SEQ])
async def get_source(
    request: Request, batch_id: str, file_id: str, caller: CallerDep, gateway: GatewayDep
) -> Response:
    """What was uploaded, byte for byte."""
    seq, (file, blobs) = await _found(gateway, caller, batch_id, file_id)
    if blobs.source is None:
        raise NotFound("source_not_stored", "The source was not stored: the file was rejected.")
    headers = {"Content-Disposition": attachment(file.name), "Tanda-Seq": str(seq)}
    return await blob_response(request, gateway.blobs, blobs.source, file.content_type, headers)


@router.get(f"{_BASE}/result", openapi_extra=answers(200, bytes, media_type=JSON))
async def get_result(
    request: Request, batch_id: str, file_id: str, caller: CallerDep, gateway: GatewayDep,
    waited_for: Annotated[int, MIN_SEQ],
) -> Response:  # fmt: skip
    """The result's JSON, as its processor gave it: a file that has one has nothing later in the log."""
    event = (await last_event(gateway, caller, batch_id, file_id)).event
    if not isinstance(event, FileCompleted):
        raise NotFound("result_not_ready", "The file has no result.")
    position = waited_for or gateway.positions.known or await gateway.positions.now()
    headers = {**SAFE_HEADERS, "Tanda-Seq": str(position)}
    if event.result_ref is not None:
        return await blob_response(request, gateway.blobs, event.result_ref, JSON, headers)
    etag = f'"{event.result_sha256}"'
    if matches(request.headers.get("if-none-match"), etag):
        return not_modified(etag, headers)
    return Response(bytes(event.result), headers={**headers, "ETag": etag}, media_type=JSON)


@router.get(_BASE + "/artifacts/{name}", openapi_extra=answers(200, bytes, media_type="*/*"))
async def get_artifact(
    request: Request, batch_id: str, file_id: str, name: str, caller: CallerDep, gateway: GatewayDep
) -> Response:
    """A file that the processor made beside the result."""
    _, (_, blobs) = await _found(gateway, caller, batch_id, file_id)
    for artifact in blobs.artifacts:
        if artifact.name == name:
            headers = {"Content-Disposition": attachment(name)}
            return await blob_response(request, gateway.blobs, artifact.blob, artifact.content_type, headers)
    raise NotFound("artifact_not_found", "The file has no such artifact.")


async def _found(
    gateway: Gateway, caller: Caller, batch_id: str, file_id: str
) -> AsOf[tuple[File, FileBlobs]]:
    seq, file = await seen(gateway, caller, batch_id, file_id, gateway.views.file)
    _, blobs = await seen(gateway, caller, batch_id, file_id, gateway.views.blobs)
    return AsOf(seq, (file, blobs))
