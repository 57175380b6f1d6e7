"""A database of a test's own on the run's server: the views' schemas have fixed names."""

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
        await connection.execute(f"drop database if exists {name} with (force)")
        await connection.close()
