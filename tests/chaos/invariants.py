"""What must hold after any disaster, checked from the log, the objects and the views themselves.

It reads the servers by their own client libraries (``reading``) and shares no code with the services:
a rule broken there shows here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any

from tests.chaos.reading import Objects, Told, apart, read_log, read_rows
from tests.running import Running

#: Sources are archived after the batch is finished, and this much later at most.
ARCHIVED_S_MAX = 120.0
VIEWS_S_MAX = 60.0
#: What a delivery may live without being renewed, and what a start may be late by its clock and its queue.
LEASE_MS = 10_000
#: What a lost queue and a lost worker both forgot is released again once its work (60 s) and its lease are
#: over for certain; then it is taken and started.
SILENT_MS_MAX = 60_000 + 2 * LEASE_MS

#: A file by its processor and name, and what came of it: the event and the digest of its result.
Named = tuple[str | None, str]
Outcome = tuple[str, str | None]
#: Batch and token.
Group = tuple[str, str]
#: From and to, in milliseconds of the server's clock.
Span = tuple[int, int]

#: Written out here once more on purpose: the services' own table is what is being checked.
OUTCOMES = {"FileCompleted", "FileFailed", "FileRejected", "FileCancelled"}
STATUS = {
    "FileCompleted": "completed", "FileFailed": "failed", "FileRejected": "rejected",
    "FileCancelled": "cancelled",
}  # fmt: skip
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


async def check(
    stack: Running,
    batch_ids: Iterable[str],
    reference: Iterable[str] = (),
    *,
    troubles: Sequence[Span] = (),
    verify_views: bool = True,
) -> list[Told]:
    """Every invariant over the whole log; the events of the log, each of one file.

    What the batches ``reference`` gave for a file of some name, the others must have given too.
    ``troubles``: when faults were at work, and nobody could expect progress.
    """
    whole = await read_settled(stack, frozenset(batch_ids := list(batch_ids)))
    check_contiguous(whole)
    check_groups(whole, frozenset(batch_ids))
    events = apart(whole)
    by_batch: dict[str, list[Told]] = defaultdict(list)
    for one in events:
        by_batch[one.batch_id].append(one)
    truth: dict[Named, Outcome] = {}
    for batch_id in reference:
        truth |= outcomes_of(by_batch[batch_id])
    objects = Objects(stack.facts())
    for batch_id in batch_ids:
        assert by_batch[batch_id], f"the acknowledged batch {batch_id} is not in the log"
        check_files(by_batch[batch_id])
        check_cancelled(by_batch[batch_id])
        check_progress(by_batch[batch_id], troubles)
        check_truth(by_batch[batch_id], truth)
        check_objects(by_batch[batch_id], objects)
    for batch_id in by_batch.keys() - set(batch_ids):
        check_whole_or_open(by_batch[batch_id])
    await check_views(stack, events, batch_ids)
    if verify_views:
        verified = stack.tanda("replay", "--all", "--verify")
        assert verified.returncode == 0, f"views differ from the log: {verified.stdout}{verified.stderr}"
    return events


async def read_settled(stack: Running, batch_ids: frozenset[str]) -> list[Told]:
    """The whole log, once each completed file of the batches is archived: until then sources move."""
    events: list[Told] = []

    async def read() -> bool:
        events.extend(await read_log(stack.facts(), events[-1].seq if events else 0))
        completed: set[str] = set()
        archived: set[str] = set()
        for one in apart(events):
            if one.name == "FileCompleted" and one.batch_id in batch_ids:
                completed.add(str(one.file_id))
            elif one.name == "SourcesArchived":
                archived |= set(one.data["sources"])
        return completed <= archived

    await stack.until(read, ARCHIVED_S_MAX)
    return events


def check_contiguous(events: Sequence[Told]) -> None:
    """The log's positions are 1..N."""
    assert [one.seq for one in events] == list(range(1, len(events) + 1)), "the log has gaps"
    assert len({one.id for one in events}) == len(events), "an event is in the log twice"


def check_groups(events: Sequence[Told], finished: frozenset[str]) -> None:
    """A group is queued, then completed as it was queued or parted, once; its files are in no other group.

    Nobody tells anything of its files in between. In ``finished`` batches each group has its end.
    """
    files: dict[Group, list[str]] = {}
    ended: set[Group] = set()
    group_of: dict[str, Group] = {}
    known: set[str] = set()
    for one in events:
        if one.group is None:
            if one.file_id is not None:
                group = group_of.get(one.file_id)
                assert group is None or group in ended, f"{one.name} at {one.seq}: {group} is whole"
                known.add(one.file_id)
            continue
        group = (one.batch_id, one.group)
        assert group not in ended, f"{one.name} at {one.seq}: {group} had its end"
        if one.name == "FilesQueued":
            assert group not in files, f"{group} was queued twice, at {one.seq}"
            files[group] = [file_id for file_id, _ in one.data["files"]]
            assert len(set(files[group])) == len(files[group]) > 1, f"{group} at {one.seq}"
            assert known.isdisjoint(files[group]), f"{group} has files that were told before {one.seq}"
            known.update(files[group])
            group_of |= dict.fromkeys(files[group], group)
            continue
        assert one.name in ("FilesCompleted", "FilesParted"), f"{one.name} of a group"
        assert group in files, f"{group} was never queued, and {one.name} at {one.seq}"
        if one.name == "FilesCompleted":
            completed = [file_id for file_id, _ in one.data["files"]]
            assert completed == files[group], f"{group} completed other files than it has, at {one.seq}"
        ended.add(group)
    endless = {group for group in files.keys() - ended if group[0] in finished}
    assert not endless, f"groups that were neither completed nor parted: {endless}"


def check_files(events: Sequence[Told]) -> None:
    """Each file went a legal way to one outcome an attempt, the last event one; the batch is whole."""
    last: dict[str, str] = {}
    outcomes: Counter[tuple[str, int]] = Counter()
    for one in events:
        if one.file_id is None:
            continue
        before = last.get(one.file_id)
        assert one.name in LEGAL[before], f"{one.file_id}: {before} was followed by {one.name} at {one.seq}"
        last[one.file_id] = one.name
        outcomes[one.file_id, one.data.get("attempt", 1)] += one.name in OUTCOMES
    sealed = [one.data for one in events if one.name == "BatchSealed"]
    assert len(sealed) == 1 and sealed[0]["total"] == len(last), "the batch is not whole"
    lost = {file: name for file, name in last.items() if name not in OUTCOMES}
    assert not lost, f"files without an outcome: {lost}"
    double = {file: count for file, count in outcomes.items() if count > 1}
    assert not double, f"attempts with more than one outcome: {double}"
    names = [one.name for one in events]
    completed, retried = names.count("BatchCompleted"), names.count("FilesRetried")
    assert 1 <= completed <= 1 + retried, f"completed {completed} times, retried {retried} times"


def check_whole_or_open(events: Sequence[Told]) -> None:
    """A batch that nobody was promised is there as a whole, or was left open by its uploader."""
    sealed = [one.data["total"] for one in events if one.name == "BatchSealed"]
    files = {one.file_id for one in events if one.file_id is not None}
    assert not sealed or sealed == [len(files)], (
        f"{events[0].batch_id}: sealed for {sealed}, has {len(files)}"
    )


def check_cancelled(events: Sequence[Told]) -> None:
    """What was released by a cancel may start within a lease, nothing else begins.

    What had begun is finished: its worker lost, it starts once more, as ``check_progress`` demands.
    """
    cancelled_at = next((one.at_ms for one in events if one.name == "BatchCancelled"), None)
    begun = {one.file_id for one in events if one.name == "FileStarted" and one.at_ms < (cancelled_at or 0)}
    for one in events:
        if one.file_id in begun:
            continue
        at_once = one.name == "FileCompleted" and one.data.get("previous") == "queued"
        if cancelled_at is not None and (one.name == "FileStarted" or at_once):
            late_ms = one.at_ms - cancelled_at
            assert late_ms <= LEASE_MS, f"{one.file_id} was started {late_ms} ms after its batch's cancel"


def check_progress(events: Sequence[Told], troubles: Sequence[Span]) -> None:
    """A started file is not left lying while there are workers."""
    of_file: dict[str, list[Told]] = defaultdict(list)
    for one in events:
        if one.file_id is not None:
            of_file[one.file_id].append(one)
    for file_id, told in of_file.items():
        for one, after in pairwise(told):
            if one.name == "FileStarted" and after.at_ms - one.at_ms > SILENT_MS_MAX:
                silent = quiet_ms((one.at_ms, after.at_ms), troubles)
                assert silent <= SILENT_MS_MAX, f"{file_id}: nothing for {silent} ms after {one.seq}"


def quiet_ms(span: Span, troubles: Sequence[Span]) -> int:
    """How much of a time was without trouble."""
    quiet, at = 0, span[0]
    for begin, end in sorted(troubles):
        if end > at and begin < span[1]:
            quiet += max(begin - at, 0)
            at = max(at, end)
    return quiet + max(span[1] - at, 0)


def outcomes_of(events: Sequence[Told]) -> dict[Named, Outcome]:
    """Each file's last outcome and the digest of its result, by processor and name."""
    names: dict[str, Named] = {}
    found: dict[Named, Outcome] = {}
    for one in events:
        if one.name in ("FileQueued", "FileRejected"):
            names[str(one.file_id)] = (one.data.get("processor"), one.data["name"])
        if one.name in OUTCOMES:
            found[names[str(one.file_id)]] = (one.name, one.data.get("result_sha256"))
    return found


def check_truth(events: Sequence[Told], truth: Mapping[Named, Outcome]) -> None:
    """Outcome and result are those of an undisturbed run, byte by byte, or the file was cancelled.

    A poison file of the reference and a file that lost its workers to faults look alike, and only the
    second may differ: it failed as ``worker_lost`` after its last delivery.
    """
    if not truth:
        return
    lost = {
        str(one.file_id)
        for one in events
        if one.name == "FileFailed" and one.data["error"]["code"] == "worker_lost"
    }
    assert not lost, f"files given up because their workers were killed: {lost}"
    for named, outcome in outcomes_of(events).items():
        assert outcome == truth[named] or outcome[0] == "FileCancelled", (
            f"{named}: {outcome}, not {truth[named]}"
        )


def check_objects(events: Sequence[Told], objects: Objects) -> None:
    """Every result is what its event says; every source is where the log says, whole."""
    sources: dict[str, dict[str, Any]] = {}
    completed: set[str] = set()
    for one in events:
        if one.name == "FileQueued":
            sources[str(one.file_id)] = one.data["source"]
        elif one.name == "FileCompleted":
            completed.add(str(one.file_id))
            if ref := one.data.get("result_ref"):
                assert digest(objects.part(ref)) == one.data["result_sha256"], f"{one.file_id}: its result"
        elif one.name == "SourcesArchived":
            assert set(one.data["sources"]) <= completed, "a source was archived before its result"
            sources |= one.data["sources"]
        elif one.name == "BatchCompleted":
            ref = one.data["results"]
            body = objects.read(ref["key"])
            assert len(body) == ref["bytes"], f"{one.batch_id}: the result JSON is cut"
            assert digest(body) == ref["sha256"], f"{one.batch_id}: the result JSON is damaged"
    for file_id, ref in sorted(sources.items(), key=lambda item: str(item[1]["key"])):
        assert digest(objects.part(ref)) == ref["sha256"], f"{file_id}: the source is damaged"


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


async def check_views(stack: Running, events: Sequence[Told], batch_ids: Sequence[str]) -> None:
    """The rows of the live views say of every file and batch what its last event says."""
    end = events[-1].seq

    async def there() -> bool:
        rows = await read_rows(stack.facts(), "select seq from view_files.checkpoint")
        return rows[0]["seq"] >= end

    await stack.until(there, VIEWS_S_MAX)
    last = {one.file_id: one.name for one in events if one.file_id is not None}
    of_batch = {one.file_id: one.batch_id for one in events if one.file_id is not None}
    rows = await read_rows(stack.facts(), "select file_id, status from view_files.files")
    shown = {row["file_id"]: row["status"] for row in rows}
    assert shown.keys() == last.keys(), "the view has other files than the log"
    mine = set(batch_ids)
    wrong = {
        file: (shown[file], name) for file, name in last.items()
        if of_batch[file] in mine and shown[file] != STATUS[name]
    }  # fmt: skip
    assert not wrong, f"files shown otherwise than the log tells: {wrong}"
    query = "select batch_id, total, completed, failed, rejected, cancelled from view_batches.batches"
    for row in await read_rows(stack.facts(), query):
        if row["batch_id"] in mine:
            settled = sum(row[name] for name in ("completed", "failed", "rejected", "cancelled"))
            assert settled == row["total"], f"{row['batch_id']}: {row}"
