"""What travels beside the log: work to be done, alarms to be rung, and what services tell of themselves."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tanda.contracts.results import BlobRef

#: The lane that processors without an outside provider share.
LANE_DEFAULT = "main"
#: The lane of small batches, whatever their processors: nothing of a large one is before them.
LANE_SMALL = "small"
#: The lane of work so cheap that runners take it in groups.
LANE_QUICK = "quick"
#: The lane of an outside provider is this and its name.
_PROVIDER_PREFIX = "provider-"


def provider_lane(provider: str) -> str:
    """The lane of an outside provider: ``http-publisher``, ``llm-anthropic`` …"""
    return _PROVIDER_PREFIX + provider


def lane_provider(lane: str) -> str | None:
    """The outside provider that a lane belongs to, None for the house's own lanes."""
    return lane.removeprefix(_PROVIDER_PREFIX) if lane.startswith(_PROVIDER_PREFIX) else None


class WorkItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of one file, released by the scheduler; a runner needs nothing else to begin.

    The files of a group are released together, and the queue holds them as one.
    """

    tenant: str
    batch_id: str
    file_id: str
    #: The log position of the ``FileQueued`` that asks for it: what the runner's first event expects; 0 where
    #: the file's own subject begins with that.
    seq: int
    attempt: int
    name: str
    content_type: str
    bytes: int
    sha256: str
    source: BlobRef
    processor: str
    #: Only this version of it; None: the one that the worker has.
    processor_version: str | None = None
    options: dict[str, Any] = {}
    lane: str = LANE_DEFAULT
    #: As the ``FileQueued`` has it: for its outcome.
    effort: int = 0
    #: The group whose event tells the outcome of this file and of those that came with it; ``seq`` is the
    #: position of its ``FilesQueued`` then. "" for a file of its own.
    group: str = ""


def work_token(item: WorkItem) -> str:
    """What the queue knows an item by: its file, or its group."""
    return item.group or item.file_id


def bundles(items: Sequence[WorkItem]) -> list[list[WorkItem]]:
    """The items as the queue holds them: those of a group together, any other by itself."""
    found: list[list[WorkItem]] = []
    for item in items:
        before = found[-1][0] if found else None
        same = (
            before is not None
            and item.group
            and (item.batch_id, item.group) == (before.batch_id, before.group)
        )
        if same:
            found[-1].append(item)
        else:
            found.append([item])
    return found


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """Something that becomes due: the next attempt of a file, or the start of a batch."""

    tenant: str
    batch_id: str
    #: None for the batch itself.
    file_id: str | None
    #: The log position that asked for it; a timer that outlived its reason is dropped by it.
    seq: int


# -- what the running services tell of themselves: kept for seconds, never the truth -----------------


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
    #: Of a worker: the version of each processor that it has, by name.
    processors: dict[str, str] = {}
