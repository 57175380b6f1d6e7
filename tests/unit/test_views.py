"""Given events, when a view folds them, then these are its rows: however they are cut into chunks."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from services.gateway.batches.bodies import batch_of
from services.projector.catalog import VIEWS
from services.projector.views.stats import bucket_ms
from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.views import MemoryTables
from tanda.contracts import events as e
from tanda.contracts.envelope import Origin, Recorded, new_event, recorded, singly
from tanda.contracts.results import BlobRef, FileError, StoredArtifact
from tanda.contracts.subjects import batch_subject, file_subject
from tests.builders import START_MS, RandomBatches, blob

BATCH, FILE = "bat_1", "fil_1"
SOURCE = BlobRef(key="src", bytes=7, sha256="ab")


class Story:
    """Events of one batch, a second apart."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []

    def batch(self, *events: e.Event) -> "Story":
        return self._add(batch_subject("acme", BATCH), events)

    def file(self, *events: e.Event, file_id: str = FILE) -> "Story":
        return self._add(file_subject("acme", BATCH, file_id), events)

    def _add(self, subject: str, events: Sequence[e.Event]) -> "Story":
        for event in events:
            seq = len(self.events) + 1
            new = new_event(
                subject, event, expected_seq=0, time_ms=START_MS + 1_000 * seq, origin=Origin(source="/t/1")
            )
            self.events.append(recorded(new, seq))
        return self

    def rows(self, table: str) -> list[dict[str, Any]]:
        tables = MemoryTables(VIEWS.values())
        tables.fold(self.events)
        return list(tables.rows[table].values())

    def row(self, table: str, *columns: str) -> dict[str, Any]:
        (row,) = self.rows(table)
        return {name: row[name] for name in columns}


def queued(**changes: Any) -> e.FileQueued:
    fields: dict[str, Any] = {
        "name": "Factura Ñ.xml", "index": 0, "content_type": "application/xml", "bytes": 7, "sha256": "ab",
        "source": SOURCE, "processor": "invoice",
    }  # fmt: skip
    return e.FileQueued(**(fields | changes))


def started(attempt: int = 1, delivery: int = 1, previous: e.FileStatus = "queued") -> e.FileStarted:
    return e.FileStarted(
        attempt=attempt, delivery=delivery, worker="w", processor="invoice", processor_version="1",
        previous=previous,
    )  # fmt: skip


def completed(**changes: Any) -> e.FileCompleted:
    fields: dict[str, Any] = {
        "attempt": 1, "processor": "invoice", "processor_version": "1", "duration_ms": 40,
        "result_sha256": "cd", "result_bytes": 9, "result": msgspec.Raw(b'{"a":"b"}'),
    }  # fmt: skip
    return e.FileCompleted(**(fields | changes))


def story() -> Story:
    return Story().batch(e.BatchCreated(name="noviembre"))


COUNTS = ("total", "queued", "processing", "retrying", "completed", "failed", "rejected")


def test_counts_move_with_the_files() -> None:
    """Each event takes the file from the status it left to the one it has."""
    told = (
        story()
        .file(queued(), started(), completed())
        .file(queued(), started(), file_id="fil_2")
        .file(
            e.FileRejected(
                name="x", index=2, content_type="x/y", bytes=1, error=FileError(code="c", message="m")
            ),
            file_id="fil_3",
        )
    )
    assert told.row("batches", *COUNTS) == {
        "total": 3, "queued": 0, "processing": 1, "retrying": 0, "completed": 1, "failed": 0, "rejected": 1,
    }  # fmt: skip


def test_a_redelivery_counts_nothing_twice() -> None:
    """A lost worker's file is started again and was processing before."""
    told = story().file(queued(), started(), started(delivery=2, previous="processing"))
    assert told.row("batches", "queued", "processing") == {"queued": 0, "processing": 1}


def test_a_retry_reopens_a_finished_batch_and_keeps_the_results_version() -> None:
    """Completed and cancelled are taken back; the version stays until the next results."""
    told = story().batch(
        e.BatchSealed(total=1),
        e.BatchCancelled(),
        e.BatchCompleted(version=1, through_seq=3, results=blob("r"), counts={}),
        e.FilesRetried(file_ids=["a", "b"]),
    )
    assert told.row("batches", "completed_at", "cancelled_at", "retried", "results_version") == {
        "completed_at": None, "cancelled_at": None, "retried": 2, "results_version": 1,
    }  # fmt: skip


def test_a_completed_file_tells_where_its_result_is() -> None:
    """The position of its event, and the artifacts by name."""
    artifact = StoredArtifact(name="vista.png", content_type="image/png", blob=SOURCE)
    told = story().file(queued(), started(), completed(artifacts=[artifact], warnings=["no_text_layer"]))
    row = told.row("files", "status", "result_seq", "artifacts", "warnings", "duration_ms", "search", "seq")
    assert row == {
        "status": "completed",
        "result_seq": 4,
        "artifacts": '[{"name":"vista.png","content_type":"image/png",'
        '"blob":{"key":"src","bytes":7,"sha256":"ab"}}]',
        "warnings": '["no_text_layer"]',
        "duration_ms": 40,
        "search": "factura ñ.xml",
        "seq": 4,
    }


def test_a_new_attempt_voids_the_outcome_of_the_last_one() -> None:
    """What a forced retry has not produced yet is not shown."""
    told = story().file(queued(), started(), completed(), queued(attempt=2, previous="completed"))
    assert told.row("files", "status", "attempt", "result_seq", "finished_at", "duration_ms") == {
        "status": "queued", "attempt": 2, "result_seq": None, "finished_at": None, "duration_ms": None,
    }  # fmt: skip


def test_a_failed_file_tells_why_and_at_which_attempt() -> None:
    """The error as the contract shows it."""
    error = FileError(code="not_an_invoice", message="It is a poem.")
    told = story().file(queued(attempt=3), started(3), e.FileFailed(attempt=3, error=error, duration_ms=2))
    (row,) = told.rows("files")
    assert msgspec.json.decode(row["error"]) == {
        "code": "not_an_invoice", "message": "It is a poem.", "attempt": 3, "retryable": False,
    }  # fmt: skip


def test_an_archived_source_is_found_in_the_archive_also_after_a_retry() -> None:
    """The batch's event tells of its files; a retry's own source does not bring it back."""
    archived = BlobRef(key="archive", bytes=7, sha256="ab")
    told = story().file(queued(), started(), completed()).batch(e.SourcesArchived(sources={FILE: archived}))
    told.file(queued(attempt=2, previous="completed"))
    (row,) = told.rows("files")
    assert (row["source_state"], msgspec.json.decode(row["source"], type=BlobRef)) == ("archived", archived)


def test_a_file_tells_that_its_result_was_there_already_until_it_is_worked_on_anew() -> None:
    """Beside the provider that it was given to, since nobody was asked."""
    told = story().file(queued(), started(), msgspec.structs.replace(completed(), reused=True))
    assert told.row("files", "status", "reused") == {"status": "completed", "reused": True}
    told.file(queued(attempt=2, previous="completed"))
    assert told.row("files", "status", "reused") == {"status": "queued", "reused": False}


def test_stats_count_by_the_day_of_the_event() -> None:
    """One file queued and completed, 7 bytes, 40 ms."""
    told = story().file(queued(), started(), completed())
    assert told.rows("days") == [
        {
            "tenant": "acme", "day": "2026-11-18", "batches": 1, "files": 1, "completed": 1, "failed": 0,
            "rejected": 0, "cancelled": 0, "bytes": 7,
        }
    ]  # fmt: skip
    assert [row["duration_ms"] for row in told.rows("durations")] == [bucket_ms(40)]


@pytest.mark.parametrize("duration_ms", [1, 7, 40, 999, 60_000, 86_400_000])
def test_a_bucket_is_within_its_error(duration_ms: int) -> None:
    """Half a millisecond, or 4.5 %."""
    assert abs(bucket_ms(duration_ms) - duration_ms) <= max(0.5, 0.045 * duration_ms)


def test_a_name_with_nul_is_made_storable() -> None:
    """PostgreSQL refuses the character; one such name must not stop every view for ever."""
    told = Story().batch(e.BatchCreated(name="a\0b", tags=["\0"], metadata={"k": "\0"}))
    row = told.row("batches", "name", "tags", "metadata")
    assert row == {"name": "a\ufffdb", "tags": ["\ufffd"], "metadata": '{"k":"\\u0000"}'}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
async def test_the_rows_do_not_depend_on_how_the_log_is_cut(seed: int, chunk: int) -> None:
    """One by one or all at once: the same rows, touched at most once in each fold."""
    log = MemoryLog()
    await RandomBatches(log, seed).run(300)
    events = [record async for part in log.read() for record in part]
    whole, cut = MemoryTables(VIEWS.values()), MemoryTables(VIEWS.values())
    whole.fold(events)
    for start in range(0, len(events), chunk):
        cut.fold(events[start : start + chunk])
    assert cut.rows == whole.rows


@pytest.mark.parametrize("seed", range(5))
async def test_a_group_makes_the_rows_that_its_files_events_make(seed: int) -> None:
    """What is counted together is what would be counted one by one."""
    log = MemoryLog()
    await RandomBatches(log, seed, batches_max=20).run(300)
    events = [record async for part in log.read() for record in part]
    together, apart = MemoryTables(VIEWS.values()), MemoryTables(VIEWS.values())
    together.fold(events)
    apart.fold(list(singly(events)))
    assert {event.name for event in events} >= {"FilesQueued", "FilesCompleted", "FilesParted"}
    assert together.rows == apart.rows


@pytest.mark.parametrize("seed", range(5))
async def test_counts_are_those_of_the_files(seed: int) -> None:
    """What the batch counts is what its files are, after any possible story."""
    log = MemoryLog()
    await RandomBatches(log, seed).run(400)
    tables = MemoryTables(VIEWS.values())
    tables.fold([record async for part in log.read() for record in part])
    for batch in tables.rows["batches"].values():
        files = [row for row in tables.rows["files"].values() if row["batch_id"] == batch["batch_id"]]
        statuses = [row["status"] for row in files]
        for status in ("queued", "processing", "waiting", "retrying", "completed", "failed", "rejected"):
            assert batch[status] == statuses.count(status), (batch["batch_id"], status)
        assert batch["total"] == len(files)


@pytest.mark.parametrize("seed", range(5))
async def test_what_is_left_of_the_effort_is_that_of_files_without_an_outcome(seed: int) -> None:
    """After any possible story, retries included; a write's answer has the same sums as the view."""
    log = MemoryLog()
    random = RandomBatches(log, seed)
    await random.run(400)
    events = [record async for part in log.read() for record in part]
    tables = MemoryTables(VIEWS.values())
    tables.fold(events)
    records = list(singly(events))
    for one in random.batches:
        row = tables.rows["batches"][one.batch_id,]
        mine = [record for record in records if record.batch_id == one.batch_id]
        efforts: dict[str | None, int] = {}
        cancelled = 0  # what was to be done and never will be
        for record in mine:
            if isinstance(record.event, e.FileQueued):
                efforts[record.file_id] = record.event.effort
            elif isinstance(record.event, e.FileCancelled):
                cancelled += efforts[record.file_id]
        open_files = [name for name, state in one.files.items() if state.status not in e.FINAL_STATUSES]
        assert row["effort"] - row["effort_done"] == cancelled + sum(efforts[name] for name in open_files)
        body = batch_of(one.batch_id, mine)
        assert (body.effort, body.effort_done) == (row["effort"], row["effort_done"])
