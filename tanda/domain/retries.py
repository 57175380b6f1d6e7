"""Whether a failed attempt is followed by another, and when: a pure policy, one row per error class.

The numbers are first guesses of the seconds that each kind of trouble lasts; each cites its source.
"""

from typing import Final

import msgspec

from tanda.contracts.results import FileError

#: The attempt's process died (out of memory, killed, machine gone). Such a file may take workers down
#: with it, so it gets three attempts whatever others get (SAFETY 2, rows 4 and 5).
LOST_CODES: Final = frozenset({"worker_lost", "memory"})
LOST_ATTEMPTS_MAX: Final = 3

#: An outside provider says 429 or 503.
PROVIDER_CODES: Final = frozenset({"rate_limited", "unavailable"})
#: Three retries after 10, 30 and 60 s: providers count by the minute, so the last one is in a new minute
#: whenever the first call was (the schedule that DESIGN promises).
PROVIDER_DELAYS_S: Final = (10.0, 30.0, 60.0)
#: A provider's Retry-After is obeyed up to a day; a longer one is an outage that a person looks at.
RETRY_AFTER_S_MAX: Final = 86_400.0

#: Everything else that may pass by itself: a busy disk, a dropped connection. Powers of five, since the
#: first second is enough for most and half a minute for nearly all of the rest.
DELAYS_S: Final = (1.0, 5.0, 25.0)


class _Schedule(msgspec.Struct, frozen=True):
    delays_s: tuple[float, ...]
    attempts_max: int | None
    #: Never before the delay, rather than anywhere within it.
    floor: bool


_LOST = _Schedule(DELAYS_S, LOST_ATTEMPTS_MAX, floor=False)
_PROVIDER = _Schedule(PROVIDER_DELAYS_S, None, floor=True)
_OTHER = _Schedule(DELAYS_S, None, floor=False)


def decide_retry(
    error: FileError,
    attempt: int,
    *,
    attempts_max: int,
    now_ms: int,
    entropy: float,
    retry_after_s: float | None = None,
) -> int | None:
    """When the next attempt is due, in milliseconds since the epoch; None where there is none.

    ``attempt`` is the one that failed, from 1; ``entropy`` is in [0, 1). All jitter is full: an own
    delay is spread over its whole length from now (AWS, "Exponential Backoff And Jitter", 2015), and
    a provider's over another length after it, since coming back before it asked to is what it punishes.
    """
    schedule = _schedule(error.code)
    limit = min(attempts_max, schedule.attempts_max or attempts_max)
    if not error.retryable or attempt >= limit:
        return None
    delay_s = schedule.delays_s[min(attempt, len(schedule.delays_s)) - 1]
    floor_s = delay_s if schedule.floor else 0.0
    if retry_after_s is not None:
        floor_s = max(floor_s, min(retry_after_s, RETRY_AFTER_S_MAX))
    return now_ms + round(1000 * (floor_s + delay_s * entropy))


def _schedule(code: str) -> _Schedule:
    if code in LOST_CODES:
        return _LOST
    return _PROVIDER if code in PROVIDER_CODES else _OTHER
