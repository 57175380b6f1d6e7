"""What travels beside the log: work to be done, and alarms to be rung."""

from typing import Any

import msgspec

from tanda.contracts.results import BlobRef

#: The one lane that processors without an outside provider share.
LANE_DEFAULT = "main"
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
    """One attempt of one file, released by the scheduler; a runner needs nothing else to begin."""

    tenant: str
    batch_id: str
    file_id: str
    #: The log position of the ``FileQueued`` that asks for it: what the runner's first event expects.
    seq: int
    attempt: int
    name: str
    content_type: str
    bytes: int
    sha256: str
    source: BlobRef
    processor: str
    options: dict[str, Any] = {}
    lane: str = LANE_DEFAULT


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """Something that becomes due: the next attempt of a file, or the start of a batch."""

    tenant: str
    batch_id: str
    #: None for the batch itself.
    file_id: str | None
    #: The log position that asked for it; a timer that outlived its reason is dropped by it.
    seq: int
