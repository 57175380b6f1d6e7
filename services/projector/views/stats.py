"""The view of sums: files by status, by day and by minute, and how long processing took."""

import math
from collections.abc import Sequence
from typing import Any

from services.projector.views.rows import Rows
from services.projector.views.schema import ddl
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.views import Column, Table, Write

#: Durations within a factor of 2^(1/8) share a bucket: 4 % of error at most, 160 buckets up to 12 days.
BUCKETS_PER_DOUBLING = 8

_SUM = Column("bigint", "add", 0)

TENANTS = Table(
    name="tenants",
    key=("tenant",),
    columns={
        "tenant": Column("text"),
        "batches": _SUM,
        "queued": _SUM,
        "processing": _SUM,
        "waiting": _SUM,
        "retrying": _SUM,
        "completed": _SUM,
        "failed": _SUM,
        "rejected": _SUM,
        "cancelled": _SUM,
    },
)
DAYS = Table(
    name="days",
    key=("tenant", "day"),
    columns={
        "tenant": Column("text"),
        "day": Column("text"),
        "batches": _SUM,
        "files": _SUM,
        "completed": _SUM,
        "failed": _SUM,
        "rejected": _SUM,
        "cancelled": _SUM,
        "bytes": _SUM,
    },
)
DURATIONS = Table(
    name="durations",
    key=("tenant", "day", "duration_ms"),
    columns={
        "tenant": Column("text"),
        "day": Column("text"),
        "duration_ms": Column("bigint"),
        "files": _SUM,
    },
)
ETAS = Table(
    name="etas",
    key=("tenant", "day", "ratio_pct"),
    columns={
        "tenant": Column("text"),
        "day": Column("text"),
        "ratio_pct": Column("bigint"),
        "batches": _SUM,
    },
)
MINUTES = Table(
    name="minutes",
    key=("tenant", "minute"),
    columns={
        "tenant": Column("text"),
        "minute": Column("text"),
        "completed": _SUM,
        "first_at": Column("text", "min"),
        "last_at": Column("text", "max"),
    },
)


class Stats:
    """``GET /v1/stats``."""

    name = "stats"
    version = 2
    ddl = ddl("stats")
    tables = (TENANTS, DAYS, DURATIONS, MINUTES, ETAS)

    def fold(self, events: Sequence[Recorded]) -> list[Write]:
        tenants, days, durations, minutes, etas = (Rows(table, upsert=True) for table in self.tables)
        for record in events:
            day = (record.tenant, record.time[:10])
            status = e.STATUS_AFTER.get(type(record.event))
            if status is not None:
                tenants.change((record.tenant,), _moved(record, status))
                if change := _of_day(record, status):
                    days.change(day, change)
            elif isinstance(record.event, e.BatchCreated):
                tenants.change((record.tenant,), {"batches": 1})
                days.change(day, {"batches": 1})
            elif isinstance(record.event, e.BatchCompleted) and record.event.eta_ratio is not None:
                etas.change((*day, bucket_ms(round(100 * record.event.eta_ratio))), {"batches": 1})
            if isinstance(record.event, e.FileCompleted):
                durations.change((*day, bucket_ms(record.event.duration_ms)), {"files": 1})
                minutes.change((record.tenant, record.time[:16]), _of_minute(record))
        return [write for rows in (tenants, days, durations, minutes, etas) for write in rows.writes()]


def _moved(record: Recorded, status: e.FileStatus) -> dict[str, int]:
    """A file moved from one status to another."""
    previous: e.FileStatus | None = getattr(record.event, "previous", None)
    if previous == status:
        return {}
    return {status: 1} if previous is None else {status: 1, previous: -1}


def _of_day(record: Recorded, status: e.FileStatus) -> dict[str, int]:
    event: Any = record.event
    change: dict[str, int] = {status: 1} if status in e.FINAL_STATUSES else {}
    if getattr(event, "previous", None) is None:
        change["files"] = 1
        change["bytes"] = event.bytes
    return change


def _of_minute(record: Recorded) -> dict[str, Any]:
    return {"completed": 1, "first_at": record.time, "last_at": record.time}


def bucket_ms(duration_ms: int) -> int:
    """The duration (or other number) that stands for its bucket: its middle on a logarithmic scale."""
    if duration_ms < 1:
        return 0
    bucket = math.floor(math.log2(duration_ms) * BUCKETS_PER_DOUBLING)
    return round(2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING))
