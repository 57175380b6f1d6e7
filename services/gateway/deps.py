"""What the gateway is made of, and how its routes come by it."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

import msgspec
from fastapi import Depends
from starlette.requests import Request

from services.gateway.access import Caller
from services.gateway.answers import Answer
from services.gateway.batches.accept import Accept
from services.gateway.batches.positions import ViewPositions
from services.gateway.control.bulk import BulkActions
from services.gateway.control.reasons import Reasons
from services.gateway.downloads.documents import Documents
from services.gateway.idempotency import Idempotency, Outcome, once
from services.gateway.live.hub import Hub
from services.gateway.metrics import Metrics
from services.gateway.upload.body import GRACE_S
from services.gateway.upload.intake import Intake
from tanda.contracts import ids
from tanda.ports import Blobs, Board, BulkStore, Log, Signals, Views
from tanda.results import ResultsCache
from tanda.settings import Settings, providers

#: ``auto``, and the entry points that come with the house.
PROCESSORS = frozenset({"auto", "noop", "invoice", "pdf", "image", "table"})


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Deps(msgspec.Struct, kw_only=True):
    """The outside world as ports; ``__main__`` gives real servers, a test gives memory."""

    settings: Settings
    log: Log
    blobs: Blobs
    views: Views
    signals: Signals
    board: Board
    bulk: BulkStore
    idempotency: Idempotency
    results: ResultsCache
    #: By dependency: returns where it answers, raises where it does not.
    checks: Mapping[str, Callable[[], Awaitable[None]]] = {}
    processors: frozenset[str] = PROCESSORS
    now_ms: Callable[[], int] = now_ms
    source: str = "/gateway"
    #: What a body may be behind its minimum rate before it is cut.
    body_grace_s: float = GRACE_S


class Gateway:
    """The parts that the routes use, made once from the ports."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        self.settings = deps.settings
        self.log = deps.log
        self.blobs = deps.blobs
        self.views = deps.views
        self.results = deps.results
        self.documents = Documents(deps.blobs)
        self.providers = providers(deps.settings)
        #: Those of the house, and those that call a provider that is configured.
        self.processors = deps.processors | {one.partition("-")[0] for one in self.providers}
        self.now_ms = deps.now_ms
        self.metrics = Metrics()
        self.accept = Accept(deps.log, deps.source, deps.settings.patience_s, deps.now_ms)
        self.intake = Intake(deps.settings, deps.blobs, deps.body_grace_s)
        self.positions = ViewPositions(deps.views, deps.signals)
        self.hub = Hub(deps.log, deps.settings, self.metrics.sent)
        self.reasons = Reasons(deps.board)
        self.bulk = BulkActions(deps.bulk, deps.views, self.accept, deps.now_ms)

    def new_batch_id(self) -> str:
        return ids.make_id(ids.BATCH, self.now_ms(), os.urandom(10))

    async def once(
        self,
        caller: Caller,
        key: str | None,
        digest: str,
        resource_id: str,
        work: Callable[[str], Awaitable[Answer]],
    ) -> Outcome:
        """Does the work, or gives the answer of the first time; see ``idempotency``."""
        return await once(self.deps.idempotency, caller.tenant, key, digest, resource_id, work)


async def _gateway(request: Request) -> Gateway:
    return request.app.state.gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
