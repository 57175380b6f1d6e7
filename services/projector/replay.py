"""``python -m services.projector.replay VIEW…|--all [--verify|--as-of SEQ|TIME|--from-archive] [--json]``.

Without a further option the views are rebuilt and swapped in. Exit code 0; 1 where it failed, or
where ``--verify`` found a difference; 2 for wrong usage. Progress goes to stderr, answers to stdout.
"""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import msgspec
import uvloop

from services.projector.catalog import VIEWS
from services.projector.filling import Fill
from services.projector.from_archive import BroughtBack, bring_back, forget_lost
from services.projector.parallel.processes import Processes
from services.projector.rebuild import Replayed, as_of, position_at, rebuild, verify
from services.projector.views.view import View
from tanda import telemetry
from tanda.adapters.nats import connect
from tanda.adapters.postgres import open_pool
from tanda.adapters.views.store import ViewStore
from tanda.archive.log_archive import ArchiveDamaged
from tanda.collector import relax_collector
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.domain.errors import Refusal, TandaError
from tanda.ports import Log
from tanda.settings import Settings, from_environment

#: A snapshot and a shadow for each view, and one for the rest.
CONNECTIONS_MAX = 2 * len(VIEWS) + 2
#: A digest of a large table takes its time.
STATEMENT_TIMEOUT_S = 3_600.0
PROGRESS_EVERY_S = 1.0


class Meter:
    """Events and events per second on stderr, once a second."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._said_at = self._began

    def __call__(self, events: int) -> None:
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_EVERY_S:
            self._said_at = now
            print(f"{events:,} events, {events / (now - self._began):,.0f}/s", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parse(argv)
    # Stdout is for the answer; what is logged goes to stderr.
    telemetry.configure("replay", "warning")
    relax_collector()
    try:
        return uvloop.run(_run(arguments, from_environment()))
    except (TandaError, ArchiveDamaged, ValueError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    pool = await open_pool(
        settings, "replay", connections_max=CONNECTIONS_MAX, statement_timeout_s=STATEMENT_TIMEOUT_S
    )
    connection = await connect(settings, "replay")
    try:
        back: BroughtBack | None = None
        if arguments.from_archive:
            back = await bring_back(connection, pool, settings, force=arguments.force, progress=Meter())
            _say(back.sentences(), as_json=arguments.json)
        found = await _replay(arguments, connection.log, ViewStore(pool), Processes(settings).fill)
        if back is not None:
            _say(await forget_lost(pool, back), as_json=arguments.json)
    finally:
        await connection.close()
        async with asyncio.timeout(5.0):
            await pool.close()
    _print(found, as_json=arguments.json or arguments.as_of is not None)
    return 1 if arguments.verify and not all(one.identical for one in found) else 0


async def _replay(arguments: argparse.Namespace, log: Log, store: ViewStore, fill: Fill) -> list[Replayed]:
    views: list[View] = [VIEWS[name] for name in arguments.views]
    if arguments.verify:
        return await verify(log, store, views, fill=fill, progress=Meter())
    if arguments.as_of is not None:
        seq = await _position(log, arguments.as_of)
        rows_max, keep = arguments.rows, arguments.keep
        return await as_of(log, store, views, seq, rows_max=rows_max, keep=keep, fill=fill, progress=Meter())
    return await rebuild(log, store, views, fill=fill, progress=Meter())


async def _position(log: Log, moment: str) -> int:
    """A position, or the last one not later than a time."""
    if not moment.isdecimal():
        return await position_at(log, rfc3339(epoch_ms(moment)))
    end = await log.position()
    if int(moment) > end:
        raise Refusal("no_such_position", f"The log ends at {end}.")
    return int(moment)


def _say(sentences: Sequence[str], *, as_json: bool) -> None:
    """What has been done; beside an answer in JSON it goes to stderr."""
    for sentence in sentences:
        print(sentence, file=sys.stderr if as_json else sys.stdout, flush=True)


def _print(found: Sequence[Replayed], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(found, order="deterministic").decode())
        return
    for one in found:
        print(_sentence(one))
        for difference in one.differences:
            print(f"  {difference.sentence()}")


def _sentence(one: Replayed) -> str:
    rows = sum(table.rows for table in one.tables.values())
    verdict = {True: "identical to live", False: "DIFFERENT from live", None: "nothing to compare with"}
    swapped = ", swapped in" if one.swapped else ""
    at = f"through {one.seq:,} at {one.events_per_s:,.0f} events/s"
    return f"{one.view}: {rows:,} rows {at}, {verdict[one.identical]}{swapped}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tanda replay", description="Rebuilds views from the log.")
    parser.add_argument("views", nargs="*", metavar="VIEW", help=", ".join(VIEWS))
    parser.add_argument("--all", action="store_true", help="every view")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--verify", action="store_true", help="compare with the live views, change nothing")
    action.add_argument("--as-of", metavar="SEQ|TIME", help="the views at a moment of the past")
    action.add_argument("--from-archive", action="store_true", help="restore the log from its archive first")
    parser.add_argument("--force", action="store_true", help="with --from-archive: though services run")
    parser.add_argument("--keep", action="store_true", help="with --as-of: leave the rows in a schema")
    parser.add_argument("--rows", type=int, default=20, help="with --as-of: rows of each table to print")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")
    arguments = parser.parse_args(argv)
    arguments.all |= arguments.from_archive and not arguments.views
    if arguments.all == bool(arguments.views):
        parser.error("name the views, or --all of them")
    if unknown := [name for name in arguments.views if name not in VIEWS]:
        parser.error(f"there is no view {unknown[0]!r}; there are {', '.join(VIEWS)}")
    arguments.views = list(VIEWS) if arguments.all else list(dict.fromkeys(arguments.views))
    return arguments


if __name__ == "__main__":
    sys.exit(main())
