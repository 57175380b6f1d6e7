"""``ports.Views`` in this process's memory: the projector's own folds over any log, on every read.

For tests and for trying an integration without a database; it is always up to date with the log.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from tanda.adapters.views.bodies import batch_body, counts, day_body, file_blobs, file_body
from tanda.adapters.views.cursors import from_cursor, to_cursor
from tanda.contracts.envelope import Recorded
from tanda.contracts.http import (
    ACTIVE_STATUSES,
    Batch,
    BatchQuery,
    File,
    FileBlobs,
    FileQuery,
    Page,
    Places,
    Stats,
)
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.contracts.views import Table, Write, merge
from tanda.domain.progress import BatchFacts, batch_status, eta_stats, rate_per_s
from tanda.ports import AsOf, Log

Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]


class Fold(Protocol):
    """A view of ``services.projector.views``."""

    @property
    def tables(self) -> tuple[Table, ...]: ...

    def fold(self, events: Sequence[Recorded]) -> list[Write]: ...


class MemoryTables:
    """The rows of some views."""

    def __init__(self, views: Iterable[Fold]) -> None:
        self._views = list(views)
        self._tables = {table.name: table for view in self._views for table in view.tables}
        self.rows: dict[str, Rows] = {name: {} for name in self._tables}

    def fold(self, events: Sequence[Recorded]) -> None:
        """Applies what the views make of these events."""
        for view in self._views:
            for write in view.fold(events):
                self._write(self._tables[write.table], write)

    def _write(self, table: Table, write: Write) -> None:
        rows = self.rows[table.name]
        upsert = write.sql is None or write.sql.startswith("insert")
        for values in write.records or zip(*write.columns, strict=True):
            change = dict(zip(write.names, values, strict=True)) | write.same
            key = tuple(change[name] for name in table.key)
            if key not in rows and upsert:
                rows[key] = {name: column.default for name, column in table.columns.items()}
            if key in rows:
                row = rows[key]
                row.update(
                    {name: merge(table.columns[name].merge, row[name], new) for name, new in change.items()}
                )


class MemoryViews:
    """Folds what the log has since the last read, then answers from its rows."""

    def __init__(
        self,
        log: Log,
        views: Iterable[Fold],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._log = log
        self._tables = MemoryTables(views)
        self._now_ms = now_ms
        self._seq = 0

    async def position(self) -> int:
        async for chunk in self._log.read(after=self._seq):
            self._tables.fold(chunk)
            self._seq = chunk[-1].seq
        return self._seq

    async def batch(self, tenant: str | None, batch_id: str) -> AsOf[Batch | None]:
        found = [row for row in await self._select("batches", tenant) if row["batch_id"] == batch_id]
        return AsOf(self._seq, self._batch(found[0]) if found else None)

    async def batches(self, tenant: str | None, query: BatchQuery) -> AsOf[Page[Batch]]:
        newest = query.sort == "-created_at"
        rows = [row for row in await self._select("batches", tenant) if _wanted(row, query)]
        rows.sort(key=_batch_key, reverse=newest)
        if query.cursor:
            after = from_cursor(query.cursor, tuple[str, str])
            rows = [row for row in rows if (_batch_key(row) < after if newest else _batch_key(row) > after)]
        return AsOf(self._seq, _page(rows, query.limit, self._batch, _batch_key))

    async def file(self, tenant: str | None, batch_id: str, file_id: str) -> AsOf[File | None]:
        row = await self._file(tenant, batch_id, file_id)
        return AsOf(self._seq, file_body(row) if row else None)

    async def files(self, tenant: str | None, batch_id: str, query: FileQuery) -> AsOf[Page[File] | None]:
        search = (query.q or "").casefold()
        rows = [
            row
            for row in await self._select("files", tenant)
            if row["batch_id"] == batch_id
            and query.status in (None, row["status"])
            and search in row["search"]
        ]
        rows.sort(key=_file_key)
        if query.cursor:
            after = from_cursor(query.cursor, tuple[int, int])
            rows = [row for row in rows if _file_key(row) > after]
        known = any(row["batch_id"] == batch_id for row in await self._select("batches", tenant))
        return AsOf(self._seq, _page(rows, query.limit, file_body, _file_key) if known else None)

    async def quarantine(self, tenant: str | None, query: FileQuery) -> AsOf[Page[File]]:
        search = (query.q or "").casefold()
        rows = await self._select("files", tenant)
        rows = [row for row in rows if row["quarantined_seq"] is not None and search in row["search"]]
        rows.sort(key=lambda row: row["quarantined_seq"], reverse=True)
        if query.cursor:
            (after,) = from_cursor(query.cursor, tuple[int])
            rows = [row for row in rows if row["quarantined_seq"] < after]
        page = _page(rows, query.limit, file_body, lambda row: (row["quarantined_seq"],))
        return AsOf(self._seq, page)

    async def quarantined(self, tenant: str | None) -> int:
        return sum(row["quarantined_seq"] is not None for row in await self._select("files", tenant))

    async def places(self, tenant: str | None) -> Places:
        rows = [row for row in await self._select("files", tenant) if row["status"] != "rejected"]
        stored = [row for row in rows if row["source_state"] == "stored"]
        head = min((row for row in stored if row["status"] != "cancelled"), key=_turn, default=None)
        return Places(
            head=file_body(head) if head else None,
            through=sum(row["status"] in ("completed", "waiting") for row in stored),
            archived=len(rows) - len(stored),
        )

    async def blobs(self, tenant: str | None, batch_id: str, file_id: str) -> AsOf[FileBlobs | None]:
        row = await self._file(tenant, batch_id, file_id)
        return AsOf(self._seq, file_blobs(row) if row else None)

    async def stats(self, tenant: str | None, days: int) -> Stats:
        totals = _summed(await self._select("tenants", tenant))
        durations = await self._select("durations", tenant)
        of_days = _by("day", await self._select("days", tenant))
        etas = [row for row in await self._select("etas", tenant) if row["day"] in of_days]
        return Stats(
            eta=eta_stats(_ratios(etas)),
            totals=counts(totals),
            batches=totals["batches"],
            throughput_per_s=_throughput(await self._select("minutes", tenant)),
            days=[
                day_body({"day": day, **_summed(of_days[day])}, _histogram(durations, day))
                for day in sorted(of_days, reverse=True)[:days]
            ],
        )

    async def _select(self, table: str, tenant: str | None) -> list[Row]:
        await self.position()
        return [row for row in self._tables.rows[table].values() if tenant in (None, row["tenant"])]

    async def _file(self, tenant: str | None, batch_id: str, file_id: str) -> Row | None:
        rows = await self._select("files", tenant)
        return next((row for row in rows if (row["batch_id"], row["file_id"]) == (batch_id, file_id)), None)

    def _batch(self, row: Row) -> Batch:
        return batch_body({**row, "status": _status(row)}, self._now_ms())


def _status(row: Row) -> str:
    """What PostgreSQL computes as a column."""
    facts = BatchFacts(**{name: row[name] for name in BatchFacts.__struct_fields__})
    return batch_status(facts, counts(row))


def _wanted(row: Row, query: BatchQuery) -> bool:
    status = _status(row)
    after = rfc3339(epoch_ms(query.created_after)) if query.created_after else ""
    return (
        (query.status in (None, status) or (query.status == "active" and status in ACTIVE_STATUSES))
        and query.owner in (None, row["owner"])
        and (query.tag is None or query.tag in row["tags"])
        and (query.q or "").casefold() in row["search"]
        and row["created_at"] > after
    )


def _batch_key(row: Row) -> tuple[str, str]:
    return row["created_at"], row["batch_id"]


def _file_key(row: Row) -> tuple[int, int]:
    return row["index"], row["first_seq"]


def _turn(row: Row) -> tuple[int, int]:
    """The order of sources that are in their place."""
    return {"processing": 0, "waiting": 0, "failed": 2}.get(row["status"], 1), row["first_seq"]


def _page(
    rows: Sequence[Row], limit: int, body: Callable[[Row], Any], key: Callable[[Row], tuple[Any, ...]]
) -> Page[Any]:
    shown, has_more = rows[:limit], len(rows) > limit
    cursor = to_cursor(*key(shown[-1])) if has_more and shown else None
    return Page(data=[body(row) for row in shown], next_cursor=cursor, has_more=has_more)


def _by(column: str, rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


class _Sums(dict[str, int]):
    """What was never counted is none."""

    def __missing__(self, column: str) -> int:
        return 0


def _summed(rows: Iterable[Row]) -> _Sums:
    sums = _Sums()
    for row in rows:
        for column, value in row.items():
            if isinstance(value, int):
                sums[column] += value
    return sums


def _histogram(durations: Iterable[Row], day: str) -> dict[int, int]:
    histogram: dict[int, int] = {}
    for row in durations:
        if row["day"] == day:
            histogram[row["duration_ms"]] = histogram.get(row["duration_ms"], 0) + row["files"]
    return histogram


def _ratios(etas: Iterable[Row]) -> dict[int, int]:
    ratios: dict[int, int] = {}
    for row in etas:
        ratios[row["ratio_pct"]] = ratios.get(row["ratio_pct"], 0) + row["batches"]
    return ratios


def _throughput(minutes: Iterable[Row]) -> float:
    groups = _by("minute", minutes)
    if not groups:
        return 0.0
    last = groups[max(groups)]
    first_at, last_at = min(row["first_at"] for row in last), max(row["last_at"] for row in last)
    return rate_per_s(sum(row["completed"] for row in last), epoch_ms(first_at), epoch_ms(last_at))
