"""How long the property tests search: the same cases on every run, more of them by choice.

``TANDA_TEST_EXAMPLES=20000`` searches that many random cases instead.
"""

import os

from hypothesis import HealthCheck, settings

CHOSEN = os.environ.get("TANDA_TEST_EXAMPLES")


def examples(count: int, steps: int = 50) -> settings:
    """Settings for a property whose everyday search is ``count`` examples."""
    return settings(
        max_examples=int(CHOSEN) if CHOSEN else count,
        stateful_step_count=steps,
        derandomize=CHOSEN is None,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
