"""The few durable tables, schema ``tanda``: numbered SQL files, each applied once, in order.

The read models are none of them: a changed view is rebuilt from the log.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

import asyncpg
import structlog

from tanda.adapters.postgres import Connection, failures

_log = structlog.get_logger("tanda.migrations")

_BOOK = """
create schema if not exists tanda;
create table if not exists tanda.migrations (
    number int primary key, name text not null, applied_at timestamptz not null default now()
)
"""


async def migrate(pool: asyncpg.Pool) -> list[str]:
    """Applies what is missing and returns its names; processes that start together take turns."""
    with failures():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(hashtextextended('tanda.migrations', 0))")
            await connection.execute(_BOOK)
            done = {row["number"] for row in await connection.fetch("select number from tanda.migrations")}
            applied = [name for name in _names() if int(name[:4]) not in done]
            for name in applied:
                await _apply(connection, name)
    if applied:
        _log.info("brought the durable tables up to date", migrations=applied)
    return applied


async def _apply(connection: Connection, name: str) -> None:
    await connection.execute(_folder().joinpath(f"{name}.sql").read_text(encoding="utf-8"))
    sql = "insert into tanda.migrations (number, name) values ($1, $2)"
    await connection.execute(sql, int(name[:4]), name)


def _names() -> list[str]:
    """``0001_idempotency`` and so on, in order."""
    names = (file.name for file in _folder().iterdir())
    return sorted(name.removesuffix(".sql") for name in names if name.endswith(".sql"))


def _folder() -> Traversable:
    return files("tanda.adapters").joinpath("sql", "migrations")
