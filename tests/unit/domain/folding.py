"""A log in a list, for tests of pure code: optimistic concurrency on every subject, positions from 1."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import TYPE_NAMES, Event
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.subjects import batch_subject, file_subject
from tanda.contracts.times import rfc3339
from tanda.domain import file as of_file
from tanda.domain.effort import expected_effort
from tanda.domain.errors import Conflict

START_MS = 1_795_000_000_000
DIGEST = sha256(b"").hexdigest()
SOURCE = BlobRef(key="t/acme/source", bytes=1, sha256=DIGEST)
ARCHIVED = BlobRef(key="t/acme/archive/source", bytes=1, sha256=DIGEST)
RESULTS = BlobRef(key="t/acme/results", bytes=1, sha256=DIGEST)
BUSY = FileError(code="busy", message="It may work later.", retryable=True)
BROKEN = FileError(code="broken", message="It will never work.")


def queue_file(index: int = 0, **changes: Any) -> c.QueueFile:
    """A file as an upload queues it."""
    given: dict[str, Any] = {
        "name": f"file {index}",
        "index": index,
        "content_type": "text/plain",
        "bytes": 1,
        "sha256": DIGEST,
        "source": SOURCE,
        "processor": "noop",
    }
    return c.QueueFile(**given | changes)


def file_queued(index: int = 0, **changes: Any) -> e.FileQueued:
    """The event of such a file."""
    given = {name: getattr(queue_file(index), name) for name in queue_file().__struct_fields__} | changes
    return e.FileQueued(**{"effort": expected_effort(given["processor"], given["bytes"])} | given)


def start_file(worker: str = "w1") -> c.StartFile:
    return c.StartFile(worker=worker, processor="noop", processor_version="1")


def complete_file() -> c.CompleteFile:
    return c.CompleteFile(
        processor="noop",
        processor_version="1",
        duration_ms=1,
        result_sha256=DIGEST,
        result_bytes=2,
        result=msgspec.Raw(b"{}"),
    )


def complete_at_once(queued: e.FileQueued, started_at: str) -> e.FileCompleted:
    """What quick work tells of a file that nobody has begun: its start with its outcome."""
    state = of_file.queued_state(queued.attempt, queued.effort)
    (event,) = of_file.decide(state, msgspec.structs.replace(complete_file(), started_at=started_at))
    assert isinstance(event, e.FileCompleted), "what is completed gets that event"
    return event


@dataclass
class FoldedLog:
    """Records in order; ``last`` is each subject's last position."""

    records: list[Recorded] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    now_ms: int = START_MS

    def append(
        self,
        event: Event,
        batch_id: str,
        file_id: str | None = None,
        *,
        tenant: str = "acme",
        expected: int | None = None,
    ) -> Recorded:
        """Writes an event, on top of ``expected`` where it is given; Conflict where another came first."""
        subject = file_subject(tenant, batch_id, file_id) if file_id else batch_subject(tenant, batch_id)
        if expected is not None and self.last.get(subject, 0) != expected:
            raise Conflict(subject, expected)
        record = Recorded(
            seq=len(self.records) + 1,
            subject=subject,
            id=f"evt_{len(self.records) + 1}",
            type=TYPE_NAMES[type(event)],
            time=rfc3339(self.now_ms),
            source="/test",
            tenant=tenant,
            batch_id=batch_id,
            file_id=file_id,
            event=event,
        )
        self.records.append(record)
        self.last[subject] = record.seq
        return record

    def batch(
        self, batch_id: str, files: int, *, tenant: str = "acme", sealed: bool = True, **created: Any
    ) -> Sequence[Recorded]:
        """A whole batch, as an upload writes it: what was written."""
        first = len(self.records)
        self.append(e.BatchCreated(name=batch_id, **created), batch_id, tenant=tenant)
        for index in range(files):
            self.append(file_queued(index), batch_id, f"{batch_id}-{index}", tenant=tenant)
        if sealed:
            self.append(e.BatchSealed(total=files), batch_id, tenant=tenant)
        return self.records[first:]
