"""A database of a test's own on the run's server: the views' schemas have fixed names."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex
from urllib.parse import urlsplit

import asyncpg
import msgspec

from tanda.settings import Settings


@asynccontextmanager
async def own_database(settings: Settings) -> AsyncGenerator[Settings]:
    """The same settings with a new, empty database, dropped at the end."""
    name = f"test_{token_hex(6)}"
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        await connection.execute(f"create database {name}")
        dsn = urlsplit(settings.postgres_dsn)._replace(path=f"/{name}").geturl()
        yield msgspec.structs.replace(settings, postgres_dsn=dsn)
    finally:
        await _drop(connection, name)
        await connection.close()


async def _drop(connection: asyncpg.Connection, name: str) -> None:
    """The server's own cleaner may be at work in it for a moment, and is not ours to end."""
    for _ in range(100):
        try:
            await connection.execute(f"drop database if exists {name} with (force)")
            return
        except asyncpg.InsufficientPrivilegeError:
            await asyncio.sleep(0.1)
    raise AssertionError(f"{name} could not be dropped")
