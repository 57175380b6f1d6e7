"""A pool of PostgreSQL connections, and what its errors mean to us."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tanda.domain.errors import TandaError, Unavailable
from tanda.settings import Settings

CONNECTIONS_MAX = 10
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0
#: How long a request waits for PostgreSQL. A server that hangs cannot end its statements by itself.
ANSWER_S = 10.0

Connection = asyncpg.Connection | PoolConnectionProxy

#: The server is away, restarting, full or overloaded, or it undid a transaction for another's sake.
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # asyncpg's own confusion where a connection is lost in the middle of a COPY
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
#: The read models are not there yet, or are of another version and about to be swapped.
_NOT_BUILT = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)


async def open_pool(
    settings: Settings,
    name: str,
    *,
    connections_max: int = CONNECTIONS_MAX,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    waits_for_disk: bool = True,
) -> asyncpg.Pool:
    """A pool that connects when it is first used, so that a server that is away is no error here.

    ``waits_for_disk=False`` is for what can be made again: a crash of the server may undo the last commits,
    each whole and the latest first.
    """
    return await asyncpg.create_pool(
        settings.postgres_dsn,
        min_size=0,
        max_size=connections_max,
        timeout=CONNECT_TIMEOUT_S,
        reset=_as_it_is,
        server_settings={
            "application_name": name,
            "statement_timeout": str(round(statement_timeout_s * 1000)),
            # short statements over warm tables: compiling them costs more than it saves
            "jit": "off",
            # rows are in memory, or on a disk that seeks in no time: by the default, made for one that does
            # not, all of a table of 20,000 rows was read for a thousand of them
            "random_page_cost": "1.1",
            "synchronous_commit": "on" if waits_for_disk else "off",
            # a kept plan is made for a small table and arrays of any length: for thousands of rows its nested
            # loop took seconds where a hash takes milliseconds
            "plan_cache_mode": "force_custom_plan",
        },
    )


async def _as_it_is(connection: Connection) -> None:
    """A reset would be a way to the server and back after every question, as long as most of them take:
    who changes a session's state undoes it."""
    del connection


@contextmanager
def failures() -> Generator[None]:
    """Turns what PostgreSQL's absence looks like into Unavailable; a wrong statement stays a bug."""
    try:
        yield
    except asyncpg.DataError:
        raise
    except _NOT_BUILT as error:
        raise Unavailable("postgres", "the read models are being built") from error
    except _UNAVAILABLE as error:
        raise Unavailable("postgres", str(error) or type(error).__name__) from error


@asynccontextmanager
async def borrowed(pool: asyncpg.Pool) -> AsyncGenerator[Connection]:
    """A connection that is cut where its user is cancelled or fails in the middle of something.

    Resetting it would have to wait for what is still under way on it, and may fail to.
    """
    with failures():
        connection = await pool.acquire()
        try:
            yield connection
        except TandaError:
            raise
        except BaseException:
            with suppress(asyncpg.InterfaceError):
                connection.terminate()
            raise
        finally:
            await pool.release(connection)


@asynccontextmanager
async def answering(pool: asyncpg.Pool) -> AsyncGenerator[Connection]:
    """``borrowed`` for a request's short statements: Unavailable where the server takes too long."""
    with failures():
        async with asyncio.timeout(ANSWER_S), borrowed(pool) as connection:
            yield connection


async def ready(pool: asyncpg.Pool) -> None:
    """Returns where PostgreSQL answers; Unavailable where it does not."""
    async with answering(pool) as connection:
        await connection.fetchval("select 1")
