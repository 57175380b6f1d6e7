"""The projector's process: ``python -m services.projector``.

Exit code 0 after SIGTERM; 3 where the log is damaged, since going on would build on a lie.
"""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import asyncio
import signal
import sys
from contextlib import suppress
from secrets import token_hex

import structlog
import uvloop

from services.projector.catalog import VIEWS
from services.projector.parallel.processes import Processes
from services.projector.projector import Projector
from tanda import telemetry
from tanda.adapters.nats import connect
from tanda.adapters.postgres import open_pool
from tanda.adapters.views.store import ViewStore
from tanda.collector import relax_collector
from tanda.domain.errors import LogDamaged
from tanda.settings import Settings, from_environment

_log = structlog.get_logger("tanda.projector")

EXIT_LOG_DAMAGED = 3
#: A shadow for each view, and one for the rest.
CONNECTIONS_MAX = len(VIEWS) + 4
STATEMENT_TIMEOUT_S = 300.0
#: A stopping projector owes nobody anything: what it had not committed, the next one reads again.
STOP_S = 0.5


async def serve(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT; the exit code."""
    running = asyncio.ensure_future(_project(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        _log.info("stopped")
    except LogDamaged as damage:
        _log.critical("the log is damaged, the views stop here; see `tanda doctor`", reason=str(damage))
        return EXIT_LOG_DAMAGED
    return 0


async def _project(settings: Settings) -> None:
    connection = await connect(settings, "projector")
    connection.be_present("projector", token_hex(4))
    pool = await open_pool(
        settings,
        "projector",
        connections_max=CONNECTIONS_MAX,
        statement_timeout_s=STATEMENT_TIMEOUT_S,
        waits_for_disk=False,  # rows and checkpoint go back together, and the log is read again from there
    )
    try:
        store, fill = ViewStore(pool), Processes(settings).fill
        await Projector(connection.log, store, connection.signals, VIEWS, settings, fill).run()
    finally:
        pool.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await connection.close()


def main() -> None:
    settings = from_environment()
    telemetry.configure("projector", settings.log_level)
    relax_collector()
    sys.exit(uvloop.run(serve(settings)))


if __name__ == "__main__":
    main()
