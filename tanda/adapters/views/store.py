"""Where the projector keeps its views: one schema each, with the checkpoint beside the rows.

The live schema is ``view_<name>``; a rebuild fills ``shadow_<name>_<random>`` and takes its place by
two renames. Three guards keep rows and checkpoint together: a commit advances the checkpoint only
from where its writer had seen it (compare and set), in the transaction that writes the rows; and it
shares a lock that a swap takes for itself, so that no statement of it ends up in another schema.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import structlog

from tanda.adapters.postgres import Connection, borrowed, failures
from tanda.adapters.sql import named
from tanda.adapters.views.rows import SchemaRows, read_checkpoint
from tanda.adapters.views.shadow import SchemaShadow, live_schema, write
from tanda.adapters.views.writes import commit
from tanda.contracts.views import Checkpoint, Step
from tanda.domain.errors import TandaError

_log = structlog.get_logger("tanda.views")
_SQL = named("checkpoints")


class ViewStore:
    """The live views in PostgreSQL, and the shadows of those being rebuilt."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def checkpoint(self, view: str) -> Checkpoint | None:
        """The live view's checkpoint, None where there is no such view."""
        with failures():
            async with self._pool.acquire() as connection:
                return await read_checkpoint(connection, live_schema(view))

    async def commit(self, steps: Sequence[Step]) -> None:
        """Writes all steps in one transaction or none. Conflict where a checkpoint has moved."""
        try:
            await self._commit(steps)
        except asyncpg.UniqueViolationError as error:
            # Another projector was there first, which is a Conflict now; or the log has told of it twice.
            await self._commit(steps, clear=True)
            _log.warning("the log tells of a second beginning, the last one counts", reason=str(error))

    async def _commit(self, steps: Sequence[Step], *, clear: bool = False) -> None:
        places = [(live_schema(step.view), step) for step in steps]
        async with borrowed(self._pool) as connection, _unswapped(connection, [at for at, _ in places]):
            await commit(connection, places, clear=clear)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[SchemaRows]:
        """Rows as they are now, whatever is committed later."""
        async with (
            borrowed(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute("select pg_current_snapshot()")
            yield SchemaRows(connection)

    @asynccontextmanager
    async def shadow(
        self, view: str, version: str, ddl: str, *, passing: bool = False
    ) -> AsyncGenerator[SchemaShadow]:
        """An empty shadow of a view; left behind are the swapped and the kept, nothing else.

        A ``passing`` one is to be neither: what the block drops need not go through the server's log.
        Where the block fails, what is there is left for the next rebuild to clear up.
        """
        async with borrowed(self._pool) as connection:
            one = SchemaShadow(connection, self.snapshot, view, version)
            try:
                await one.create(_unlogged(ddl) if passing else ddl)
                yield one
                await one.leave()
            finally:
                await one.close()
                await one.unlock()

    async def fill(self, steps: Sequence[tuple[str, Step]]) -> None:
        """Writes into schemas of shadows that somebody else holds, all steps in one transaction or none.

        Conflict where a checkpoint is elsewhere, or a shadow is not there any more.
        """
        async with borrowed(self._pool) as connection:
            await write(connection, steps)

    async def drop(self, view: str) -> None:
        """Drops a live view that no log tells of any more; the next rebuild makes it from nothing."""
        with failures():
            async with self._pool.acquire() as connection:
                await connection.execute(f"drop schema if exists {live_schema(view)} cascade")

    async def drop_abandoned(self, view: str) -> list[str]:
        """Drops what killed rebuilds of a view left behind; what is being built, its builder has locked."""
        dropped: list[str] = []
        async with borrowed(self._pool) as connection:
            for prefix in ("shadow_", "retired_"):
                for row in await connection.fetch(_SQL["schemas"], f"{prefix}{view}_"):
                    if await _drop_unlocked(connection, row["nspname"], prefix):
                        dropped.append(row["nspname"])
        if dropped:
            _log.info("dropped what an interrupted rebuild left behind", schemas=dropped)
        return dropped


@asynccontextmanager
async def _unswapped(connection: Connection, schemas: Sequence[str]) -> AsyncGenerator[None]:
    """A transaction in which no view is swapped: begun and locked in one way to the server and back.

    On a ``borrowed`` connection, which is cut where anything but an error of ours comes out of it.
    """
    locks = (_SQL["lock_shared"].format(schema=schema) for schema in schemas)
    await connection.execute("; ".join(("begin", *locks)))
    try:
        yield
    except TandaError:
        await connection.execute("rollback")
        raise
    await connection.execute("commit")


def _unlogged(ddl: str) -> str:
    return ddl.replace("create table ", "create unlogged table ")


async def _drop_unlocked(connection: Connection, schema: str, prefix: str) -> bool:
    token = schema.removeprefix(prefix)
    if not await connection.fetchval(_SQL["try_lock"], token):
        return False
    await connection.execute(f"drop schema if exists {schema} cascade")
    await connection.execute(_SQL["unlock"], token)
    return True
