"""What every log must do: one body, run on the real server and on the adapter in memory."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from tanda.adapters.memory import MemoryLog
from tanda.adapters.nats import connect
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.codec import encode_event
from tanda.contracts.envelope import FOLLOWS, NewEvent, Origin, Recorded, new_event
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_all, batch_subject, file_subject
from tanda.domain.errors import Conflict, LogDamaged
from tanda.ports import Log, Unread
from tests.stack import Stack

ORIGIN = Origin(source="/test/log")
DEADLINE_S = 10


@pytest.fixture(scope="module", params=["memory", "jetstream"])
async def log(
    request: pytest.FixtureRequest, servers: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
        return
    connection = await connect(servers.settings(tmp_path_factory.mktemp("log")), "test")
    yield connection.log
    await connection.close()


class Story:
    """New events of one batch."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.time_ms = time.time_ns() // 1_000_000
        self.batch_id = ids.derived_id(ids.BATCH, self.time_ms, tenant)

    def batch(self, event: e.Event, expected: int, origin: Origin = ORIGIN) -> NewEvent:
        subject = batch_subject(self.tenant, self.batch_id)
        return new_event(subject, event, expected_seq=expected, time_ms=self.time_ms, origin=origin)

    def file(self, index: int, event: e.Event | None = None, expected: int = 0) -> NewEvent:
        subject = file_subject(self.tenant, self.batch_id, ids.file_id(self.batch_id, str(index)))
        event = event or queued(index)
        return new_event(subject, event, expected_seq=expected, time_ms=self.time_ms, origin=ORIGIN)

    @property
    def all(self) -> str:
        return batch_all(self.tenant, self.batch_id)


def queued(index: int) -> e.FileQueued:
    source = BlobRef(key="t/x", bytes=1, sha256="0" * 64)
    return e.FileQueued(
        name=f"{index}.csv", index=index, content_type="text/csv", bytes=1, sha256="0" * 64,
        source=source, processor="noop",
    )  # fmt: skip


@pytest.fixture
def story(tenant: str) -> Story:
    return Story(tenant)


async def everything(log: Log, subject: str, **limits: int) -> list[Recorded]:
    return [record async for chunk in log.read(subject, **limits) for record in chunk]


async def followed(log: Log, after: int, count: int, anchor: str | None = None) -> list[Recorded]:
    records: list[Recorded] = []

    async def collect() -> None:
        async for chunk in log.follow(after, anchor):
            records.extend(chunk)
            if len(records) >= count:
                return

    await asyncio.wait_for(collect(), DEADLINE_S)
    return records


async def test_an_event_comes_back_as_it_was_written(log: Log, story: Story) -> None:
    """Everything of the envelope and the event survives the way through the log."""
    origin = Origin(source="/test/é", cause=7, command="key-1", actor="ana", traceparent="00-1-2-01")
    new = story.batch(e.BatchCreated(name="Año «1»\nñ", tags=["a"], metadata={"k": [1, None]}), 0, origin)
    (seq,) = await log.append([new])
    found = await log.last(new.subject)
    assert found is not None and found == await log.get(seq)
    assert (found.seq, found.id, found.event, found.subject) == (seq, new.id, new.event, new.subject)
    assert (found.tenant, found.batch_id, found.file_id) == (story.tenant, story.batch_id, None)
    assert (found.source, found.cause, found.command, found.actor) == ("/test/é", 7, "key-1", "ana")


async def test_a_chunk_is_whole_and_in_order(log: Log, story: Story) -> None:
    """A batch with 998 files is one append, its seal follows on the batch's own subject."""
    events = [story.batch(e.BatchCreated(name="x"), 0), *(story.file(i) for i in range(998))]
    events.append(story.batch(e.BatchSealed(total=998), FOLLOWS))
    seqs = await log.append(events)
    assert seqs == list(range(seqs[0], seqs[0] + 1000))
    assert [record.id for record in await everything(log, story.all)] == [new.id for new in events]


async def test_the_same_append_twice_writes_once(log: Log, story: Story) -> None:
    """A publish whose answer was lost is repeated, and finds itself written, also in a group."""
    chunk = [story.batch(e.BatchCreated(name="x"), 0), *(story.file(i) for i in range(20))]
    first = await log.append(chunk)
    assert await log.append(chunk) == first
    single = story.file(21)
    assert await log.append([single]) == await log.append([single])
    assert await log.append_each(chunk[1:]) == first[1:]
    assert len(await everything(log, story.all)) == 22


async def test_what_is_sent_ahead_counts_from_its_append_on(log: Log, story: Story) -> None:
    """Until then nobody sees any of it, others write, and it need not ever be written."""
    chunk = [story.batch(e.BatchCreated(name="x"), 0), *(story.file(i) for i in range(20))]
    await log.stage(chunk)
    staged = await log.stage(chunk)
    assert await everything(log, story.all) == []
    (between,) = await log.append([story.file(21)])
    assert await log.append(chunk, staged) == list(range(between + 1, between + 22))
    assert [record.id for record in await everything(log, story.all)][1:] == [new.id for new in chunk]


async def test_what_was_sent_ahead_and_is_not_there_is_sent_again(log: Log, story: Story) -> None:
    """An append is right whatever became of what was sent ahead; other events do not get in with it."""
    staged = await log.stage([story.file(i) for i in range(9)])
    chunk = [story.file(i) for i in range(10, 15)]
    seqs = await log.append(chunk, staged)
    assert [record.seq for record in await everything(log, story.all)] == seqs
    assert await log.append(chunk, staged) == seqs


async def test_a_repeat_is_known_even_when_others_followed(log: Log, story: Story) -> None:
    """An unknown outcome is settled by the event after the expected one, not by the last one."""
    first = story.batch(e.BatchCreated(name="x"), 0)
    (seq,) = await log.append([first])
    await log.append([story.batch(e.BatchPaused(), seq)])
    assert await log.append([first]) == [seq]


async def test_a_stale_expectation_is_refused_whole(log: Log, story: Story) -> None:
    """One conflict in an append refuses all of it."""
    await log.append([story.file(0)])
    with pytest.raises(Conflict):
        await log.append([story.file(1), story.file(0, e.FileCancelled(attempt=1, previous="queued"))])
    assert len(await everything(log, story.all)) == 1


async def test_independent_events_conflict_alone(log: Log, story: Story) -> None:
    """Events that share a commit do not share their fate."""
    await log.append([story.file(7)])
    other = e.FileCancelled(attempt=1, previous="queued")
    outcomes = await log.append_each([story.file(i, other if i == 7 else None) for i in range(40)])
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Conflict)] == [7]
    assert len(await everything(log, story.all)) == 40


async def test_fifty_writers_race_and_one_wins(log: Log, story: Story) -> None:
    """Different writers with the same expectation: exactly one event stands."""
    rivals = [story.batch(e.BatchCreated(name=f"{i}"), 0, Origin(source=f"/rival/{i}")) for i in range(50)]
    outcomes = await asyncio.gather(*(log.append([one]) for one in rivals), return_exceptions=True)
    winners = [one for one in outcomes if not isinstance(one, BaseException)]
    assert len(winners) == 1 and len(await everything(log, story.all)) == 1
    assert sum(isinstance(one, Conflict) for one in outcomes) == 49


async def test_reading_is_bounded_on_both_sides(log: Log, story: Story) -> None:
    """``after`` is exclusive, ``through`` is inclusive."""
    seqs = await log.append_each([story.file(i) for i in range(5)])
    assert all(isinstance(seq, int) for seq in seqs)
    numbers = sorted(seq for seq in seqs if isinstance(seq, int))
    found = await everything(log, story.all, after=numbers[0], through=numbers[3])
    assert [record.seq for record in found] == numbers[1:4]
    assert await everything(log, story.all, after=numbers[4]) == []
    assert await everything(log, "ev.nobody.>") == []


async def test_following_sees_what_is_there_and_what_comes(log: Log, story: Story) -> None:
    """A reader resumes after its position with no gap and no repeat, and then waits for more."""
    before = await log.position()
    (seq,) = await log.append([story.file(0)])
    reader = asyncio.create_task(followed(log, before, 31))
    await log.append([story.file(i) for i in range(1, 31)])
    seen = await reader
    assert [record.seq for record in seen] == list(range(before + 1, before + 32))
    anchor = seen[0].id
    assert seen[0].seq == seq
    assert (await followed(log, seq, 30, anchor))[0].seq == seq + 1


async def test_a_follower_with_an_end_stops_there(log: Log, story: Story) -> None:
    """At the end that it was given, wherever that is among what it asks for at once."""
    before = await log.position()
    await log.append([story.file(number) for number in range(900)])
    await log.append([story.file(number) for number in range(900, 1_700)])
    for length in (0, 1, 999, 1_000, 1_001, 1_600):
        async with asyncio.timeout(DEADLINE_S):
            seen = [one.seq async for chunk in log.follow(before, through=before + length) for one in chunk]
        assert seen == list(range(before + 1, before + length + 1))


async def test_a_watcher_knows_of_each_event_and_reads_which_it_likes(log: Log, story: Story) -> None:
    """Position, id and whose it is come without the event; read, it is what a follower gets."""
    before = await log.position()
    await log.append([story.batch(e.BatchCreated(name="ñ"), 0), *(story.file(i) for i in range(3))])
    seen: list[Unread] = []
    async with asyncio.timeout(DEADLINE_S):
        async for chunk in log.watch(before):
            seen += chunk
            if len(seen) == 4:
                break
    wanted = await followed(log, before, 4)
    assert [one[:4] for one in seen] == [(one.seq, one.id, one.tenant, one.batch_id) for one in wanted]
    assert [one.read() for one in seen] == wanted
    assert [one.bytes for one in seen] == [len(encode_event(one.event)) for one in wanted]
    with pytest.raises(LogDamaged):
        await anext(log.watch(before + 1, "evt_of_another_log"))


async def test_a_log_that_went_back_is_not_followed(log: Log, story: Story) -> None:
    """Where the event at the checkpoint is another one, or missing, the reader stops with an alarm."""
    (seq,) = await log.append([story.file(0)])
    with pytest.raises(LogDamaged):
        await followed(log, seq, 1, "evt_of_another_log")
    with pytest.raises(LogDamaged):
        await followed(log, seq + 1_000_000, 1, None)


async def test_an_unknown_subject_has_no_last_event(log: Log, story: Story) -> None:
    assert await log.last(batch_subject(story.tenant, story.batch_id)) is None
    assert await log.get(10**9) is None


async def test_a_reader_takes_large_events_a_few_at_a_time(log: Log, story: Story) -> None:
    """More bytes than the server may have waiting for one reader: all come, in order, read or followed.

    So many that a reader which had to begin again after each of its pulls would not be through in time.
    """
    before = await log.position()
    names = [f"{index:03d}-" + "x" * 100_000 for index in range(330)]
    files = [msgspec.structs.replace(queued(index), name=name) for index, name in enumerate(names)]
    for start in range(0, len(files), 30):
        await log.append([story.file(start + at, one) for at, one in enumerate(files[start : start + 30])])
    for records in (await everything(log, story.all), await followed(log, before, len(files))):
        mine = [record.event for record in records if record.batch_id == story.batch_id]
        assert [event.name for event in mine if isinstance(event, e.FileQueued)] == names
