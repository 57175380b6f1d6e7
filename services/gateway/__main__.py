"""The composition root: real servers behind the ports, one HTTP server, an end without loose ends."""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from secrets import token_hex
from types import FrameType
from typing import Any

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from services.gateway.app import create_app
from services.gateway.deps import PROCESSORS, Deps
from services.gateway.live.capacity import raise_open_files
from services.gateway.live.connection import GatewayProtocol
from services.gateway.live.hub import Hub
from tanda import telemetry
from tanda.adapters.bulk import PostgresBulk
from tanda.adapters.idempotency import PostgresIdempotency
from tanda.adapters.jetstream_raw import JetStreamRawLog
from tanda.adapters.migrations import migrate
from tanda.adapters.nats import Connection, connect
from tanda.adapters.postgres import open_pool, ready
from tanda.adapters.postgres_views import PostgresViews
from tanda.adapters.s3 import S3Blobs
from tanda.archive.check import check_log
from tanda.archive.log_archive import ArchiveDamaged, LogArchive
from tanda.collector import relax_collector
from tanda.domain.errors import LogDamaged, Unavailable
from tanda.results import ResultsCache
from tanda.settings import Settings, from_environment

#: What runs at the end gets this long; `tanda up` kills after ten seconds.
GRACE_S = 4
#: Live clients get this long to take the last word.
LEAVE_S = 0.5
#: uvicorn looks ten times a second whether it is to end; a signal wakes ours at once, and all else may wait.
TICK_S = 0.5
KEEP_ALIVE_S = 30
#: Idempotency keys and ended bulk actions are kept for a day; those past it go within another hour.
FORGET_EVERY_S = 3600.0
#: An upload in parts that nobody can be at any more: this much older than the slowest that is allowed.
LEFT_OVER_S = 24 * 3600.0
CLOSE_S = 0.5
MIGRATE_RETRY_S = 1.0
#: The exit code that tells the supervisor and the operator: do not go on, look at the log.
EXIT_LOG_DAMAGED = 3
#: What the look at the archive may cost at the start, where the object store is away.
CHECK_LOG_S = 3.0

log = structlog.get_logger(__name__)


class GatewayServer(uvicorn.Server):
    """Tells live clients before it waits for them; left alone, uvicorn would wait until they leave."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub
        self._told_to_end = asyncio.Event()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._told_to_end.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._told_to_end.set()

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        self._hub.drain()
        asyncio.get_running_loop().call_later(LEAVE_S, self._cut_live)
        await super().shutdown(sockets)

    def _cut_live(self) -> None:
        """A live client that has not gone by now takes nothing: it does not keep the process from ending."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, GatewayProtocol) and connection.live:
                connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Ends the loop and nothing else: uvicorn's own raises the signal again, and the exit code is -15."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        try:
            for number in numbers:
                loop.add_signal_handler(number, self.handle_exit, number, None)
        except (ValueError, RuntimeError):  # not the main thread: a test, which stops it by itself
            yield
            return
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn as we want it: uvloop, httptools, no logging of its own, bounded waits."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=GatewayProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=4096,
    )


async def serve(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT; the exit code."""
    async with AsyncExitStack() as stack:
        try:
            deps = await compose(settings, stack)
        except LogDamaged as damage:
            log.critical("The log is damaged; nothing is accepted. See `tanda doctor`.", reason=str(damage))
            return EXIT_LOG_DAMAGED
        app = create_app(deps)
        server = GatewayServer(server_config(app, settings), app.state.gateway.hub)
        ending = asyncio.create_task(_end_with(app.state.gateway.hub.damaged, server))
        stack.callback(ending.cancel)
        log.info("The gateway is starting.", url=f"http://{settings.host}:{settings.port}")
        await server.serve()
    log.info("The gateway has stopped.")
    if app.state.gateway.hub.damaged.is_set():
        return EXIT_LOG_DAMAGED
    return 0 if server.started else 1


async def _end_with(damaged: asyncio.Event, server: GatewayServer) -> None:
    """A log that is damaged while we run takes no further batch: what it took would be lost in mending it."""
    await damaged.wait()
    server.should_exit = True


async def _check_log(connection: Connection, blobs: S3Blobs, settings: Settings) -> None:
    """LogDamaged where the log is not what its archive says; a store that is away has no say in it."""
    try:
        async with asyncio.timeout(CHECK_LOG_S):
            await check_log(JetStreamRawLog(connection.client, settings), LogArchive(blobs))
    except (Unavailable, ArchiveDamaged, TimeoutError) as error:
        log.warning("The log could not be compared with its archive.", error=str(error))


async def compose(settings: Settings, stack: AsyncExitStack) -> Deps:
    """Connects everything; PostgreSQL may come later, since uploads do without it."""
    connection = await connect(settings, "gateway")
    stack.push_async_callback(_bounded, connection.close)
    instance = token_hex(4)
    connection.be_present("gateway", instance)
    pool = await open_pool(settings, "gateway")
    stack.callback(pool.terminate)
    blobs = S3Blobs(settings)
    stack.push_async_callback(_bounded, blobs.close)
    await _check_log(connection, blobs, settings)
    idempotency, bulk = PostgresIdempotency(pool), PostgresBulk(pool)
    migrating = asyncio.create_task(_until_done(lambda: migrate(pool)))
    stack.callback(migrating.cancel)
    forgetting = asyncio.create_task(_forget_for_ever(migrating, idempotency, bulk, blobs, settings))
    stack.callback(forgetting.cancel)

    async def postgres_ready() -> None:
        await ready(pool)
        if not migrating.done():
            raise Unavailable("postgres", "the durable tables are not there yet")

    return Deps(
        settings=settings,
        log=connection.log,
        blobs=blobs,
        views=PostgresViews(pool),
        signals=connection.signals,
        board=connection.board,
        bulk=bulk,
        idempotency=idempotency,
        results=ResultsCache(connection.log, blobs, Path(settings.data) / "spool" / "results"),
        checks={"nats": connection.ready, "postgres": postgres_ready, "s3": blobs.ready},
        processors=PROCESSORS | {entry.name for entry in entry_points(group="tanda.processors")},
        source=f"/gateway/{instance}",
    )


async def _until_done(migration: Callable[[], Awaitable[object]]) -> None:
    """Brings the durable tables up to date as soon as there is a server."""
    while True:
        try:
            await migration()
            return
        except Unavailable as error:
            log.warning("The durable tables are not up to date yet.", error=str(error))
        await asyncio.sleep(MIGRATE_RETRY_S)


async def _forget_for_ever(
    migrating: Awaitable[None], idempotency: PostgresIdempotency, bulk: PostgresBulk,
    blobs: S3Blobs, settings: Settings,
) -> None:  # fmt: skip
    """Drops what nobody asks for any more: old answers by key, ended bulk actions, halves of large files."""
    slowest_upload_s = settings.file_bytes_max / settings.upload_bytes_per_s_min
    await migrating
    while True:
        with suppress(Unavailable):
            await idempotency.forget_older()
            await bulk.forget_older()
        with suppress(Unavailable, KeyError):
            await blobs.drop_unfinished(LEFT_OVER_S + slowest_upload_s)
        await asyncio.sleep(FORGET_EVERY_S)


async def _bounded(close: Callable[[], Awaitable[None]]) -> None:
    """A server that is away must not keep us from ending."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await close()


def main() -> None:
    settings = from_environment()
    telemetry.configure("gateway", settings.log_level)
    raise_open_files()
    relax_collector()
    sys.exit(uvloop.run(serve(settings)))


if __name__ == "__main__":
    main()
