"""The view of sums: files by status, by day and by minute, and how long processing took."""

import math
from collections import Counter
from collections.abc import Sequence

from services.projector.views.rows import Rows
from services.projector.views.schema import ddl
from services.projector.views.view import View
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


class Stats(View):
    """``GET /v1/stats``."""

    name = "stats"
    version = 2
    ddl = ddl("stats")
    tables = (TENANTS, DAYS, DURATIONS, MINUTES, ETAS)

    def folding(self) -> "_Folding":
        return _Folding()


class _Folding:
    """What files have in common is summed, and merged into rows once."""

    def __init__(self) -> None:
        self._batches: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._moves: Counter[_Move] = Counter()
        self._lasted: Counter[tuple[str, str, int]] = Counter()
        #: Of each tenant and moment, how many files were completed then.
        self._completed: Counter[tuple[str, str]] = Counter()
        self._etas: Counter[tuple[str, str, int]] = Counter()

    def add(self, events: Sequence[Recorded]) -> None:
        for record in events:
            event, tenant, day = record.event, record.tenant, record.time[:10]
            status = e.STATUS_AFTER.get(type(event))
            if status is not None:
                previous: e.FileStatus | None = getattr(event, "previous", None)
                self._moves[tenant, day, status, previous] += 1
                if previous is None:
                    self._bytes[tenant, day] += event.bytes  # pyright: ignore[reportAttributeAccessIssue]
                elif isinstance(event, e.FileCompleted):
                    self._lasted[tenant, day, event.duration_ms] += 1
                    self._completed[tenant, record.time] += 1
            elif isinstance(event, e.FilesQueued):
                self._moves[tenant, day, "queued", None] += len(event.files)
                self._bytes[tenant, day] += sum([file.bytes for _, file in event.files])
            elif isinstance(event, e.FilesCompleted):
                self._moves[tenant, day, "completed", "queued"] += len(event.files)
                self._completed[tenant, record.time] += len(event.files)
                for duration_ms, files in Counter([file.duration_ms for _, file in event.files]).items():
                    self._lasted[tenant, day, duration_ms] += files
            elif isinstance(event, e.BatchCreated):
                self._batches[tenant, day] += 1
            elif isinstance(event, e.BatchCompleted) and event.eta_ratio is not None:
                self._etas[tenant, day, bucket_ms(round(100 * event.eta_ratio))] += 1

    def writes(self) -> list[Write]:
        tenants, days, durations, minutes, etas = (Rows(table, upsert=True) for table in Stats.tables)
        for (tenant, day), batches in self._batches.items():
            tenants.change((tenant,), {"batches": batches})
            days.change((tenant, day), {"batches": batches})
        for (tenant, day), size in self._bytes.items():
            days.change((tenant, day), {"bytes": size})
        for (tenant, day, status, previous), files in self._moves.items():
            tenants.change((tenant,), _moved(status, previous, files))
            days.change((tenant, day), _of_day(status, previous, files))
        for (tenant, day, duration_ms), files in self._lasted.items():
            durations.change((tenant, day, bucket_ms(duration_ms)), {"files": files})
        for (tenant, at), files in self._completed.items():
            minutes.change((tenant, at[:16]), {"completed": files, "first_at": at, "last_at": at})
        for key, batches in self._etas.items():
            etas.change(key, {"batches": batches})
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
