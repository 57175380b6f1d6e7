"""Rebuilding views from the log: swap them in, compare them, or look at a moment of the past.

A replay fills a shadow schema with the same fold as the live view, and nothing else happens: no
signal, no event. What is compared is compared at one log position.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec
import structlog

from services.projector.compare import At, Difference, differences
from services.projector.filling import Building, Fill, Progress, at_once, build, silent
from services.projector.store import Rows, Store, live_schema
from services.projector.version import version_of
from services.projector.views.view import View
from tanda.contracts.views import TableDigest
from tanda.domain.errors import LogDamaged, Refusal
from tanda.ports import Log

_log = structlog.get_logger("tanda.replay")

#: A rebuild catches up without the lock until at most this much is missing.
LAG_EVENTS_MAX = 5_000
DIFFERENCES_MAX = 10


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of replaying one view."""

    view: str
    #: The log position that was replayed through.
    seq: int
    events_per_s: float
    tables: dict[str, TableDigest]
    swapped: bool = False
    #: Whether the live view held the same rows; None where there was none to compare with.
    identical: bool | None = None
    differences: list[Difference] = []
    #: Where the rows were left, if they were.
    schema: str | None = None
    #: The first rows of each table, for a look into the past.
    rows: dict[str, list[msgspec.Raw]] = {}


async def rebuild_changed(log: Log, store: Store, views: Mapping[str, View], fill: Fill = build) -> None:
    """Builds the views that are not there or that another version of the code built."""
    changed: list[View] = []
    for name, view in views.items():
        live = await store.checkpoint(name)
        if live is None or live.version != version_of(view):
            changed.append(view)
    if changed:
        _log.info("building views from the log", views=[view.name for view in changed])
        for one in await rebuild(log, store, changed, only_other_version=True, fill=fill):
            _log.info("a view is built", view=one.view, seq=one.seq, events_per_s=round(one.events_per_s))


async def rebuild(
    log: Log,
    store: Store,
    views: Sequence[View],
    *,
    only_other_version: bool = False,
    fill: Fill = build,
    progress: Progress = silent,
) -> list[Replayed]:
    """Builds views anew and swaps them in while the live projector goes on.

    A live view of the same version is compared at the position of the swap, which takes place
    whatever comes of it: the log is the truth.
    """
    async with AsyncExitStack() as stack:
        building = [await _begin(stack, store, view) for view in views]
        rate = await _build_near(log, store, building, fill, progress)
        return [await _swap(log, one, rate, only_other_version=only_other_version) for one in building]


async def verify(
    log: Log, store: Store, views: Sequence[View], *, fill: Fill = build, progress: Progress = silent
) -> list[Replayed]:
    """Compares each live view, as one moment's snapshot, with a replay through the same position."""
    async with AsyncExitStack() as stack:
        snapshots: list[Rows] = []
        building: list[Building] = []
        for view in views:
            snapshot = await stack.enter_async_context(store.snapshot())
            live = await snapshot.checkpoint(live_schema(view.name))
            _check_comparable(view, None if live is None else live.version)
            assert live is not None, "checked just now"
            snapshots.append(snapshot)
            building.append(await _begin(stack, store, view, live.seq, passing=True))
        rate = await _timed(fill, log, building, progress)
        pairs = zip(building, snapshots, strict=True)
        return [await _verified(one, snapshot, rate) for one, snapshot in pairs]


async def as_of(
    log: Log,
    store: Store,
    views: Sequence[View],
    seq: int,
    *,
    rows_max: int,
    keep: bool = False,
    fill: Fill = build,
    progress: Progress = silent,
) -> list[Replayed]:
    """The views as they were right after a position; ``keep`` leaves their schemas behind."""
    async with AsyncExitStack() as stack:
        building = [await _begin(stack, store, view, seq, passing=not keep) for view in views]
        rate = await _timed(fill, log, building, progress)
        return [await _past(one, rate, rows_max, keep=keep) for one in building]


async def position_at(log: Log, time_text: str) -> int:
    """The last position not later than a time (RFC 3339 as the log writes it), by bisection."""
    low, high = 0, await log.position()
    while low < high:
        middle = (low + high + 1) // 2
        record = await log.get(middle)
        if record is None:
            raise LogDamaged(f"the log has no event at {middle}")
        if record.time <= time_text:
            low = middle
        else:
            high = middle - 1
    return low


async def _begin(
    stack: AsyncExitStack, store: Store, view: View, through: int = 0, *, passing: bool = False
) -> Building:
    await store.drop_abandoned(view.name)
    shadow = store.shadow(view.name, version_of(view), view.ddl, passing=passing)
    entered = await stack.enter_async_context(shadow)
    return Building(view, entered, through)


async def _timed(fill: Fill, log: Log, building: Sequence[Building], progress: Progress) -> float:
    """Events per second."""
    began = time.perf_counter()
    read = await fill(log, building, progress)
    return read / (time.perf_counter() - began)


async def _build_near(
    log: Log, store: Store, building: Sequence[Building], fill: Fill, progress: Progress
) -> float:
    """Builds until little is missing to where the live views are, which goes on growing."""
    rate = 0.0
    while True:
        for one in building:
            one.through = max(one.through, await _target(log, store, one.view))
        lag = max(one.through - one.shadow.checkpoint.seq for one in building)
        if lag == 0 or (rate and lag <= LAG_EVENTS_MAX):
            return rate
        rate = max(rate, await _timed(fill, log, building, progress))
        await at_once(*(one.shadow.index() for one in building))


async def _target(log: Log, store: Store, view: View) -> int:
    """Where a rebuild goes: to the live view's position, or the log's where none compares."""
    live = await store.checkpoint(view.name)
    if live is not None and live.version == version_of(view):
        return live.seq
    return await log.position()


async def _swap(log: Log, one: Building, rate: float, *, only_other_version: bool) -> Replayed:
    async def catch_up(seq: int) -> None:
        one.through = seq
        await build(log, [one])

    snapshot = await one.shadow.swap(catch_up, only_other_version=only_other_version)
    swapped = one.shadow.schema == live_schema(one.view.name)
    if snapshot is None or one.shadow.retired is None:
        tables = {} if only_other_version else await _digest(one)
        return _replayed(one, rate, tables, swapped=swapped)
    old, new = At(snapshot, one.shadow.retired), At(snapshot, one.shadow.schema)
    return await _compared(one, rate, old, new, swapped=swapped)


async def _verified(one: Building, snapshot: Rows, rate: float) -> Replayed:
    async with one.shadow.reading() as rows:
        live, new = At(snapshot, live_schema(one.view.name)), At(rows, one.shadow.schema)
        return await _compared(one, rate, live, new, swapped=False)


async def _compared(one: Building, rate: float, live: At, new: At, *, swapped: bool) -> Replayed:
    tables, there = await _digests(one.view, new, live)
    found: list[Difference] = []
    for table in one.view.tables:
        if tables[table.name] != there[table.name]:
            found += await differences(one.view.name, table, live, new, DIFFERENCES_MAX - len(found))
    replayed = _replayed(one, rate, tables, swapped=swapped)
    return msgspec.structs.replace(replayed, identical=tables == there, differences=found)


async def _digests(view: View, new: At, live: At) -> list[dict[str, TableDigest]]:
    """Of both; at once where each has a connection of its own."""
    works = [at.rows.digest(at.schema, view.tables) for at in (new, live)]
    return [await work for work in works] if new.rows is live.rows else await at_once(*works)


async def _past(one: Building, rate: float, rows_max: int, *, keep: bool) -> Replayed:
    async with one.shadow.reading() as reader:
        schema = one.shadow.schema
        rows = {table.name: await reader.first(schema, table, rows_max) for table in one.view.tables}
    replayed = _replayed(one, rate, await _digest(one))
    if keep:
        await one.shadow.index()
    kept = await one.shadow.keep() if keep else None
    return msgspec.structs.replace(replayed, rows=rows, schema=kept)


async def _digest(one: Building) -> dict[str, TableDigest]:
    async with one.shadow.reading() as rows:
        return await rows.digest(one.shadow.schema, one.view.tables)


def _replayed(
    one: Building, rate: float, tables: dict[str, TableDigest], *, swapped: bool = False
) -> Replayed:
    seq = one.shadow.checkpoint.seq
    return Replayed(view=one.view.name, seq=seq, events_per_s=round(rate), tables=tables, swapped=swapped)


def _check_comparable(view: View, live_version: str | None) -> None:
    if live_version is None:
        raise Refusal("view_missing", f"There is no live view {view.name}: start the projector first.")
    if live_version != version_of(view):
        detail = f"The live view {view.name} is of version {live_version}, this code is {version_of(view)}."
        raise Refusal("view_other_version", detail)
