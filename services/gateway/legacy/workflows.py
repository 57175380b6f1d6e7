"""The front end of workflows (000): a workflow is a file, its images are what was made of it."""

from typing import Literal

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import CallerDep, authenticate
from services.gateway.answers import read
from services.gateway.deps import GatewayDep
from services.gateway.legacy.reading import Fresh, all_files, batch_seen, message_of
from services.gateway.openapi import answers
from tanda.contracts.events import FileStatus
from tanda.contracts.http import Batch, BatchStatus, Body, File

router = APIRouter(tags=["older front ends"], dependencies=[Depends(authenticate)])

WorkflowStatus = Literal["processing", "completed", "error"]
#: A batch that has anything to show is completed; its results tell which workflows failed.
STATUS: dict[BatchStatus, WorkflowStatus] = {
    "completed": "completed",
    "completed_with_errors": "completed",
    "failed": "error",
    "cancelled": "error",
}
_FILE: dict[FileStatus, WorkflowStatus] = {
    "completed": "completed",
    "failed": "error",
    "rejected": "error",
    "cancelled": "error",
}


class WorkflowImage(Body, frozen=True, kw_only=True):
    workflow_id: str
    name: str
    content_type: str
    url: str


class WorkflowResult(Body, frozen=True, kw_only=True):
    workflow_id: str
    name: str
    status: WorkflowStatus
    images: list[WorkflowImage]
    result_url: str | None
    error: str | None


class WorkflowsStatus(Body, frozen=True, kw_only=True):
    batch_id: str
    #: The same id: a batch has one everywhere.
    batch_tracking_id: str
    status: WorkflowStatus
    total_workflows: int
    completed_workflows: int
    results: list[WorkflowResult]
    all_images: list[WorkflowImage]
    image_urls: list[str]


@router.get("/batch-status/{batch_id}", openapi_extra=answers(200, WorkflowsStatus))
async def batch_status(
    request: Request, batch_id: str, caller: CallerDep, gateway: GatewayDep, position: Fresh
) -> Response:
    """A batch with the images that are there so far; the same answer while it runs and after."""
    batch = await batch_seen(gateway, caller, batch_id)
    return read(request, status_of(batch, await all_files(gateway, caller, batch_id)), position)


def status_of(batch: Batch, files: list[File]) -> WorkflowsStatus:
    results = [_result(file) for file in files]
    images = [image for result in results for image in result.images]
    return WorkflowsStatus(
        batch_id=batch.id,
        batch_tracking_id=batch.id,
        status=STATUS.get(batch.status, "processing"),
        total_workflows=len(results),
        completed_workflows=sum(result.status == "completed" for result in results),
        results=results,
        all_images=images,
        image_urls=[image.url for image in images],
    )


def _result(file: File) -> WorkflowResult:
    return WorkflowResult(
        workflow_id=file.id,
        name=file.name,
        status=_FILE.get(file.status, "processing"),
        images=[
            WorkflowImage(workflow_id=file.id, name=one.name, content_type=one.content_type, url=one.url)
            for one in file.artifacts
            if one.content_type.startswith("image/")
        ],
        result_url=file.result_url,
        error=message_of(file),
    )
