"""How many files may run at once: the operator's limits, and the brake of a provider that asked for a pause.

A brake is adaptive. Each time of trouble halves what the provider is asked to do at once, down to one
call; a row of calls that went well gives one halving back. Trouble that comes in while the provider is
braked anyway is the same time of trouble: the calls were under way.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tanda.contracts import events as e

#: So many good calls in a row give back half of what was taken.
CALM_CALLS: Final = 5
#: 2^10 calls at once and more come down to one; further halvings would only delay the way back.
LEVEL_MAX: Final = 10
#: A limit is a small number: beyond it nothing is limited.
LIMIT_MAX: Final = 100_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator has set, by name; what is not in it has its default."""

    providers: dict[str, int] = {}
    processors: dict[str, int] = {}
    tenants: dict[str, int] = {}

    def after(self, event: e.LimitsChanged) -> "Limits":
        """The limits with a change made."""
        return Limits(
            providers=_merged(self.providers, event.providers),
            processors=_merged(self.processors, event.processors),
            tenants=_merged(self.tenants, event.tenants),
        )


def _merged(old: Mapping[str, int], change: Mapping[str, int | None]) -> dict[str, int]:
    return {name: value for name, value in {**old, **change}.items() if value is not None}


class Brake(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's answers of late allow."""

    #: Nobody calls it before; milliseconds since the epoch.
    until_ms: int = 0
    #: How often its limit is halved.
    level: int = 0
    #: Calls that went well since the last trouble or release.
    calm: int = 0
    #: Why: ``rate_limited``, ``unavailable``.
    code: str = ""


NO_BRAKE: Final = Brake()


def trouble(brake: Brake, *, at_ms: int, until_ms: int, code: str) -> Brake:
    """A call was answered with a request for a pause."""
    level = brake.level if at_ms < brake.until_ms else min(brake.level + 1, LEVEL_MAX)
    return Brake(until_ms=max(brake.until_ms, until_ms), level=level, code=code)


def success(brake: Brake) -> Brake:
    """A call went well."""
    if not brake.level:
        return brake
    if brake.calm + 1 < CALM_CALLS:
        return msgspec.structs.replace(brake, calm=brake.calm + 1)
    return msgspec.structs.replace(brake, calm=0, level=brake.level - 1)


def allowed(limit: int, brake: Brake) -> int:
    """Calls at once: the limit, halved as often as the brake says, and one at least."""
    return max(1, limit >> brake.level)
