"""How PostgreSQL looks for a file's row: by itself, never through all files of its batch.

What it knows of a table is a sample. After many batches of one file each it takes every batch for such a
one, and either index for as good: of 40,000 files it then read 20,000 for each one that it changed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg
import msgspec

from services.projector.catalog import VIEWS
from tanda.adapters.postgres import open_pool
from tanda.adapters.sql import named
from tanda.adapters.views.store import ViewStore
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import Recorded, new_event, recorded
from tanda.contracts.subjects import batch_subject, file_subject, group_token
from tanda.contracts.views import Checkpoint, Step
from tanda.domain.groups import GROUP_FILES
from tanda.settings import Settings
from tests.builders import ORIGIN, START_MS, blob
from tests.integration.databases import own_database

VIEW = VIEWS["files"]
BATCHES = VIEWS["batches"]
SMALL_BATCHES = 2_000
FILES_OF_THE_LARGE = 40_000
CHANGED_AT_ONCE = 1_000
MANY_BATCHES = 5_000
LARGE = ids.derived_id(ids.BATCH, START_MS, "large")
COMPLETED = e.FileCompleted(
    attempt=1, processor="noop", processor_version="1", duration_ms=1, result_sha256="ab", result_bytes=2,
    started_at="2026-11-26T18:00:00.000Z",
)  # fmt: skip


async def test_a_file_is_found_by_itself_also_after_many_small_batches(settings: Settings) -> None:
    async with own_database(settings) as own, await open_pool(own, "test") as pool:
        store = ViewStore(pool)
        async with store.shadow("files", "v", VIEW.ddl) as shadow:
            await shadow.apply(VIEW.fold(list(_small_batches())), SMALL_BATCHES, "evt_1")
            await shadow.swap(_nothing_missing)
        await pool.execute("analyze view_files.files")
        seen = Checkpoint(seq=SMALL_BATCHES, event_id="evt_1", version="v")
        rows = VIEW.fold(list(_large_batch()))
        await store.commit(
            [Step(view="files", seen=seen, seq=SMALL_BATCHES + 1, event_id="evt_2", writes=rows)]
        )

        completed = e.FilesCompleted(files=[(file_id(index), COMPLETED) for index in range(CHANGED_AT_ONCE)])
        (change,) = VIEW.fold([_told(LARGE, group_token(0), completed)])
        assert change.sql is not None and change.rows == CHANGED_AT_ONCE
        update = change.sql.format(schema="view_files")
        assert await _indexes(pool, update, *change.columns, *change.same.values()) == {"files_pkey"}

        last = file_id(FILES_OF_THE_LARGE - 1)
        assert await _indexes(pool, _statement("file"), None, LARGE, last) == {"files_pkey"}
        page = (None, LARGE, None, None, None, None, 51)
        assert await _indexes(pool, _statement("files"), *page) == {"files_in_order"}
        for status in ("failed", "cancelled", "rejected"):
            for tenant in ("acme", None):
                few = (tenant, LARGE, status, None, None, None, 51)
                assert await _indexes(pool, _statement("files"), *few) == {"files_stopped"}


async def test_few_batches_that_ended_badly_are_found_among_many(settings: Settings) -> None:
    """A page of a rare status reads neither all batches nor all of the tenant's."""
    async with own_database(settings) as own, await open_pool(own, "test") as pool:
        async with ViewStore(pool).shadow("batches", "v", BATCHES.ddl) as shadow:
            await shadow.apply(BATCHES.fold(list(_batches())), MANY_BATCHES, "evt_1")
            await shadow.swap(_nothing_missing)
        await pool.execute("analyze view_batches.batches")
        for status in ("completed_with_errors", "failed", "cancelled"):
            page = ("acme", [status], None, None, None, None, None, None, 51)
            for name in ("batches_newest", "batches_oldest"):
                statement = f"with seen as (select 1) {named('views')[name]}"
                assert await _indexes(pool, statement, *page, table="batches") == {"batches_ended_badly"}


async def _indexes(pool: asyncpg.Pool, statement: str, *arguments: Any, table: str = "files") -> set[str]:
    """Those by which a statement finds rows of a view; an empty text where it reads all of it."""
    text = await pool.fetchval(f"explain (format json) {statement}", *arguments)
    return set(_of(table, msgspec.json.decode(text)[0]["Plan"]))


def _of(table: str, node: Mapping[str, Any]) -> Iterator[str]:
    if node.get("Relation Name") == table and node["Node Type"] != "ModifyTable":
        yield node.get("Index Name", "")
    for inner in node.get("Plans", ()):
        yield from _of(table, inner)


def _statement(name: str) -> str:
    """As the gateway's views ask it, but that no other view has to be there."""
    batches = "(select null as batch_id, null as tenant)"
    return f"with seen as (select 1) {named('views')[name]}".replace(
        "view_batches.batches", f"{batches} as b"
    )


def _small_batches() -> Iterator[Recorded]:
    for number in range(SMALL_BATCHES):
        batch_id = ids.derived_id(ids.BATCH, START_MS, str(number))
        yield _told(batch_id, ids.indexed_file_id(batch_id, 0), _queued(0))


def _batches() -> Iterator[Recorded]:
    """Every one is under way, but for the last one, which is cancelled."""
    for number in range(MANY_BATCHES):
        subject = batch_subject("acme", ids.derived_id(ids.BATCH, START_MS + number, str(number)))
        created = e.BatchCreated(name=f"{number}", processor="noop")
        event = new_event(subject, created, expected_seq=0, time_ms=START_MS, origin=ORIGIN)
        yield recorded(event, number + 1)
    cancelled = new_event(subject, e.BatchCancelled(), expected_seq=1, time_ms=START_MS, origin=ORIGIN)
    yield recorded(cancelled, MANY_BATCHES + 1)


def _large_batch() -> Iterator[Recorded]:
    for start in range(0, FILES_OF_THE_LARGE, GROUP_FILES):
        files = [(file_id(index), _queued(index)) for index in range(start, start + GROUP_FILES)]
        yield _told(LARGE, group_token(start // GROUP_FILES), e.FilesQueued(files=files))


def file_id(index: int) -> str:
    return ids.indexed_file_id(LARGE, index)


def _queued(index: int) -> e.FileQueued:
    return e.FileQueued(
        name=f"{index}.csv", index=index, content_type="text/csv", bytes=1, sha256="ab", source=blob("a"),
        processor="noop",
    )  # fmt: skip


def _told(batch_id: str, token: str, event: e.Event) -> Recorded:
    subject = file_subject("acme", batch_id, token)
    return recorded(new_event(subject, event, expected_seq=0, time_ms=START_MS, origin=ORIGIN), 1)


async def _nothing_missing(seq: int) -> None:
    del seq
