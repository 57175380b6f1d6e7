"""The storage service: builds results, archives sources. The composition root."""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import structlog
import uvloop

from services.storage.log_archive import LogArchiver
from services.storage.storage import Storage
from tanda import telemetry
from tanda.adapters.jetstream_raw import JetStreamRawLog
from tanda.adapters.nats import connect
from tanda.adapters.s3 import S3Blobs
from tanda.collector import relax_collector
from tanda.domain.errors import LogDamaged
from tanda.results import sweep
from tanda.settings import Settings, from_environment

#: The exit code that tells the supervisor and the operator: do not go on, look at the log.
EXIT_LOG_DAMAGED = 3
#: Temporary documents of killed processes older than this are nobody's any more.
SWEEP_S = 3600.0
#: A thread that computes (the log's archive is packed in one) lets the loop go on after so long. Python's own
#: 5 ms come at every wake-up of the loop, and the end of a batch of three files takes a few dozen of them.
THREAD_TURN_S = 0.0005

_log = structlog.get_logger("tanda.storage")


async def serve(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT, also while it still waits for a server; returns the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running = asyncio.create_task(_run(settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    running.cancel()
    try:
        with suppress(asyncio.CancelledError):
            await running
    except LogDamaged as error:
        _log.critical("The log is damaged; storage stops. `tanda doctor` tells more.", error=str(error))
        return EXIT_LOG_DAMAGED
    _log.info("Storage has stopped.")
    return 0


async def _run(settings: Settings) -> None:
    name = token_hex(4)
    spool = Path(settings.data) / "spool" / "storage"
    await asyncio.to_thread(_prepare, spool)
    connection = await connect(settings, f"storage-{name}")
    connection.be_present("storage", name)
    blobs = S3Blobs(settings)
    storage = Storage(log=connection.log, blobs=blobs, settings=settings, spool=spool, name=name)
    raw = JetStreamRawLog(connection.client, settings)
    archiver = LogArchiver(raw, blobs, lambda: storage.position)
    try:
        _log.info("Storage is running.", storage=name)
        await archiver.run_beside(storage.run())
    finally:
        await blobs.close()
        await connection.close()


def _prepare(spool: Path) -> None:
    spool.mkdir(parents=True, exist_ok=True)
    sweep(spool, older_than=time.time() - SWEEP_S)


def main() -> int:
    """The process's entry."""
    settings = from_environment()
    telemetry.configure("storage", settings.log_level)
    relax_collector()
    sys.setswitchinterval(THREAD_TURN_S)
    with suppress(KeyboardInterrupt):
        return uvloop.run(serve(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
