"""What must hold after any disaster, checked from the log, the objects and the views themselves.

It reads the raw events and shares no decision with the services: a rule broken there shows here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from tanda.adapters.nats import Connection, connect
from tanda.adapters.s3 import S3Blobs
from tanda.contracts.envelope import Recorded
from tanda.contracts.results import BlobRef
from tanda.settings import from_environment
from tests.running import Running

#: Sources are archived after the batch is finished, and this much later at most.
ARCHIVED_S_MAX = 120.0

#: A file by its processor and name, and what came of it: the event and the digest of its result.
Named = tuple[str | None, str]
Outcome = tuple[str, str | None]

#: Written out here once more on purpose: the services' own table is what is being checked.
OUTCOMES = {"FileCompleted", "FileFailed", "FileRejected", "FileCancelled"}
LEGAL = {
    None: {"FileQueued", "FileRejected"},
    "FileQueued": {"FileStarted", "FileCancelled"},
    "FileStarted": {"FileStarted", "FileCompleted", "FileFailed", "FileAttemptFailed", "FileWaiting"},
    "FileAttemptFailed": {"FileQueued", "FileCancelled"},
    "FileWaiting": {"FileCompleted", "FileFailed", "FileAttemptFailed", "FileCancelled"},
    "FileCompleted": {"FileQueued"},
    "FileFailed": {"FileQueued"},
    "FileCancelled": {"FileQueued"},
    "FileRejected": set[str](),
}


async def check(
    stack: Running, batch_ids: Iterable[str], reference: Iterable[str] = (), *, verify_views: bool = True
) -> list[Recorded]:
    """Every invariant over the whole log; the events of the log.

    What the batches ``reference`` gave for a file of some name, the others must have given too.
    """
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
        events = await read_settled(connection, stack, frozenset(batch_ids := list(batch_ids)))
        check_contiguous(events)
        by_batch: dict[str, list[Recorded]] = defaultdict(list)
        for one in events:
            by_batch[one.batch_id].append(one)
        truth: dict[Named, Outcome] = {}
        for batch_id in reference:
            truth |= outcomes_of(by_batch[batch_id])
        for batch_id in batch_ids:
            check_files(by_batch[batch_id])
            check_truth(by_batch[batch_id], truth)
            await check_objects(by_batch[batch_id], blobs)
    finally:
        await connection.close()
        await blobs.close()
    if verify_views:
        verified = stack.tanda("replay", "--all", "--verify")
        assert verified.returncode == 0, f"views differ from the log: {verified.stdout}{verified.stderr}"
    return events


async def read_settled(connection: Connection, stack: Running, batch_ids: frozenset[str]) -> list[Recorded]:
    """The whole log, once each completed file of the batches is archived: until then sources move."""

    async def read() -> list[Recorded] | None:
        events = [one async for chunk in connection.log.read() for one in chunk]
        completed: set[str] = set()
        archived: set[str] = set()
        for one in events:
            event: Any = one.event
            if one.name == "FileCompleted" and one.batch_id in batch_ids:
                completed.add(str(one.file_id))
            elif one.name == "SourcesArchived":
                archived |= set(event.sources)
        return events if completed <= archived else None

    return await stack.until(read, ARCHIVED_S_MAX)


def check_contiguous(events: list[Recorded]) -> None:
    """The log's positions are 1..N."""
    assert [one.seq for one in events] == list(range(1, len(events) + 1)), "the log has gaps"
    assert len({one.id for one in events}) == len(events), "an event is in the log twice"


def check_files(events: list[Recorded]) -> None:
    """Each file went a legal way to one outcome an attempt, the last event one; the batch is whole."""
    last: dict[str, str] = {}
    outcomes: Counter[tuple[str, int]] = Counter()
    for one in events:
        if one.file_id is None:
            continue
        before = last.get(one.file_id)
        assert one.name in LEGAL[before], f"{one.file_id}: {before} was followed by {one.name} at {one.seq}"
        last[one.file_id] = one.name
        outcomes[one.file_id, getattr(one.event, "attempt", 1)] += one.name in OUTCOMES
    sealed = [one.event for one in events if one.name == "BatchSealed"]
    assert len(sealed) == 1 and getattr(sealed[0], "total", 0) == len(last), "the batch is not whole"
    lost = {file: name for file, name in last.items() if name not in OUTCOMES}
    assert not lost, f"files without an outcome: {lost}"
    double = {file: count for file, count in outcomes.items() if count > 1}
    assert not double, f"attempts with more than one outcome: {double}"
    names = [one.name for one in events]
    completed, retried = names.count("BatchCompleted"), names.count("FilesRetried")
    assert 1 <= completed <= 1 + retried, f"completed {completed} times, retried {retried} times"


def outcomes_of(events: list[Recorded]) -> dict[Named, Outcome]:
    """Each file's last outcome and the digest of its result, by processor and name."""
    names: dict[str, Named] = {}
    found: dict[Named, Outcome] = {}
    for one in events:
        event: Any = one.event
        if one.name in ("FileQueued", "FileRejected"):
            names[str(one.file_id)] = (getattr(event, "processor", None), event.name)
        if one.name in OUTCOMES:
            found[names[str(one.file_id)]] = (one.name, getattr(event, "result_sha256", None))
    return found


def check_truth(events: list[Recorded], truth: dict[Named, Outcome]) -> None:
    """Outcome and result are those of an undisturbed run, byte by byte, or the file was cancelled.

    A poison file of the reference and a file that lost its workers to faults look alike, and only the
    second may differ: it failed as ``worker_lost`` after its last delivery.
    """
    if not truth:
        return
    lost = {
        str(one.file_id)
        for one in events
        if one.name == "FileFailed" and getattr(one.event, "error").code == "worker_lost"  # noqa: B009
    }
    assert not lost, f"files given up because their workers were killed: {lost}"
    for named, outcome in outcomes_of(events).items():
        assert outcome == truth[named] or outcome[0] == "FileCancelled", (
            f"{named}: {outcome}, not {truth[named]}"
        )


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
            assert len(body) == event.results.bytes, f"{one.batch_id}: the result JSON is cut"
            assert sha256(body).hexdigest() == event.results.sha256, (
                f"{one.batch_id}: the result JSON is damaged"
            )
    for file_id, ref in sources.items():
        assert sha256(await blobs.read(ref)).hexdigest() == ref.sha256, f"{file_id}: the source is damaged"
