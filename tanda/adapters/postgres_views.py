"""``ports.Views`` over the schemas that the projector fills."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from tanda.adapters.postgres import answering
from tanda.adapters.sql import named
from tanda.adapters.views.bodies import batch_body, counts, day_body, file_blobs, file_body
from tanda.adapters.views.cursors import from_cursor, to_cursor
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
from tanda.domain.errors import Refusal, Unavailable
from tanda.domain.progress import eta_stats, rate_per_s
from tanda.ports import AsOf

_SQL = named("views")
#: Those that tell the position with their rows: one way to the server and back for both.
_AS_OF = ("position", "batch", "batches_newest", "batches_oldest", "file", "files", "quarantine")
_TEXTS = {**_SQL, **{name: f"{_SQL['seen']}\n{_SQL[name]}" for name in _AS_OF}}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class PostgresViews:
    """Reads only; a view that is being built is Unavailable."""

    def __init__(self, pool: asyncpg.Pool, now_ms: Callable[[], int] = _now_ms) -> None:
        self._pool = pool
        self._now_ms = now_ms

    async def position(self) -> int:
        return (await self._as_of("position")).seq

    async def batch(self, tenant: str | None, batch_id: str) -> AsOf[Batch | None]:
        seq, row = await self._one("batch", tenant, batch_id)
        return AsOf(seq, batch_body(row, self._now_ms()) if row else None)

    async def batches(self, tenant: str | None, query: BatchQuery) -> AsOf[Page[Batch]]:
        name = "batches_newest" if query.sort == "-created_at" else "batches_oldest"
        after = from_cursor(query.cursor, tuple[str, str]) if query.cursor else (None, None)
        search = query.q.casefold() if query.q else None
        seq, rows = await self._as_of(
            name,
            tenant,
            _statuses(query.status),
            query.tag,
            search,
            _time(query.created_after),
            query.owner,
            *after,
            query.limit + 1,
        )
        now_ms = self._now_ms()
        page = _page(rows, query.limit, lambda row: batch_body(row, now_ms), ("created_at", "batch_id"))
        return AsOf(seq, page)

    async def file(self, tenant: str | None, batch_id: str, file_id: str) -> AsOf[File | None]:
        seq, row = await self._one("file", tenant, batch_id, file_id)
        return AsOf(seq, file_body(row) if row else None)

    async def files(self, tenant: str | None, batch_id: str, query: FileQuery) -> AsOf[Page[File] | None]:
        after = from_cursor(query.cursor, tuple[int, int]) if query.cursor else (None, None)
        search = query.q.casefold() if query.q else None
        seq, rows = await self._as_of(
            "files", tenant, batch_id, query.status, search, *after, query.limit + 1
        )
        if not rows[0]["batch_known"]:
            return AsOf(seq, None)
        return AsOf(seq, _page(rows, query.limit, file_body, ("index", "first_seq")))

    async def quarantine(self, tenant: str | None, query: FileQuery) -> AsOf[Page[File]]:
        (after,) = from_cursor(query.cursor, tuple[int]) if query.cursor else (None,)
        search = query.q.casefold() if query.q else None
        seq, rows = await self._as_of("quarantine", tenant, search, after, query.limit + 1)
        return AsOf(seq, _page(rows, query.limit, file_body, ("quarantined_seq",)))

    async def quarantined(self, tenant: str | None) -> int:
        (row,) = await self._rows("quarantined", tenant)
        return row["files"]

    async def places(self, tenant: str | None) -> Places:
        (sums,) = await self._rows("places", tenant)
        heads = await self._rows("head", tenant)
        head = file_body(heads[0]) if heads else None
        return Places(head=head, through=sums["through"], archived=sums["archived"])

    async def blobs(self, tenant: str | None, batch_id: str, file_id: str) -> AsOf[FileBlobs | None]:
        seq, row = await self._one("file", tenant, batch_id, file_id)
        return AsOf(seq, file_blobs(row) if row else None)

    async def stats(self, tenant: str | None, days: int) -> Stats:
        (totals,) = await self._rows("totals", tenant)
        of_days = await self._rows("days", tenant, days)
        buckets = await self._rows("durations", tenant, [row["day"] for row in of_days])
        histograms: dict[str, dict[int, int]] = {}
        for row in buckets:
            histograms.setdefault(row["day"], {})[row["duration_ms"]] = row["files"]
        etas = await self._rows("etas", tenant, [row["day"] for row in of_days])
        return Stats(
            eta=eta_stats({row["ratio_pct"]: row["batches"] for row in etas}),
            totals=counts(totals),
            batches=totals["batches"],
            throughput_per_s=await self._throughput(tenant),
            days=[day_body(row, histograms.get(row["day"], {})) for row in of_days],
        )

    async def _throughput(self, tenant: str | None) -> float:
        rows = await self._rows("last_minute", tenant)
        if not rows:
            return 0.0
        row = rows[0]
        return rate_per_s(row["completed"], epoch_ms(row["first_at"]), epoch_ms(row["last_at"]))

    async def _rows(self, name: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        async with answering(self._pool) as connection:
            return await connection.fetch(_TEXTS[name], *map(_clean, arguments))

    async def _as_of(self, name: str, *arguments: Any) -> AsOf[Sequence[asyncpg.Record]]:
        """At least one row, and the position of all of them."""
        rows = await self._rows(name, *arguments)
        seq: int | None = rows[0]["seen_seq"]
        if seq is None:
            raise Unavailable("postgres", "the read models are being built")
        return AsOf(seq, rows)

    async def _one(self, name: str, *arguments: Any) -> AsOf[asyncpg.Record | None]:
        seq, (row,) = await self._as_of(name, *arguments)
        return AsOf(seq, row if _is_there(row) else None)


def _statuses(status: str | None) -> list[str] | None:
    if status is None:
        return None
    return sorted(ACTIVE_STATUSES) if status == "active" else [status]


def _time(text: str | None) -> str | None:
    """A time as the views hold it; Refusal where it is none."""
    try:
        return None if text is None else rfc3339(epoch_ms(text))
    except ValueError as error:
        raise Refusal("invalid_time", "A time is RFC 3339 with its offset.", status=400) from error


def _page(
    rows: Sequence[asyncpg.Record], limit: int, body: Callable[[asyncpg.Record], Any], key: Sequence[str]
) -> Page[Any]:
    """One row more than the limit was asked for: it tells whether there is more."""
    rows = [row for row in rows if _is_there(row)]
    shown = rows[:limit]
    has_more = len(rows) > limit
    cursor = to_cursor(*(shown[-1][name] for name in key)) if has_more and shown else None
    return Page(data=[body(row) for row in shown], next_cursor=cursor, has_more=has_more)


def _is_there(row: asyncpg.Record) -> bool:
    """Whether it is a row of the view, and not only of the position."""
    return row["batch_id"] is not None


def _clean(argument: Any) -> Any:
    """PostgreSQL refuses the character NUL; nothing in the views has it, so nothing is found by it."""
    return argument.replace("\0", "\ufffd") if isinstance(argument, str) else argument
