"""The view of sums: files by status, by day and by minute, and how long processing took."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.projector.views.rows import Rows
from services.projector.views.schema import ddl
from services.projector.views.view import View
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


class Stats(View):
    """``GET /v1/stats``."""

    name = "stats"
    version = 2
    ddl = ddl("stats")
    tables = (TENANTS, DAYS, DURATIONS, MINUTES, ETAS)

    def folding(self) -> "_Folding":
        return _Folding()


class _Day:
    """What files of a tenant did on a day; many events differ in nothing, and rows are touched once."""

    __slots__ = ("batches", "bytes", "completed", "etas", "lasted", "moves")

    def __init__(self) -> None:
        self.batches = self.bytes = 0
        #: How many files came to a status from another, None for new ones.
        self.moves: Counter[tuple[e.FileStatus, e.FileStatus | None]] = Counter()
        #: Files by how long they took, and by the moment of their completion.
        self.lasted: Counter[int] = Counter()
        self.completed: Counter[str] = Counter()
        #: Batches by how far off their time left had been, in percent.
        self.etas: Counter[int] = Counter()

    def add(self, record: Recorded) -> None:
        event = record.event
        status = e.STATUS_AFTER.get(type(event))
        if status is not None:
            self._add_file(record, event, status)
        elif isinstance(event, e.FilesQueued):
            self.moves["queued", None] += len(event.files)
            self.bytes += sum([file.bytes for _, file in event.files])
        elif isinstance(event, e.FilesCompleted):
            self.moves["completed", "queued"] += len(event.files)
            self.completed[record.time] += len(event.files)
            self.lasted.update([file.duration_ms for _, file in event.files])
        elif isinstance(event, e.BatchCreated):
            self.batches += 1
        elif isinstance(event, e.BatchCompleted) and event.eta_ratio is not None:
            self.etas[bucket_ms(round(100 * event.eta_ratio))] += 1

    def _add_file(self, record: Recorded, event: Any, status: e.FileStatus) -> None:
        previous: e.FileStatus | None = None if status == "rejected" else event.previous
        self.moves[status, previous] += 1
        if previous is None:
            self.bytes += event.bytes
        elif status == "completed":
            self.lasted[event.duration_ms] += 1
            self.completed[record.time] += 1


class _Folding:
    def __init__(self) -> None:
        self._days: dict[tuple[str, str], _Day] = {}

    def add(self, events: Sequence[Recorded]) -> None:
        key, of_day = ("", ""), _Day()
        for record in events:
            if (record.tenant, record.time[:10]) != key:
                key = (record.tenant, record.time[:10])
                of_day = self._days.setdefault(key, _Day())
            of_day.add(record)

    def writes(self) -> list[Write]:
        tenants, days, durations, minutes, etas = (Rows(table, upsert=True) for table in Stats.tables)
        for (tenant, day), one in self._days.items():
            if one.batches:
                tenants.change((tenant,), {"batches": one.batches})
                days.change((tenant, day), {"batches": one.batches})
            if one.bytes:
                days.change((tenant, day), {"bytes": one.bytes})
            for (status, previous), files in one.moves.items():
                tenants.change((tenant,), _moved(status, previous, files))
                days.change((tenant, day), _of_day(status, previous, files))
            for duration_ms, files in one.lasted.items():
                durations.change((tenant, day, bucket_ms(duration_ms)), {"files": files})
            for at, files in one.completed.items():
                minutes.change((tenant, at[:16]), {"completed": files, "first_at": at, "last_at": at})
            for ratio_pct, batches in one.etas.items():
                etas.change((tenant, day, ratio_pct), {"batches": batches})
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
