"""What the scheduler tells of itself: a summary of its fold, for people who wait."""

from collections.abc import Sequence

from tanda.contracts.times import rfc3339
from tanda.contracts.work import LaneStatus, SchedulerStatus, lane_provider
from tanda.domain.scheduling.fair import FairScheduler


def status_of(fair: FairScheduler, lanes: Sequence[str], *, leader: str, now_ms: int) -> SchedulerStatus:
    """The fold as of now."""
    limits = fair.limits
    return SchedulerStatus(
        leader=leader,
        at=rfc3339(now_ms),
        position=fair.position,
        unfinished_batches=fair.unfinished(),
        queued=fair.unreleased(),
        in_flight=fair.in_flight(),
        lanes=[_lane(fair, lane, now_ms) for lane in lanes],
        processors={name: fair.in_flight_of(processor=name) for name in limits.processors},
        tenants={name: fair.in_flight_of(tenant=name) for name in limits.tenants},
        reasons=fair.reasons(now_ms),
    )


def _lane(fair: FairScheduler, lane: str, now_ms: int) -> LaneStatus:
    provider, brake = lane_provider(lane), fair.brake(lane)
    return LaneStatus(
        name=lane,
        in_flight=fair.in_flight(lane),
        queued=fair.unreleased(lane),
        provider=provider,
        limit=None if provider is None else fair.limit(provider),
        allowed=fair.allowed(lane),
        braked_until=rfc3339(brake.until_ms) if brake.until_ms > now_ms else None,
        brake_level=brake.level,
        brake_code=brake.code if brake.level else "",
    )
