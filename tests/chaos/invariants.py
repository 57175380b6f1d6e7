"""What must hold after any disaster, checked from the log, the objects and the views themselves.

It reads the raw events and shares no decision with the services: a rule broken there shows here.
"""

from collections import Counter
from hashlib import sha256
from typing import Any

from tanda.adapters.nats import connect
from tanda.adapters.s3 import S3Blobs
from tanda.contracts.envelope import Recorded
from tanda.contracts.results import BlobRef
from tanda.settings import from_environment
from tests.running import Running

#: Written out here once more on purpose: the services' own table is what is being checked.
OUTCOMES = {"FileCompleted", "FileFailed", "FileRejected", "FileCancelled"}
LEGAL = {
    None: {"FileQueued", "FileRejected"},
    "FileQueued": {"FileStarted", "FileCompleted", "FileCancelled"},
    "FileStarted": {"FileStarted", "FileCompleted", "FileFailed", "FileAttemptFailed", "FileWaiting"},
    "FileAttemptFailed": {"FileQueued", "FileCancelled"},
    "FileWaiting": {"FileCompleted", "FileFailed", "FileAttemptFailed", "FileCancelled"},
    "FileCompleted": {"FileQueued"},
    "FileFailed": {"FileQueued"},
    "FileCancelled": {"FileQueued"},
    "FileRejected": set[str](),
}


async def check(stack: Running, batch_ids: list[str]) -> dict[str, int]:
    """Every invariant over the whole log; how many of what were looked at."""
    facts = stack.facts()
    settings = from_environment(
        {
            "TANDA_NATS_URL": facts["nats_url"],
            **{f"TANDA_S3_{key.upper()}": value for key, value in facts["s3"].items()},
            "TANDA_DATA": str(stack.data),
        }
    )
    connection = await connect(settings, "invariants")
    blobs = S3Blobs(settings)
    try:
        events = [one async for chunk in connection.log.read() for one in chunk]
        check_contiguous(events)
        for batch_id in batch_ids:
            check_files([one for one in events if one.batch_id == batch_id])
            await check_objects([one for one in events if one.batch_id == batch_id], blobs)
    finally:
        await connection.close()
        await blobs.close()
    verified = stack.tanda("replay", "--all", "--verify")
    assert verified.returncode == 0, f"views differ from the log: {verified.stdout}{verified.stderr}"
    return {"events": len(events), "batches": len(batch_ids)}


def check_contiguous(events: list[Recorded]) -> None:
    """The log's positions are 1..N."""
    assert [one.seq for one in events] == list(range(1, len(events) + 1)), "the log has gaps"
    assert len({one.id for one in events}) == len(events), "an event is in the log twice"


def check_files(events: list[Recorded]) -> None:
    """Each file went a legal way and has exactly one outcome; the batch is whole and completed once."""
    last: dict[str, str] = {}
    outcomes: Counter[str] = Counter()
    for one in events:
        if one.file_id is None:
            continue
        before = last.get(one.file_id)
        assert one.name in LEGAL[before], f"{one.file_id}: {before} was followed by {one.name} at {one.seq}"
        last[one.file_id] = one.name
        outcomes[one.file_id] += one.name in OUTCOMES
    sealed = [one.event for one in events if one.name == "BatchSealed"]
    assert len(sealed) == 1 and getattr(sealed[0], "total", 0) == len(last), "the batch is not whole"
    wrong = {file: count for file, count in outcomes.items() if count != 1}
    assert not wrong, f"files without exactly one outcome: {wrong}"
    assert [one.name for one in events].count("BatchCompleted") == 1, "not completed exactly once"


async def check_objects(events: list[Recorded], blobs: S3Blobs) -> None:
    """The result JSON is what its event says; every source is where the log says, whole."""
    sources: dict[str, BlobRef] = {}
    completed: set[str] = set()
    for one in events:
        event: Any = one.event
        if one.name == "FileQueued":
            sources[str(one.file_id)] = event.source
        elif one.name == "FileCompleted":
            completed.add(str(one.file_id))
        elif one.name == "SourcesArchived":
            assert set(event.sources) <= completed, "a source was archived before its result"
            sources |= event.sources
        elif one.name == "BatchCompleted":
            body = await blobs.read(event.results)
            assert sha256(body).hexdigest() == event.results.sha256
    for file_id, ref in sources.items():
        assert sha256(await blobs.read(ref)).hexdigest() == ref.sha256, f"{file_id}: the source is damaged"
