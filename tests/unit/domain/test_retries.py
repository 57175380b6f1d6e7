"""The retry policy: who gets another attempt, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanda.contracts.results import FileError
from tanda.domain.retries import LOST_CODES, PROVIDER_CODES, RETRY_AFTER_S_MAX, decide_retry
from tests.unit.domain.profile import examples


def _delay_ms(
    code: str, attempt: int, *, entropy: float = 0.0, attempts_max: int = 4, after_s: float | None = None
) -> int | None:
    error = FileError(code=code, message="It may work later.", retryable=True)
    return decide_retry(
        error, attempt, attempts_max=attempts_max, now_ms=0, entropy=entropy, retry_after_s=after_s
    )


def test_what_cannot_succeed_is_not_tried_again() -> None:
    """An error that is not retryable is final on the first attempt."""
    error = FileError(code="broken", message="It will never work.")
    assert decide_retry(error, 1, attempts_max=4, now_ms=0, entropy=0.5, retry_after_s=None) is None


@pytest.mark.parametrize("code", sorted(PROVIDER_CODES))
def test_a_provider_gets_its_pause_and_the_jitter_comes_on_top(code: str) -> None:
    """10, 30 and 60 s are the least; three retries with the default of four attempts."""
    assert [_delay_ms(code, attempt) for attempt in (1, 2, 3, 4)] == [10_000, 30_000, 60_000, None]
    assert _delay_ms(code, 2, entropy=0.5) == 45_000


def test_a_retry_after_is_a_floor() -> None:
    """A provider that asks for more gets it; one that asks for less gets ours; a day is the most."""
    assert _delay_ms("rate_limited", 1, after_s=42.0) == 42_000
    assert _delay_ms("rate_limited", 1, after_s=42.0, entropy=0.5) == 47_000
    assert _delay_ms("rate_limited", 1, after_s=2.0) == 10_000
    assert _delay_ms("rate_limited", 1, after_s=-1.0) == 10_000
    assert _delay_ms("rate_limited", 1, after_s=1e9) == RETRY_AFTER_S_MAX * 1000


@pytest.mark.parametrize("code", sorted(LOST_CODES))
def test_a_file_that_takes_workers_down_gets_three_attempts(code: str) -> None:
    """Whatever others get; fewer where the setting says fewer."""
    assert [_delay_ms(code, attempt, attempts_max=9) is None for attempt in (1, 2, 3)] == [False, False, True]
    assert _delay_ms(code, 2, attempts_max=2) is None


def test_other_delays_are_spread_over_their_whole_length() -> None:
    """1, 5 and 25 s are the most; entropy decides where within."""
    assert [_delay_ms("busy", attempt, entropy=0.5) for attempt in (1, 2, 3)] == [500, 2_500, 12_500]
    assert [_delay_ms("busy", attempt, entropy=0.0) for attempt in (1, 2, 3)] == [0, 0, 0]


@examples(200)
@given(
    code=st.sampled_from(["busy", *sorted(LOST_CODES | PROVIDER_CODES)]),
    attempt=st.integers(1, 50),
    attempts_max=st.integers(1, 50),
    entropy=st.floats(0, 1, exclude_max=True),
    after_s=st.none() | st.floats(-10, 1e6),
)
def test_a_retry_is_never_in_the_past_and_attempts_end(
    code: str, attempt: int, attempts_max: int, entropy: float, after_s: float | None
) -> None:
    """Whatever a provider says, the time is ahead and no attempt follows the last."""
    delay = _delay_ms(code, attempt, entropy=entropy, attempts_max=attempts_max, after_s=after_s)
    if attempt >= attempts_max:
        assert delay is None
    assert delay is None or 0 <= delay <= (RETRY_AFTER_S_MAX + 60) * 1000
