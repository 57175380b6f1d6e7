"""Limits: set by an event, so that every scheduler of every time has the same; used, as the leader tells."""

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import CallerDep, administrate, authenticate
from services.gateway.answers import Answer, read, written
from services.gateway.batches.accept import DECISIONS_MAX
from services.gateway.deps import Gateway, GatewayDep
from services.gateway.openapi import answers
from services.gateway.problems import InvalidFields
from services.gateway.upload.body import json_body
from services.gateway.upload.fields import limit_error
from tanda.contracts.envelope import Origin, new_event
from tanda.contracts.events import LimitsChanged
from tanda.contracts.http import BrakeInfo, LimitInfo, LimitsInfo, ProviderInfo, SetLimits
from tanda.contracts.subjects import LIMITS_SUBJECT, is_tenant, is_token
from tanda.contracts.work import LaneStatus
from tanda.domain.errors import Conflict, Refusal, Unavailable
from tanda.domain.scheduling.limits import Limits
from tanda.settings import providers

router = APIRouter(
    prefix="/v1/limits", tags=["control"], dependencies=[Depends(authenticate), Depends(administrate)]
)

#: Names in one change.
NAMES_MAX = 1_000


@router.get("", openapi_extra=answers(200, LimitsInfo))
async def get_limits(request: Request, gateway: GatewayDep) -> Response:
    """Every limit that is set, every provider that is configured, and what of them is used now."""
    limits, seq = await _limits(gateway)
    return read(request, await _info(gateway, limits, seq), seq)


@router.put("", openapi_extra=answers(200, LimitsInfo, body=SetLimits))
async def set_limits(request: Request, caller: CallerDep, gateway: GatewayDep) -> Response:
    """Sets limits while everything runs; null brings a name's default back."""
    asked, _ = await json_body(request, gateway.settings, SetLimits)
    event = _checked(asked)
    answer = await _append(gateway, event, gateway.accept.origin(actor=caller.actor))
    return answer.response()


async def _append(gateway: Gateway, event: LimitsChanged, origin: Origin) -> Answer:
    for _ in range(DECISIONS_MAX):
        limits, seq = await _limits(gateway)
        new = new_event(LIMITS_SUBJECT, event, expected_seq=seq, time_ms=gateway.now_ms(), origin=origin)
        try:
            (record,) = await gateway.accept.append([new])
        except Conflict:
            continue
        return written(200, await _info(gateway, limits.after(event), record.seq), record.seq)
    raise Unavailable("nats", "the limits are being changed by others all the time")


async def _limits(gateway: Gateway) -> tuple[Limits, int]:
    """The limits as the log has them, and the position of their last change."""
    limits, seq = Limits(), 0
    async for records in gateway.log.read(LIMITS_SUBJECT):
        for record in records:
            if isinstance(record.event, LimitsChanged):
                limits, seq = limits.after(record.event), record.seq
    return limits, seq


async def _info(gateway: Gateway, limits: Limits, seq: int) -> LimitsInfo:
    status = await gateway.reasons.status()
    lanes = {lane.provider: lane for lane in status.lanes if lane.provider} if status else {}
    names = sorted({*providers(gateway.settings), *limits.providers, *lanes})
    default = gateway.settings.provider_limit
    return LimitsInfo(
        providers=[_provider(one, limits.providers.get(one, default), lanes.get(one)) for one in names],
        processors=_used(limits.processors, status.processors if status else {}),
        tenants=_used(limits.tenants, status.tenants if status else {}),
        changed_seq=seq,
    )


def _provider(name: str, limit: int, lane: LaneStatus | None) -> ProviderInfo:
    if lane is None:
        return ProviderInfo(name=name, limit=limit, allowed_now=limit)
    brake = BrakeInfo(until=lane.braked_until, level=lane.brake_level, code=lane.brake_code)
    return ProviderInfo(
        name=name,
        limit=limit,
        allowed_now=0 if lane.braked_until else min(lane.allowed or limit, limit),
        in_flight=lane.in_flight,
        queued=lane.queued,
        brake=brake if lane.brake_level or lane.braked_until else None,
    )


def _used(limits: dict[str, int], in_flight: dict[str, int]) -> list[LimitInfo]:
    return [
        LimitInfo(name=name, limit=limit, in_flight=in_flight.get(name, 0))
        for name, limit in sorted(limits.items())
    ]


def _checked(asked: SetLimits) -> LimitsChanged:
    kinds = {"providers": asked.providers, "processors": asked.processors, "tenants": asked.tenants}
    errors = [
        error
        for kind, values in kinds.items()
        for name, value in values.items()
        for error in (*_name_error(kind, name), *limit_error(f"{kind}.{name}", value))
    ]
    if errors:
        raise InvalidFields(*errors)
    if not any(kinds.values()):
        raise Refusal("empty_change", "Name the limits to set.")
    if sum(map(len, kinds.values())) > NAMES_MAX:
        raise Refusal("too_many_limits", f"At most {NAMES_MAX:,} limits at once.")
    return LimitsChanged(providers=asked.providers, processors=asked.processors, tenants=asked.tenants)


def _name_error(kind: str, name: str) -> list[tuple[str, str]]:
    is_name = is_tenant(name) if kind == "tenants" else is_token(name)
    return [] if is_name else [(kind, "a name has 1 to 64 letters, digits, hyphens and underscores")]
