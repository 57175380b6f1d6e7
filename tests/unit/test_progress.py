"""What a batch's counts mean."""

import msgspec
import pytest

from tanda.contracts.http import Counts, Progress
from tanda.domain.effort import COSTS, expected_effort
from tanda.domain.progress import (
    BatchFacts,
    batch_status,
    eta_s,
    percent,
    percentile,
    progress,
    rate_per_s,
    waiting_reason,
)

AT = "2026-11-21T05:00:00.000Z"
RUNNING = BatchFacts(sealed_at=AT, started_at=AT)
#: The batch of ``tanda.samples`` as two workers did it (medians of 18 times): what was done at first, by
#: processor and mean size, and in what time; and then the rest.
FIRST, FIRST_S = [("invoice", 5_300)] * 29, 0.485
REST = [("invoice", 350)] * 2 + [("pdf", 2_300)] * 8 + [("image", 59_000)] * 5 + [("table", 11_600)] * 5
REST_S = 0.888


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(48, 51, 94.1), (49, 51, 96.1), (6, 20, 30.0), (0, 0, 0.0), (9_999, 10_000, 99.9), (3, 3, 100.0)],
)
def test_percent_has_one_decimal_and_keeps_100_for_all(part: int, whole: int, expected: float) -> None:
    """48 of 51 is 94.1, and 9,999 of 10,000 is not done."""
    assert percent(part, whole) == expected


@pytest.mark.parametrize(
    ("facts", "counts", "expected"),
    [
        (BatchFacts(), Counts(), "open"),
        (BatchFacts(sealed_at=AT), Counts(total=2, queued=2), "queued"),
        (RUNNING, Counts(total=2, queued=2), "processing"),
        (BatchFacts(sealed_at=AT, retried_at=AT), Counts(total=2, queued=2), "processing"),
        (BatchFacts(sealed_at=AT, started_at=AT, paused_at=AT), Counts(total=2), "paused"),
        (BatchFacts(sealed_at=AT, completed_at=AT), Counts(total=2, completed=2), "completed"),
        (
            BatchFacts(sealed_at=AT, completed_at=AT),
            Counts(total=2, completed=1, rejected=1),
            "completed_with_errors",
        ),
        (BatchFacts(sealed_at=AT, completed_at=AT), Counts(total=2, failed=2), "failed"),
        (BatchFacts(sealed_at=AT, completed_at=AT, cancelled_at=AT), Counts(total=2), "cancelled"),
    ],
)
def test_a_batch_has_one_word(facts: BatchFacts, counts: Counts, expected: str) -> None:
    """Rejected files count as errors, and a cancelled batch stays so with its results there."""
    assert batch_status(facts, counts) == expected


def test_the_time_left_follows_the_rate_so_far() -> None:
    """Ten of twenty in five seconds: five more."""
    assert eta_s(RUNNING, Counts(total=20, queued=10, completed=10), 5.0) == 5.0


def test_a_batch_whose_slow_files_come_last_is_told_within_a_quarter() -> None:
    """By their number it would be less than half: a PDF or a picture takes longer than an invoice."""
    done = sum(expected_effort(*file) for file in FIRST)
    left = sum(expected_effort(*file) for file in REST)
    counts = Counts(total=len(FIRST) + len(REST), queued=len(REST), completed=len(FIRST))
    facts = msgspec.structs.replace(RUNNING, effort=done + left, effort_done=done)
    by_effort, by_number = eta_s(facts, counts, FIRST_S), eta_s(RUNNING, counts, FIRST_S)
    assert by_effort is not None and by_number is not None
    assert abs(by_effort - REST_S) < 0.25 * REST_S and by_number < 0.5 * REST_S


def test_files_of_one_kind_and_of_none_that_is_known_are_told_by_their_number() -> None:
    """Effort tells nothing new of files that are alike, and nothing at all where nobody has said it."""
    counts = Counts(total=20, queued=15, completed=5)
    alike = msgspec.structs.replace(RUNNING, effort=80, effort_done=20)
    assert eta_s(alike, counts, 5.0) == eta_s(RUNNING, counts, 5.0) == 15.0


@pytest.mark.parametrize("processor", [*COSTS, "noop", "of somebody else"])
def test_more_bytes_are_never_less_effort(processor: str) -> None:
    """Every file is some effort, and a large one no less than a small one."""
    efforts = [expected_effort(processor, size) for size in (0, 1, 5_000, 80_000, 600_000, 4 * 1024**3)]
    assert efforts[0] >= 1 and efforts == sorted(efforts)


def test_a_retry_is_estimated_by_its_own_files() -> None:
    """100 files are long done; of the four retried ones two took two seconds."""
    facts = BatchFacts(sealed_at=AT, started_at=AT, retried_at=AT, retried=4)
    assert eta_s(facts, Counts(total=100, queued=2, completed=98), 2.0) == 2.0


def test_nothing_tells_the_time_left_before_two_files_are_done() -> None:
    """One file is chance."""
    assert eta_s(RUNNING, Counts(total=20, queued=19, completed=1), 5.0) is None


def test_a_paused_batch_says_why_it_waits_and_gives_no_time() -> None:
    """Its rate says nothing while it is paused."""
    facts = BatchFacts(sealed_at=AT, started_at=AT, paused_at=AT)
    counts = Counts(total=51, queued=2, completed=48, failed=1)
    assert progress(facts, counts, now=AT, now_ms=9_000, since_ms=0) == Progress(
        settled_pct=96.1, succeeded_pct=94.1, eta_s=None, waiting_reason="paused"
    )


def test_a_batch_whose_time_has_not_come_is_scheduled() -> None:
    """``start_at`` in the future is a reason, in the past it is none."""
    facts = BatchFacts(sealed_at=AT, start_at="2026-11-21T06:00:00.000Z")
    assert waiting_reason(facts, Counts(total=1, queued=1), AT) == "scheduled"
    assert waiting_reason(facts, Counts(total=1, queued=1), "2026-11-21T06:00:00.001Z") is None


def test_percentiles_come_from_the_histogram() -> None:
    """Of a hundred files, ninety took 10 ms and ten 1,000 ms."""
    histogram = {1_000: 10, 10: 90}
    assert (percentile(histogram, 0.5), percentile(histogram, 0.95)) == (10.0, 1_000.0)
    assert percentile({}, 0.5) is None


def test_a_rate_is_over_a_second_at_least() -> None:
    """A burst within a millisecond is no million a second."""
    assert (rate_per_s(30, 0, 1), rate_per_s(30, 0, 10_000)) == (30.0, 3.0)
