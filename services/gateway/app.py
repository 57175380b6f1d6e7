"""The application: routes, middleware and the tasks that run beside them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from services.gateway import callbacks, console, health, openapi, problems
from services.gateway.access import Keys, OpenModeGuard
from services.gateway.batches import reads, writes
from services.gateway.control import bulk_routes, limits, system
from services.gateway.control import routes as control
from services.gateway.deps import Deps, Gateway
from services.gateway.downloads import files, results
from services.gateway.legacy.routes import ROUTERS as OLDER_FRONT_ENDS
from services.gateway.live import laggards
from services.gateway.live import routes as live
from services.gateway.metrics import Measured

TITLE = "Tanda"
API_VERSION = "1"


def create_app(deps: Deps) -> FastAPI:
    """The gateway over the given ports."""
    gateway = Gateway(deps)
    app = FastAPI(
        title=TITLE, version=API_VERSION, lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.gateway = gateway
    app.state.keys = Keys(deps.settings.api_keys, deps.settings.operators)
    # live before reads and downloads: /events is no batch; writes last, since a file's name is any path
    for router in (health.router, health.private_router, openapi.router, live.router, reads.router,
                   files.router, results.router, control.router, bulk_routes.router, limits.router,
                   system.router, callbacks.router, *OLDER_FRONT_ENDS, writes.router,
                   console.router):  # fmt: skip
        # As they are: included, FastAPI would make each of them anew within the first request (0.1 s of CPU)
        # and look for the route of every request twice.
        app.router.routes += router.routes
    problems.install(app)
    openapi.install(app)
    if app.state.keys.open:
        app.add_middleware(OpenModeGuard)
    app.add_middleware(problems.BugShield)
    app.add_middleware(Measured, metrics=gateway.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    gateway: Gateway = app.state.gateway
    hub = gateway.hub
    runs = (hub.run(), hub.ping_for_ever(), laggards.tell_for_ever(gateway),
            gateway.positions.run(), gateway.bulk.run())  # fmt: skip
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
