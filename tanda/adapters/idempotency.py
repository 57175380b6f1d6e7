"""Requests that happen once: keys, the ids they reserve and the answers they got.

A holder leases its key. Where it dies, the next request with the same body takes over under the
same resource id, so that the log itself refuses what was already written.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from tanda.adapters.postgres import answering
from tanda.adapters.sql import named
from tanda.contracts.idempotency import Begun, Fresh, Mismatch, Replay, Running

_SQL = named("idempotency")

#: A holder renews at a third of this.
LEASE_S = 10.0
#: As the HTTP contract says, and as Stripe keeps them.
KEPT_S = 24 * 3_600.0


class PostgresIdempotency:
    """Keys in the table ``tanda.idempotency``, for every gateway."""

    def __init__(self, pool: asyncpg.Pool, *, lease_s: float = LEASE_S, kept_s: float = KEPT_S) -> None:
        self._pool = pool
        self._lease_s = lease_s
        self._kept_s = kept_s

    async def begin(self, tenant: str, key: str, body_sha256: str, resource_id: str) -> Begun:
        """Reserves a key, or tells what has become of it. ``resource_id`` is taken for a new key only."""
        async with answering(self._pool) as connection, connection.transaction():
            await connection.execute(_SQL["expire"], tenant, key, self._kept_s)
            arguments = (tenant, key, body_sha256, resource_id, self._lease_s)
            reserved: str | None = await connection.fetchval(_SQL["begin"], *arguments)
            if reserved is not None:
                return Fresh(reserved)
            row = await connection.fetchrow(_SQL["find"], tenant, key)
        if row is None:
            return Running()
        return _told(row["body_sha256"] in (None, body_sha256), row["answer"])

    async def renew(self, tenant: str, key: str) -> None:
        """Keeps the key for another lease."""
        await self._execute("renew", tenant, key, self._lease_s)

    async def finish(self, tenant: str, key: str, answer: bytes) -> None:
        """Stores the answer for every repeat."""
        await self._execute("finish", tenant, key, answer)

    async def release(self, tenant: str, key: str) -> None:
        """Gives the key back after a refusal: the request may be repeated, with another body too."""
        await self._execute("release", tenant, key)

    async def forget_older(self, age_s: float = KEPT_S) -> None:
        """Drops what is past its time."""
        await self._execute("forget", age_s)

    async def forget_lost(self) -> int:
        """Drops the keys of batches that are in no view; for a log that has lost its last events."""
        async with answering(self._pool) as connection:
            if await connection.fetchval("select to_regclass('tanda.idempotency')") is None:
                return 0
            return len(await connection.fetch(_SQL["forget_lost"]))

    async def _execute(self, name: str, *arguments: object) -> None:
        async with answering(self._pool) as connection:
            await connection.execute(_SQL[name], *arguments)


@dataclass
class _Row:
    body_sha256: str | None
    resource_id: str
    lease_until: float
    created_at: float
    answer: bytes | None = None


class MemoryIdempotency:
    """The same in this process's memory."""

    def __init__(
        self,
        *,
        lease_s: float = LEASE_S,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease_s = lease_s
        self._kept_s = kept_s
        self._clock = clock
        self._rows: dict[tuple[str, str], _Row] = {}

    async def begin(self, tenant: str, key: str, body_sha256: str, resource_id: str) -> Begun:
        now = self._clock()
        row = self._rows.get((tenant, key))
        if row is None or row.created_at < now - self._kept_s:
            self._rows[tenant, key] = _Row(body_sha256, resource_id, now + self._lease_s, now)
            return Fresh(resource_id)
        same = row.body_sha256 in (None, body_sha256)
        if row.answer is None and row.lease_until <= now and same:
            row.lease_until, row.body_sha256 = now + self._lease_s, body_sha256
            return Fresh(row.resource_id)
        return _told(same, row.answer)

    async def renew(self, tenant: str, key: str) -> None:
        if (row := self._open(tenant, key)) and row.body_sha256 is not None:
            row.lease_until = self._clock() + self._lease_s

    async def finish(self, tenant: str, key: str, answer: bytes) -> None:
        if row := self._open(tenant, key):
            row.answer = answer

    async def release(self, tenant: str, key: str) -> None:
        if row := self._open(tenant, key):
            row.lease_until, row.body_sha256 = self._clock(), None

    async def forget_older(self, age_s: float = KEPT_S) -> None:
        oldest = self._clock() - age_s
        self._rows = {key: row for key, row in self._rows.items() if row.created_at >= oldest}

    def _open(self, tenant: str, key: str) -> _Row | None:
        row = self._rows.get((tenant, key))
        return row if row is not None and row.answer is None else None


def _told(same_body: bool, answer: bytes | None) -> Begun:
    if not same_body:
        return Mismatch()
    return Running() if answer is None else Replay(answer)
