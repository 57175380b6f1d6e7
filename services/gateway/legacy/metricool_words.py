"""The words of 002 for what a batch and its files are."""

from collections.abc import Sequence
from typing import Literal

from tanda.contracts.events import FileStatus
from tanda.contracts.http import BatchStatus, Counts
from tanda.domain.progress import settled

ClipStatus = Literal["pending", "uploading", "waiting_confirmation", "published", "failed"]

#: A batch with some failures is completed, and says how many in ``failed``.
STATUS: dict[BatchStatus, str] = {
    "open": "pending",
    "queued": "pending",
    "processing": "processing",
    "paused": "paused",
    "completed": "completed",
    "completed_with_errors": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
_CLIP: dict[FileStatus, ClipStatus] = {
    "queued": "pending",
    "retrying": "pending",
    "processing": "uploading",
    "waiting": "waiting_confirmation",
    "completed": "published",
}


def clip_status(status: FileStatus) -> ClipStatus:
    return _CLIP.get(status, "failed")


def current_index(clips: Sequence[ClipStatus]) -> int:
    """The first clip that is neither published nor failed; their number where there is none."""
    done = ("published", "failed")
    return next((index for index, status in enumerate(clips) if status not in done), len(clips))


def percent_settled(counts: Counts) -> int:
    """Rounded down: 6 of 20 is 30, and 199 of 200 is not 100."""
    return 100 * settled(counts) // counts.total if counts.total else 0
