"""The worker: a scheduler that may lead, and runners. The composition root."""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import asyncio
import random
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import structlog
import uvloop

from services.worker.outcomes import Outcomes
from services.worker.outside import Http, Llm
from services.worker.runner import Runner
from services.worker.sandbox.sandbox import Sandbox, installed_processors
from services.worker.scheduler import Scheduler
from services.worker.sharing import Sharing
from tanda import telemetry
from tanda.adapters.nats import Connection, connect
from tanda.adapters.s3 import S3Blobs
from tanda.collector import relax_collector
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK, LANE_SMALL, provider_lane
from tanda.domain.errors import LogDamaged
from tanda.settings import Settings, from_environment, http_endpoints, providers

_log = structlog.get_logger("tanda.worker")

#: What a stopping worker gives its running files; the rest goes to other workers.
DRAIN_S = 2.0
#: Groups of quick work under way: one is being started, one is being told, and the next is at hand.
GROUPS_AT_ONCE = 4
#: Calls of one provider that this process takes at once; what they all may together the queue sees to.
CALLS_AT_ONCE_MAX = 64
#: The exit code that tells the supervisor and the operator: do not go on, look at the log.
EXIT_LOG_DAMAGED = 3


def lanes(sandbox: Sandbox) -> dict[str, str]:
    """Which processors have a lane of their own: those so cheap that they run in groups."""
    return {name: LANE_QUICK for name, known in sandbox.known.items() if known.trusted}


async def serve(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    name = token_hex(4)
    spool = Path(settings.data) / "spool" / f"worker-{name}"
    spool.mkdir(parents=True, exist_ok=True)
    connection = await connect(settings, f"worker-{name}")
    sandbox = Sandbox(settings)
    await sandbox.start(installed_processors())
    _log.info("the worker is ready", worker=name, slots=settings.slots, sandbox=sandbox.level)
    try:
        return await _work(settings, name, spool, connection, sandbox, stop)
    finally:
        await sandbox.close()
        await connection.close()
        shutil.rmtree(spool, ignore_errors=True)


async def _work(
    settings: Settings, name: str, spool: Path, connection: Connection,
    sandbox: Sandbox, stop: asyncio.Event,
) -> int:  # fmt: skip
    blobs = S3Blobs(settings)
    http = Http(http_endpoints(settings), settings)
    llm = Llm(settings)
    outcomes = Outcomes(
        blobs=blobs, sandbox=sandbox, settings=settings, spool=spool, entropy=random.random,
        outside={"http": http, "llm": llm}, queue=connection.work,
    )  # fmt: skip
    connection.be_present("worker", name, outcomes.versions())
    scheduler = Scheduler(
        log=connection.log, work=connection.work, timers=connection.timers, lease=connection.lease,
        board=connection.board, blobs=blobs, settings=settings, name=name, lanes=lanes(sandbox),
    )  # fmt: skip
    limits = {LANE_SMALL: settings.slots, LANE_DEFAULT: settings.slots}
    limits[LANE_QUICK] = settings.work_group_max * GROUPS_AT_ONCE
    limits |= {provider_lane(one): CALLS_AT_ONCE_MAX for one in sorted(providers(settings))}
    runners = [
        Runner(
            log=connection.log, work=connection.work, outcomes=outcomes, settings=settings,
            name=name, lane=lane, limit=limit, group=settings.work_group_max,
            sharing=Sharing(sandbox.together) if lane in (LANE_SMALL, LANE_DEFAULT) else None,
        )
        for lane, limit in limits.items()
    ]  # fmt: skip
    tasks = [asyncio.create_task(one.run()) for one in (scheduler, *runners)]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    code = _exit_code(tasks)
    for task in (*tasks, stopping):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(one.drain(DRAIN_S) for one in runners))
    await scheduler.release_lease()
    await http.close()
    await llm.close()
    return code


def _exit_code(tasks: list[asyncio.Task[None]]) -> int:
    """0 for an ordinary stop; a damaged log has a code of its own; anything else is a bug."""
    for task in tasks:
        error = task.exception() if task.done() else None
        if error is None:
            continue
        damaged = error.subgroup(LogDamaged) if isinstance(error, BaseExceptionGroup) else None
        _log.critical("the worker stops", error=str(damaged or error), exc_info=error)
        return EXIT_LOG_DAMAGED if damaged or isinstance(error, LogDamaged) else 1
    return 0


def main() -> int:
    """The process's entry."""
    settings = from_environment()
    telemetry.configure("worker", settings.log_level)
    relax_collector()
    with suppress(KeyboardInterrupt):
        return uvloop.run(serve(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
