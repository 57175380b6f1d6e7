"""The view of sums: files by status, by day and by minute, and how long processing took."""

import math
from collections import Counter
from collections.abc import Sequence

from services.projector.views.rows import Rows
from services.projector.views.schema import ddl
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.views import Column, Table, Write

#: Durations within a factor of 2^(1/8) share a bucket: 4 % of error at most, 160 buckets up to 12 days.
BUCKETS_PER_DOUBLING = 8

_SUM = Column("bigint", "add", 0)

#: Tenant, day, the status that files came to and the one that they left: most events differ in nothing else.
_Move = tuple[str, str, e.FileStatus, e.FileStatus | None]

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
        moves: Counter[_Move] = Counter()
        lasted: Counter[tuple[str, str, int]] = Counter()
        completed: dict[tuple[str, str], list[str]] = {}
        for record in events:
            event, tenant, day = record.event, record.tenant, record.time[:10]
            status = e.STATUS_AFTER.get(type(event))
            if status is not None:
                previous: e.FileStatus | None = getattr(event, "previous", None)
                moves[tenant, day, status, previous] += 1
                if previous is None:
                    days.change((tenant, day), {"bytes": event.bytes})  # pyright: ignore[reportAttributeAccessIssue]
                elif isinstance(event, e.FileCompleted):
                    lasted[tenant, day, event.duration_ms] += 1
                    completed.setdefault((tenant, record.time[:16]), []).append(record.time)
            elif isinstance(event, e.FilesQueued):
                moves[tenant, day, "queued", None] += len(event.files)
                days.change((tenant, day), {"bytes": sum(file.bytes for _, file in event.files)})
            elif isinstance(event, e.FilesCompleted):
                moves[tenant, day, "completed", "queued"] += len(event.files)
                lasted.update((tenant, day, file.duration_ms) for _, file in event.files)
                completed.setdefault((tenant, record.time[:16]), []).extend([record.time] * len(event.files))
            elif isinstance(event, e.BatchCreated):
                tenants.change((tenant,), {"batches": 1})
                days.change((tenant, day), {"batches": 1})
            elif isinstance(event, e.BatchCompleted) and event.eta_ratio is not None:
                etas.change((tenant, day, bucket_ms(round(100 * event.eta_ratio))), {"batches": 1})
        for (tenant, day, status, previous), files in moves.items():
            tenants.change((tenant,), _moved(status, previous, files))
            days.change((tenant, day), _of_day(status, previous, files))
        for (tenant, day, duration_ms), files in lasted.items():
            durations.change((tenant, day, bucket_ms(duration_ms)), {"files": files})
        for minute, times in completed.items():
            minutes.change(minute, {"completed": len(times), "first_at": min(times), "last_at": max(times)})
        return [write for rows in (tenants, days, durations, minutes, etas) for write in rows.writes()]


def _moved(status: e.FileStatus, previous: e.FileStatus | None, files: int) -> dict[str, int]:
    """So many files moved from one status to another."""
    if previous == status:
        return {}
    return {status: files} if previous is None else {status: files, previous: -files}


def _of_day(status: e.FileStatus, previous: e.FileStatus | None, files: int) -> dict[str, int]:
    change: dict[str, int] = {status: files} if status in e.FINAL_STATUSES else {}
    if previous is None:
        change["files"] = files
    return change


def bucket_ms(duration_ms: int) -> int:
    """The duration (or other number) that stands for its bucket: its middle on a logarithmic scale."""
    if duration_ms < 1:
        return 0
    bucket = math.floor(math.log2(duration_ms) * BUCKETS_PER_DOUBLING)
    return round(2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING))
