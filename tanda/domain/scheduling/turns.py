"""Whose turn it is: the fair order among the batches that have something to release.

Round robin over tenants; within a tenant a wheel over the priorities; within a priority round robin
over batches. A turn is one file (of quick work a group, or as many single files), so that every turn costs
much the same and no deficit needs carrying.

The wheel has 13 places, 8 for interactive, 4 for normal, 1 for bulk; places of a priority that has
nothing waiting are skipped. So every priority keeps its share however much is asked of the others,
and a batch waits at most ``tenants * 13 * batches of its priority`` turns: nothing starves, and
nothing needs to grow old for its turn. Priorities compete within a tenant only: no tenant gains by
calling all its work interactive.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from tanda.contracts.events import Priority

_LETTERS: Final[dict[str, Priority]] = {"i": "interactive", "n": "normal", "b": "bulk"}
#: Interactive, normal and bulk as 8 : 4 : 1, each spread as evenly as it goes.
WHEEL: Final = tuple(_LETTERS[letter] for letter in "iniinibiniini")


class TenantTurns(msgspec.Struct):
    """A tenant's place on the wheel and its waiting batches by priority; also how they are kept."""

    tenant: str
    place: int
    waiting: dict[Priority, list[str]]


class _Tenant:
    """The batches of one tenant, each priority in the order of its turns."""

    __slots__ = ("place", "waiting")

    def __init__(self) -> None:
        self.place = 0
        self.waiting: dict[Priority, OrderedDict[str, None]] = {}

    def next(self) -> str:
        place = self.place
        while not (batches := self.waiting.get(WHEEL[place])):
            place = (place + 1) % len(WHEEL)
        self.place = (place + 1) % len(WHEEL)
        batch_id = next(iter(batches))
        batches.move_to_end(batch_id)
        return batch_id


class Turns:
    """The batches of one lane that have something to release. Deterministic; every step is O(1)."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        #: Tenants that are at their limit: their batches keep their places, and have no turn.
        self._held: dict[str, _Tenant] = {}

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def add(self, tenant: str, priority: Priority, batch_id: str) -> None:
        """Lets a batch take part, after those that already wait; one that does keeps its place."""
        ring = self._ring(tenant)
        if ring is None:
            ring = self._tenants[tenant] = _Tenant()
        ring.waiting.setdefault(priority, OrderedDict()).setdefault(batch_id)

    def remove(self, tenant: str, priority: Priority, batch_id: str) -> None:
        """Lets a batch take part no longer, whether or not it did."""
        ring = self._ring(tenant)
        if ring is None or priority not in ring.waiting:
            return
        ring.waiting[priority].pop(batch_id, None)
        if not ring.waiting[priority]:
            del ring.waiting[priority]
        if not ring.waiting:
            self._tenants.pop(tenant, None)
            self._held.pop(tenant, None)

    def hold(self, tenant: str) -> None:
        """Passes over a tenant from now on."""
        if tenant in self._tenants:
            self._held[tenant] = self._tenants.pop(tenant)

    def free(self, tenant: str) -> None:
        """Lets a held tenant take part again, after the others."""
        if tenant in self._held:
            self._tenants[tenant] = self._held.pop(tenant)

    def next_tenant(self) -> str:
        """Whose turn it will be."""
        return next(iter(self._tenants))

    def next(self) -> tuple[str, str]:
        """The tenant and batch whose turn it is; it has its next one after all others'."""
        tenant, ring = next(iter(self._tenants.items()))
        self._tenants.move_to_end(tenant)
        return tenant, ring.next()

    def keep(self) -> list[TenantTurns]:
        """The order as plain values, held tenants last."""
        return [
            TenantTurns(tenant, ring.place, {priority: list(ids) for priority, ids in ring.waiting.items()})
            for tenant, ring in (*self._tenants.items(), *self._held.items())
        ]

    @classmethod
    def restore(cls, kept: list[TenantTurns]) -> "Turns":
        """The same order again, with nobody held."""
        turns = cls()
        for tenant in kept:
            for priority, ids in tenant.waiting.items():
                for batch_id in ids:
                    turns.add(tenant.tenant, priority, batch_id)
            turns._tenants[tenant.tenant].place = tenant.place
        return turns

    def _ring(self, tenant: str) -> _Tenant | None:
        return self._tenants.get(tenant) or self._held.get(tenant)
