"""What travels through the work queue: everything a runner needs, so that it reads nothing first."""

from typing import Any

import msgspec

from tanda.contracts.results import BlobRef

#: The one lane that processors without an outside provider share.
LANE_DEFAULT = "main"


class WorkItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of one file, released by the scheduler."""

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
