"""What a batch's counts mean to someone who waits: percent, status, time left, and why nothing moves."""

from collections.abc import Mapping

import msgspec

from tanda.contracts.events import FINAL_STATUSES
from tanda.contracts.http import BatchStatus, Counts, EtaStats, Progress
from tanda.domain.effort import time_left

#: Until this many files are settled, a rate is chance and no estimate is given.
ETA_DONE_MIN = 2


class BatchFacts(msgspec.Struct, frozen=True, kw_only=True):
    """When what happened to a batch (RFC 3339), None for what did not or was taken back, and its effort."""

    start_at: str | None = None
    sealed_at: str | None = None
    started_at: str | None = None
    paused_at: str | None = None
    completed_at: str | None = None
    cancelled_at: str | None = None
    retried_at: str | None = None
    #: Files of the latest retry.
    retried: int = 0
    #: Files that have their next attempt before them: the counts have them as queued.
    retrying: int = 0
    #: Of all files that were ever queued, and what of that is settled (``tanda.domain.effort``).
    effort: int = 0
    effort_done: int = 0


def batch_status(facts: BatchFacts, counts: Counts) -> BatchStatus:
    """The one word for a batch. Rejected files are errors; a cancelled batch stays so until a retry."""
    if facts.cancelled_at:
        return "cancelled"
    if facts.completed_at:
        return _outcome(counts)
    if facts.paused_at:
        return "paused"
    if not facts.sealed_at:
        return "open"
    return "processing" if facts.started_at or facts.retried_at else "queued"


def _outcome(counts: Counts) -> BatchStatus:
    if counts.completed == counts.total:
        return "completed"
    return "completed_with_errors" if counts.completed else "failed"


def percent(part: int, whole: int) -> float:
    """One decimal; 48 of 51 is 94.1. 100.0 is kept for all of them, and nothing of nothing is 0.0."""
    if part >= whole:
        return 100.0 if whole else 0.0
    return min(round(100 * part / whole, 1), 99.9)


def settled(counts: Counts) -> int:
    """Files in a final status."""
    return sum(getattr(counts, status) for status in FINAL_STATUSES)


def progress(facts: BatchFacts, counts: Counts, *, now: str, now_ms: int, since_ms: int | None) -> Progress:
    """Percentages, time left and waiting reason. ``since_ms`` is when the latest run began to work."""
    reason = waiting_reason(facts, counts, now)
    return Progress(
        settled_pct=percent(settled(counts), counts.total),
        succeeded_pct=percent(counts.completed, counts.total),
        eta_s=None if reason or since_ms is None else eta_s(facts, counts, (now_ms - since_ms) / 1000),
        waiting_reason=reason,
    )


def eta_s(facts: BatchFacts, counts: Counts, elapsed_s: float) -> float | None:
    """Seconds until the last file is settled, at the rate since the work began; None where none tells."""
    remaining = counts.total - settled(counts)
    if remaining == 0 or facts.completed_at or facts.cancelled_at:
        return None
    retried = facts.retried if facts.retried_at and remaining <= facts.retried else None
    done = (settled(counts) - counts.rejected) if retried is None else retried - remaining
    if done < ETA_DONE_MIN or elapsed_s <= 0:
        return None
    # What was settled before a retry is no part of its rate, and only files are counted from there.
    effort, effort_done = (0, 0) if facts.retried_at else (facts.effort, facts.effort_done)
    told_s = time_left(elapsed_s, done=done, left=remaining, effort=effort, effort_done=effort_done)
    return round(told_s, 1)


def waiting_reason(facts: BatchFacts, counts: Counts, now: str) -> str | None:
    """Why nothing of an unfinished batch moves, or None: ``now`` is RFC 3339 like the facts."""
    if facts.completed_at or facts.cancelled_at or settled(counts) == counts.total > 0:
        return None
    if facts.paused_at:
        return "paused"
    if facts.start_at and facts.start_at > now:
        return "scheduled"
    if counts.processing or counts.queued > facts.retrying or not facts.sealed_at:
        return None
    if facts.retrying:
        return "retry"
    return "confirmation" if counts.waiting else None


def eta_stats(ratios: Mapping[int, int]) -> EtaStats:
    """Of a histogram of times taken in percent of the times told: how far off they were."""
    errors: dict[int, int] = {}
    for ratio, batches in ratios.items():
        error = abs(ratio - 100)
        errors[error] = errors.get(error, 0) + batches
    return EtaStats(
        batches=sum(errors.values()),
        median_error_pct=percentile(errors, 0.5),
        p95_error_pct=percentile(errors, 0.95),
    )


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """The value below which a share of the counted lie, of a histogram of representative values."""
    total = sum(histogram.values())
    if not total:
        return None
    passed = 0
    for value in sorted(histogram):
        passed += histogram[value]
        if passed >= share * total:
            return float(value)
    raise AssertionError("the last bucket reaches the whole")


def rate_per_s(count: int, first_ms: int, last_ms: int) -> float:
    """Events per second over the time they took, which counts as a second at least."""
    return round(count / max((last_ms - first_ms) / 1000, 1.0), 2)
