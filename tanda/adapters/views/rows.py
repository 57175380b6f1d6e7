"""Reading a view's rows as a whole: digests, and row by row."""

from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec

from tanda.adapters.postgres import Connection
from tanda.adapters.sql import named
from tanda.contracts.views import Checkpoint, Table, TableDigest

_SQL = named("checkpoints")
_ROWS_AHEAD = 1_000


class SchemaRows:
    """Rows of any schema, through one connection and what its transaction sees."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def checkpoint(self, schema: str) -> Checkpoint | None:
        """None where there is no such schema."""
        return await read_checkpoint(self._connection, schema)

    async def digest(self, schema: str, tables: Sequence[Table]) -> dict[str, TableDigest]:
        """Rows and digest of every table."""
        found: dict[str, TableDigest] = {}
        for table in tables:
            row = await self._connection.fetchrow(_sql("digest", schema, table))
            assert row is not None, "an aggregate has a row"
            found[table.name] = TableDigest(rows=row["rows"], digest=row["digest"])
        return found

    async def lines(self, schema: str, table: Table) -> AsyncIterator[str]:
        """Every row of a table as JSON, in key order, as it is streamed."""
        async for row in self._connection.cursor(_sql("rows", schema, table), prefetch=_ROWS_AHEAD):
            yield row["line"]

    async def first(self, schema: str, table: Table, rows_max: int) -> list[msgspec.Raw]:
        """The first rows of a table as JSON, in key order."""
        found = await self._connection.fetch(f"{_sql('rows', schema, table)} limit $1", rows_max)
        return [msgspec.Raw(row["line"].encode()) for row in found]


async def read_checkpoint(connection: Connection, schema: str) -> Checkpoint | None:
    """The checkpoint of a schema, None where there is no such schema."""
    try:
        async with connection.transaction():
            row = await connection.fetchrow(_SQL["read"].format(schema=schema))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    assert row is not None, f"{schema}.checkpoint has its one row from the start"
    return Checkpoint(seq=row["seq"], event_id=row["event_id"], version=row["version"])


def _sql(name: str, schema: str, table: Table) -> str:
    return _SQL[name].format(schema=schema, table=table.name, order=_order(table))


def _order(table: Table) -> str:
    """The key as an ``order by`` that is the same in every database: text by its code points."""
    return ", ".join(
        f't.{name} collate "C"' if table.columns[name].type == "text" else f"t.{name}" for name in table.key
    )
