"""Bulk actions while they are carried out: in PostgreSQL for every gateway, or in this process's memory."""

import time
from collections.abc import Callable

import asyncpg
import msgspec

from tanda.adapters.postgres import answering
from tanda.adapters.sql import named
from tanda.contracts.codec import encode
from tanda.contracts.http import BulkRun

_SQL = named("bulk")
#: What has ended is told for as long as the key it was asked with is kept.
KEPT_S = 24 * 3_600.0
_run = msgspec.json.Decoder(BulkRun)


class PostgresBulk:
    """Runs in the table ``tanda.bulk_actions``."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def create(self, run: BulkRun) -> None:
        await self._fetch("create", run.id, _text(run))

    async def get(self, bulk_id: str) -> BulkRun | None:
        return await self._fetch("get", bulk_id)

    async def claim(self, holder: str, lease_s: float) -> BulkRun | None:
        return await self._fetch("claim", holder, lease_s)

    async def keep(self, run: BulkRun, holder: str, lease_s: float) -> bool:
        return await self._fetch("keep", run.id, holder, _text(run), lease_s) is not None

    async def finish(self, run: BulkRun, holder: str, at: str) -> None:
        done = msgspec.structs.replace(run, status="completed", finished_at=at)
        await self._fetch("finish", run.id, holder, _text(done))

    async def abort(self, bulk_id: str, at: str) -> None:
        run = await self.get(bulk_id)
        while run is not None and run.status == "running":
            ended = msgspec.structs.replace(run, status="aborted", finished_at=at)
            if await self._fetch("abort", bulk_id, _text(run), _text(ended)):
                return
            run = await self.get(bulk_id)

    async def forget_older(self, age_s: float = KEPT_S) -> None:
        await self._fetch("forget", age_s)

    async def _fetch(self, name: str, *arguments: object) -> BulkRun | None:
        async with answering(self._pool) as connection:
            text: str | None = await connection.fetchval(_SQL[name], *arguments)
        return None if text is None else _run.decode(text)


class MemoryBulk:
    """The same in this process's memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[str, BulkRun] = {}
        self._leases: dict[str, tuple[str, float]] = {}

    async def create(self, run: BulkRun) -> None:
        self._runs.setdefault(run.id, run)
        self._leases.setdefault(run.id, ("", self._clock()))

    async def get(self, bulk_id: str) -> BulkRun | None:
        return self._runs.get(bulk_id)

    async def claim(self, holder: str, lease_s: float) -> BulkRun | None:
        now = self._clock()
        for run in self._runs.values():
            if run.status == "running" and self._leases[run.id][1] <= now:
                self._leases[run.id] = (holder, now + lease_s)
                return run
        return None

    async def keep(self, run: BulkRun, holder: str, lease_s: float) -> bool:
        if self._runs[run.id].status != "running" or self._leases[run.id][0] != holder:
            return False
        self._runs[run.id] = run
        self._leases[run.id] = (holder, self._clock() + lease_s)
        return True

    async def finish(self, run: BulkRun, holder: str, at: str) -> None:
        if self._runs[run.id].status == "running" and self._leases[run.id][0] == holder:
            self._runs[run.id] = msgspec.structs.replace(run, status="completed", finished_at=at)

    async def abort(self, bulk_id: str, at: str) -> None:
        run = self._runs.get(bulk_id)
        if run is not None and run.status == "running":
            self._runs[bulk_id] = msgspec.structs.replace(run, status="aborted", finished_at=at)

    async def forget_older(self, age_s: float = KEPT_S) -> None:
        oldest = self._clock() - age_s
        for bulk_id, run in list(self._runs.items()):
            if run.status != "running" and self._leases[bulk_id][1] < oldest:
                del self._runs[bulk_id]


def _text(run: BulkRun) -> str:
    return encode(run).decode()
