"""What the log says must be in the object store, what may be there, and which work should have gone on.

A pure fold. An object is *required* while a file or a batch names it last; it is *live* as soon as any
event ever named it, so that nothing the log knows of can be taken for an orphan.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded, singly
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER, FileStatus
from tanda.contracts.results import BlobRef
from tanda.contracts.times import epoch_ms
from tanda.domain.settling import archive_key

#: The part of the store that events name; what else is there has owners of its own.
PREFIX = "t/"
#: A younger object may belong to something that is still under way.
ORPHAN_GRACE_MS = 3_600_000
#: Work without a sign for so long, though everything that it needs is there.
STUCK_MS = 600_000

_NAMED = re.compile(rb'"(t/[^"\\]+)"')

BatchKey = tuple[str, str]


@dataclass
class FileEntry:
    """A file as of its last event."""

    status: FileStatus = "queued"
    source: BlobRef | None = None
    result: list[BlobRef] = field(default_factory=list)
    time_ms: int = 0
    #: When it is to go on, for one that retries or waits.
    until_ms: int = 0


@dataclass
class BatchEntry:
    """A batch as of its last event."""

    files: dict[str, FileEntry] = field(default_factory=dict)
    results: e.BatchCompleted | None = None
    sealed: bool = False
    held: bool = False
    start_ms: int = 0


class Inventory:
    """The fold."""

    def __init__(self) -> None:
        self.batches: dict[BatchKey, BatchEntry] = {}
        #: Every key that any event names.
        self.live: set[str] = set()
        self.last_ms = 0

    def apply(self, record: Recorded, data: bytes) -> None:
        """Folds an event in; ``data`` is its JSON as it is stored."""
        self.live.update(key.decode() for key in _NAMED.findall(data))
        self.last_ms = epoch_ms(record.time)
        if isinstance(record.event, e.LimitsChanged):
            return
        batch = self.batches.setdefault((record.tenant, record.batch_id), BatchEntry())
        for one in singly([record]):
            if one.file_id is None:
                _batch_event(batch, one.event)
            else:
                _file_event(batch.files.setdefault(one.file_id, FileEntry()), one.event, self.last_ms)

    def required(self) -> dict[str, tuple[int, str]]:
        """Every object that must be there: how long it is at least, and whose it is."""
        found: dict[str, tuple[int, str]] = {}
        for (_, batch_id), batch in self.batches.items():
            if batch.results is not None:
                _require(found, batch.results.results, batch_id)
            for file_id, file in batch.files.items():
                for ref in [*([file.source] if file.source else []), *file.result]:
                    _require(found, ref, f"{batch_id}/{file_id}")
        return found

    def missing(self, there: Mapping[str, int]) -> dict[str, tuple[int, str]]:
        """Of ``required`` what is not there or too short."""
        return {key: need for key, need in self.required().items() if there.get(key, -1) < need[0]}

    def orphans(self, there: Iterable[tuple[str, int]], now_ms: int) -> list[str]:
        """Of keys with the time they were put: those that no event names and that are past the grace."""
        copies = {copy for key in self.live if (copy := archive_key(key))}
        return [
            key
            for key, modified_ms in there
            if key.startswith(PREFIX)
            and key not in self.live
            and key not in copies
            and now_ms - modified_ms > ORPHAN_GRACE_MS
        ]

    def stuck(self, now_ms: int, explained: Iterable[str] = ()) -> dict[BatchKey, list[str]]:
        """Files that should have gone on long ago, by batch; ``explained`` batches have a known reason."""
        known = set(explained)
        quiet = now_ms - self.last_ms > STUCK_MS
        found: dict[BatchKey, list[str]] = {}
        for key, batch in self.batches.items():
            if not batch.sealed or batch.held or batch.start_ms > now_ms or key[1] in known:
                continue
            late = [name for name, file in batch.files.items() if _is_late(file, now_ms, quiet=quiet)]
            if late:
                found[key] = late
        return found


def _is_late(file: FileEntry, now_ms: int, *, quiet: bool) -> bool:
    """A queued file is late only where nothing at all happens: it may have others before it."""
    if file.status in FINAL_STATUSES:
        return False
    if file.status == "queued":
        return quiet and now_ms - file.time_ms > STUCK_MS
    return now_ms - max(file.time_ms, file.until_ms) > STUCK_MS


def _require(found: dict[str, tuple[int, str]], ref: BlobRef, whose: str) -> None:
    before = found.get(ref.key, (0, whose))
    found[ref.key] = (max(before[0], ref.offset + ref.bytes), before[1])


def _batch_event(batch: BatchEntry, event: e.Event) -> None:
    match event:
        case e.BatchCreated():
            batch.start_ms = _ms(event.start_at)
        case e.BatchChanged() if "start_at" in event.changed:
            batch.start_ms = _ms(event.start_at)
        case e.BatchSealed():
            batch.sealed = True
        case e.BatchPaused():
            batch.held = True
        case e.BatchResumed():
            batch.held = False
        case e.BatchCompleted():
            batch.results = event
        case e.SourcesArchived():
            for file_id, source in event.sources.items():
                batch.files.setdefault(file_id, FileEntry()).source = source
        case e.SourceForceArchived():
            batch.files.setdefault(event.file_id, FileEntry()).source = event.source
        case _:
            pass


def _file_event(file: FileEntry, event: e.Event, time_ms: int) -> None:
    file.status = STATUS_AFTER.get(type(event), file.status)
    file.time_ms, file.until_ms = time_ms, 0
    match event:
        case e.FileQueued():
            file.source = file.source or event.source
        case e.FileCompleted():
            file.result = [one.blob for one in event.artifacts]
            file.result += [event.result_ref] if event.result_ref else []
        case e.FileAttemptFailed():
            file.until_ms = _ms(event.retry_at)
        case e.FileWaiting():
            file.until_ms = _ms(event.deadline)
        case _:
            pass


def _ms(text: str | None) -> int:
    return 0 if text is None else epoch_ms(text)
