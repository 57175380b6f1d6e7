"""What the running services tell of themselves: kept for seconds, never part of the truth."""

import msgspec


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as the leading scheduler sees it."""

    name: str
    in_flight: int
    queued: int
    #: The outside provider, its limit, and what of it its brake allows now; None for the house's own lanes.
    provider: str | None = None
    limit: int | None = None
    allowed: int | None = None
    #: RFC 3339; None where it is not braked.
    braked_until: str | None = None
    brake_level: int = 0
    brake_code: str = ""


class SchedulerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the leading scheduler knows."""

    leader: str
    #: RFC 3339.
    at: str
    #: The last event that it has folded.
    position: int
    unfinished_batches: int
    queued: int
    in_flight: int
    lanes: list[LaneStatus]
    #: Files in flight by processor and by tenant, of those that have a limit.
    processors: dict[str, int] = {}
    tenants: dict[str, int] = {}
    #: Why batches wait, by id: ``limit``, ``brake``, ``fair_share``.
    reasons: dict[str, str] = {}


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """A running service."""

    #: ``gateway``, ``worker``, ``storage``, ``projector``.
    name: str
    instance: str
    #: RFC 3339; when it last said so.
    at: str
