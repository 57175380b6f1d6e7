"""Is it alive, can it work, what has it done, which version is it. The only routes without a credential."""

import asyncio
import platform
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import msgspec
import structlog
from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from services.gateway.access import authenticate
from services.gateway.answers import JSON
from services.gateway.deps import GatewayDep
from services.gateway.openapi import answers
from tanda.contracts import codec

router = APIRouter(tags=["health"])
#: Counts tell of tenants' business, so these want a credential where there are keys.
private_router = APIRouter(tags=["health"], dependencies=[Depends(authenticate)])

DEADLINE_S = 2.0
log = structlog.get_logger(__name__)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["ok", "unavailable"]
    #: By dependency.
    checks: dict[str, Literal["ok", "unavailable"]] = {}


class Version(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    python: str


@router.get("/healthz", openapi_extra=answers(200, Health))
async def healthz() -> Response:
    """The process is alive."""
    return Response(codec.encode(Health(status="ok")), media_type=JSON)


@router.get("/readyz", openapi_extra=answers(200, Health))
async def readyz(gateway: GatewayDep) -> Response:
    """Each dependency by name; 503 where one does not answer within two seconds."""
    checks = gateway.deps.checks
    outcomes = await asyncio.gather(*(_check(name, check) for name, check in checks.items()))
    found = dict(zip(checks, outcomes, strict=True))
    ready = all(outcome == "ok" for outcome in outcomes) and not gateway.hub.draining
    health = Health(status="ok" if ready else "unavailable", checks=found)
    headers = {"Cache-Control": "no-store"}
    return Response(codec.encode(health), 200 if ready else 503, headers, media_type=JSON)


@router.get("/version", openapi_extra=answers(200, Version))
async def get_version() -> Response:
    """Which release this is."""
    try:
        release = version("tanda")
    except PackageNotFoundError:
        release = "0"
    body = Version(name="tanda", version=release, python=platform.python_version())
    return Response(codec.encode(body), media_type=JSON)


@private_router.get("/metrics", openapi_extra=answers(200, bytes, media_type="text/plain"))
async def metrics(gateway: GatewayDep) -> Response:
    """For Prometheus."""
    gateway.metrics.clients.set(gateway.hub.clients)
    return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _check(name: str, check: Callable[[], Awaitable[None]]) -> Literal["ok", "unavailable"]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            await check()
    except Exception as error:  # whatever it is, it is not ready
        log.warning("A dependency is not ready.", dependency=name, error=str(error))
        return "unavailable"
    return "ok"
