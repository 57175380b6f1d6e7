"""What schedules begin with: files of every lane, a scheduler that knows the lanes, and how work may end."""

import msgspec

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.times import rfc3339
from tanda.contracts.work import LANE_QUICK, provider_lane
from tanda.domain import file as of_file
from tanda.domain.scheduling.fair import FairScheduler

START_MS = 1_795_000_000_000
CALLS_MAX = 1
PROVIDER = "http-p"
LANE_OUTSIDE = provider_lane(PROVIDER)
LANES = {"noop": LANE_QUICK}
DIGEST = "0" * 64

BUSY = FileError(code="busy", message="Later.", retryable=True)
BROKEN = FileError(code="broken", message="Never.")
RESULTS = BlobRef(key="t/acme/results", bytes=1, sha256=DIGEST)
START = c.StartFile(worker="w", processor="noop", processor_version="1")
COMPLETE = c.CompleteFile(
    processor="noop",
    processor_version="1",
    duration_ms=1,
    result_sha256=DIGEST,
    result_bytes=2,
    result=msgspec.Raw(b"{}"),
)
REJECTED_EARLY = c.FailFile(error=BROKEN)
NO_FILE = of_file.initial()
QUEUED = of_file.queued_state(1, 1)


def _uploads() -> tuple[list[e.FileQueued], ...]:
    """The first events of files of each lane, as the aggregate decides them."""
    made: list[list[e.FileQueued]] = []
    for processor, options in (("noop", {}), ("http", {"endpoint": "p"}), ("table", {})):
        made.append([])
        for index in range(3):
            source = BlobRef(key=f"t/acme/b/src/{index}", bytes=1, sha256=DIGEST)
            command = c.QueueFile(
                name="f", index=index, content_type="text/plain", bytes=1, sha256=DIGEST, source=source,
                processor=processor, options=options,
            )  # fmt: skip
            (event,) = of_file.decide(NO_FILE, command)
            assert isinstance(event, e.FileQueued), "what is new is queued"
            made[-1].append(event)
    return tuple(made)


QUICK, OUTSIDE, SLOW = _uploads()
(AT_ONCE,) = of_file.decide(QUEUED, msgspec.structs.replace(COMPLETE, started_at=rfc3339(START_MS)))
assert isinstance(AT_ONCE, e.FileCompleted), "what is completed gets that event"


def new_scheduler(snapshot: bytes = b"") -> FairScheduler:
    """One that begins, from a snapshot where there is one."""
    if snapshot:
        return FairScheduler.restore(snapshot, LANES, (PROVIDER,), CALLS_MAX)
    return FairScheduler(LANES, (PROVIDER,), CALLS_MAX)
