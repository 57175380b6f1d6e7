"""A view being built beside the live one, until it takes its place or is dropped."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from secrets import token_hex

import asyncpg

from tanda.adapters.postgres import Connection, failures
from tanda.adapters.sql import named
from tanda.adapters.views.rows import SchemaRows, read_checkpoint
from tanda.adapters.views.writes import commit
from tanda.contracts.views import Checkpoint, Step, Write
from tanda.domain.errors import Unavailable

_SQL = named("checkpoints")

#: What follows this line of a view's DDL is made after the rows: one sort instead of many insertions.
_INDEXES = "\n-- indexes\n"

#: Brings the shadow to a position; called while live commits wait, so little may be missing.
CatchUp = Callable[[int], Awaitable[None]]
Snapshot = Callable[[], AbstractAsyncContextManager[SchemaRows]]


def live_schema(view: str) -> str:
    """Where a live view's rows are."""
    return f"view_{view}"


async def write(connection: Connection, steps: Sequence[tuple[str, Step]]) -> None:
    """Rows and positions of shadows, all or none; a crash loses them, and nothing waits for the disk here."""
    try:
        await _write(connection, steps)
    except asyncpg.UniqueViolationError:
        await _write(connection, steps, clear=True)


async def _write(connection: Connection, steps: Sequence[tuple[str, Step]], *, clear: bool = False) -> None:
    async with connection.transaction():
        await connection.execute("set local synchronous_commit = off")
        await commit(connection, steps, clear=clear)


class SchemaShadow:
    """One schema and the connection that fills it; the connection's lock says that it is in use."""

    def __init__(self, connection: Connection, snapshot: Snapshot, view: str, version: str) -> None:
        self._connection = connection
        self._snapshot = snapshot
        self._view = view
        self._token = f"{view}_{token_hex(4)}"
        self._schema: str | None = None
        #: The view that this one replaced, until the shadow is left.
        self.retired: str | None = None
        self.checkpoint = Checkpoint(seq=0, event_id=None, version=version)
        self._snapshots = AsyncExitStack()
        self._indexes = ""

    @property
    def schema(self) -> str:
        """Where the rows are: the live schema, once it is swapped."""
        assert self._schema is not None, "created when it was entered"
        return self._schema

    async def create(self, ddl: str) -> None:
        """The empty tables."""
        run = self._connection.execute
        schema = f"shadow_{self._token}"
        tables, _, self._indexes = ddl.partition(_INDEXES)
        with failures():
            await run(_SQL["lock_exclusive"], self._token)
            async with self._connection.transaction():
                await run(f"create schema {schema}")
                await run(f"set local search_path = {schema}")
                await run(tables)
                await run(_SQL["create"].format(schema=schema))
                await run(_SQL["start"].format(schema=schema), self.checkpoint.version)
        self._schema = schema

    async def apply(self, writes: Sequence[Write], seq: int, event_id: str) -> None:
        """Rows and position; a crash loses the shadow, so that nothing waits for the disk here."""
        step = Step(view=self._view, seen=self.checkpoint, seq=seq, event_id=event_id, writes=list(writes))
        with failures():
            await write(self._connection, [(self.schema, step)])
        self.checkpoint = Checkpoint(seq=seq, event_id=event_id, version=self.checkpoint.version)

    async def refresh(self) -> None:
        """Takes the checkpoint from the schema: other connections have written there."""
        with failures():
            found = await read_checkpoint(self._connection, self.schema)
        assert found is not None, "nobody else drops what is locked"
        self.checkpoint = found

    async def index(self) -> None:
        """Makes the indexes that only readers need; a second time does nothing."""
        if not self._indexes:
            return
        with failures():
            async with self._connection.transaction():
                await self._connection.execute(f"set local search_path = {self.schema}")
                await self._connection.execute(self._indexes)
        self._indexes = ""

    async def swap(self, catch_up: CatchUp, *, only_other_version: bool = False) -> SchemaRows | None:
        """Becomes the live view. Returns a snapshot of old and new at one position, where there is one.

        ``only_other_version`` leaves a live view of the same version alone: somebody was faster.
        The snapshot stays open until the shadow is left.
        """
        await self.index()
        with failures():
            await self._connection.execute(_SQL["lock_exclusive"], live_schema(self._view))
            try:
                return await self._swap(catch_up, only_other_version)
            finally:
                await self._connection.execute(_SQL["unlock"], live_schema(self._view))

    async def _swap(self, catch_up: CatchUp, only_other_version: bool) -> SchemaRows | None:
        live = await read_checkpoint(self._connection, live_schema(self._view))
        same = live is not None and live.version == self.checkpoint.version
        if only_other_version and same:
            return None
        if live is not None and live.seq > self.checkpoint.seq:
            await catch_up(live.seq)
        comparable = live is not None and same and live.seq == self.checkpoint.seq
        snapshot = await self._snapshots.enter_async_context(self._snapshot()) if comparable else None
        await self._rename(retire=live is not None)
        return snapshot

    async def _rename(self, *, retire: bool) -> None:
        live, retired = live_schema(self._view), f"retired_{self._token}"
        async with self._connection.transaction():
            if retire:
                await self._connection.execute(f"alter schema {live} rename to {retired}")
            await self._connection.execute(f"alter schema {self.schema} rename to {live}")
        self.retired = retired if retire else None
        self._schema = live

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[SchemaRows]:
        """Its own rows."""
        with failures():
            async with self._connection.transaction(readonly=True):
                yield SchemaRows(self._connection)

    async def keep(self) -> str:
        """Leaves the schema behind under a name that no clean-up touches."""
        kept = f"kept_{self._token}"
        with failures():
            await self._connection.execute(f"alter schema {self.schema} rename to {kept}")
        self._schema = kept
        return kept

    async def leave(self) -> None:
        """Drops what is of no use any more: the replaced view, or the shadow itself."""
        await self.close()
        with failures():
            for schema in (self.retired, self._schema):
                if schema is not None and schema.startswith(("shadow_", "retired_")):
                    await self._connection.execute(f"drop schema {schema} cascade")

    async def close(self) -> None:
        """Ends the snapshot that a swap gave out; it would hold up the drop of the replaced view."""
        await self._snapshots.aclose()

    async def unlock(self) -> None:
        """It is in use no more; a connection that is lost has no locks."""
        with suppress(Unavailable), failures():
            await self._connection.execute(_SQL["unlock"], self._token)
