"""How long the stack needs to work again after a fault, read from the log's own timestamps."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import median

from tests.chaos.faults import Injected
from tests.chaos.invariants import OUTCOMES
from tests.chaos.reading import Told

#: The rate before a fault is that of this time before it; full speed is this part of that rate.
BEFORE_MS = 5_000
WINDOW_MS = 2_000
FULL = 0.8


def outcome_times(events: Sequence[Told]) -> list[int]:
    return sorted(one.at_ms for one in events if one.name in OUTCOMES)


def recovery_ms(times: Sequence[int], at_ms: int) -> int | None:
    """From a fault to the first outcome after it from which 2 s go at 80 % of the rate before the fault.

    None where nothing was being finished before it, or the load ended before full speed came again.
    """
    before = bisect_left(times, at_ms) - bisect_left(times, at_ms - BEFORE_MS)
    wanted = FULL * before * WINDOW_MS / BEFORE_MS
    if before == 0:
        return None
    for place in range(bisect_left(times, at_ms), len(times)):
        if bisect_right(times, times[place] + WINDOW_MS) - place >= wanted:
            return times[place] - at_ms
    return None


def table(injected: Sequence[Injected], times: Sequence[int]) -> list[str]:
    """One line for each kind and victim: how many, and the recovery times' median and 95th percentile."""
    rows = ["| fault | count | recovered | median s | p95 s |", "|---|---|---|---|---|"]
    groups: dict[str, list[Injected]] = {}
    for one in injected:
        groups.setdefault(f"{one.fault.kind} {one.fault.victim}", []).append(one)
        groups.setdefault(f"all: {one.fault.kind}", []).append(one)
    for name, group in sorted(groups.items()):
        found = sorted(took for one in group if (took := recovery_ms(times, one.at_ms)) is not None)
        figures = "– | –"
        if found:
            p95 = found[min(len(found) - 1, int(0.95 * len(found)))]
            figures = f"{median(found) / 1000:.2f} | {p95 / 1000:.2f}"
        rows.append(f"| {name} | {len(group)} | {len(found)} | {figures} |")
    return rows
