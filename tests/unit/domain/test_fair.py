"""The scheduler's fold, story by story, and its fairness as properties."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanda.contracts import events as e
from tanda.contracts.times import rfc3339
from tanda.contracts.work import Timer, WorkItem, provider_lane
from tanda.domain.file import FileState
from tanda.domain.scheduling.fair import DUE_AGAIN_MS, FairScheduler
from tanda.domain.scheduling.turns import WHEEL
from tests.unit.domain.folding import (
    ARCHIVED,
    BUSY,
    DIGEST,
    RESULTS,
    SOURCE,
    START_MS,
    FoldedLog,
    file_queued,
)
from tests.unit.domain.profile import examples


class Story:
    """A log and a scheduler that follows it at once."""

    def __init__(self, **given: Any) -> None:
        self.log = FoldedLog()
        self.fair = FairScheduler(**given)

    def batch(self, batch_id: str, files: int, **given: Any) -> None:
        self.fair.apply_many(self.log.batch(batch_id, files, **given))

    def tell(self, event: e.Event, batch_id: str = "b", file_id: str | None = None) -> None:
        self.fair.apply(self.log.append(event, batch_id, file_id))

    def start(self, file_id: str, *, attempt: int = 1, delivery: int = 1) -> None:
        self.tell(
            e.FileStarted(
                attempt=attempt, delivery=delivery, worker="w", processor="noop", processor_version="1",
                previous="queued" if delivery == 1 else "processing",
            ),
            file_id.partition("-")[0],
            file_id,
        )  # fmt: skip

    def complete(self, file_id: str) -> None:
        event = e.FileCompleted(
            attempt=1,
            processor="noop",
            processor_version="1",
            duration_ms=1,
            result_sha256=DIGEST,
            result_bytes=2,
        )
        self.tell(event, file_id.partition("-")[0], file_id)

    def fail_for_now(self, file_id: str, at_ms: int) -> None:
        event = e.FileAttemptFailed(attempt=1, error=BUSY, retry_at=rfc3339(at_ms))
        self.tell(event, file_id.partition("-")[0], file_id)

    def release(self, room: int = 100, after_ms: int = 0, **given: Any) -> list[str]:
        return [item.file_id for item in self.fair.release(START_MS + after_ms, room, **given)]

    def due(self, after_ms: int = 0) -> list[tuple[str, str | None]]:
        return [(due.kind, due.file_id) for due in self.fair.due(START_MS + after_ms)]


# -- what is released -----------------------------------------------------------------------------


def test_a_released_file_is_all_that_a_runner_needs() -> None:
    """The work item comes from the FileQueued, its position included."""
    story = Story()
    story.batch("b", 1)
    assert story.fair.release(START_MS, 10) == [
        WorkItem(
            tenant="acme", batch_id="b", file_id="b-0", seq=2, attempt=1, name="file 0",
            content_type="text/plain", bytes=1, sha256=DIGEST, source=SOURCE, processor="noop",
            effort=1,
        )
    ]  # fmt: skip
    assert (story.fair.unreleased(), story.fair.in_flight()) == (0, 1)


def test_nothing_is_released_before_the_seal() -> None:
    """A batch exists whole or not at all."""
    story = Story()
    story.batch("b", 2, sealed=False)
    assert story.release() == []
    story.tell(e.BatchSealed(total=2))
    assert story.release() == ["b-0", "b-1"]


def test_nothing_is_released_before_its_time() -> None:
    """``start_at`` holds a batch back, and sets a timer."""
    story = Story()
    story.batch("b", 1, start_at=rfc3339(START_MS + 500), expires_at=rfc3339(START_MS + 900))
    timer = Timer(tenant="acme", batch_id="b", file_id=None, seq=1)
    assert story.fair.timers() == [(timer, rfc3339(START_MS + 500))]
    assert (story.release(after_ms=499), story.fair.next_ms()) == ([], START_MS + 500)
    assert story.release(after_ms=500) == ["b-0"]
    assert story.fair.timers() == [(timer, rfc3339(START_MS + 900))]
    assert (story.due(899), story.due(900)) == ([], [("expiry", None)])


def test_the_room_is_the_limit() -> None:
    """What does not fit stays, in order."""
    story = Story()
    story.batch("b", 5)
    assert [story.release(2), story.release(0), story.release(-3), story.release(9)] == [
        ["b-0", "b-1"],
        [],
        [],
        ["b-2", "b-3", "b-4"],
    ]


def test_a_paused_batch_takes_back_what_has_not_started() -> None:
    """What runs is finished; the rest waits in its old order and is withdrawn from the work queue."""
    story = Story()
    story.batch("b", 4)
    story.release(3)
    story.start("b-1")
    story.tell(e.BatchPaused())
    assert story.fair.withdrawn() == [("acme", "b")]
    assert (story.release(), story.fair.in_flight(), story.fair.unreleased()) == ([], 1, 3)
    story.tell(e.BatchResumed())
    assert story.release() == ["b-0", "b-2", "b-3"]
    assert story.fair.withdrawn() == []


def test_a_start_by_another_schedulers_release_counts() -> None:
    """A file that was started is in flight, whoever released it, and is not released again."""
    story = Story()
    story.batch("b", 2)
    story.start("b-0")
    assert (story.fair.in_flight(), story.release()) == (1, ["b-1"])


def test_settled_files_make_room() -> None:
    """In flight are files between their release and their outcome."""
    story = Story()
    story.batch("b", 2)
    story.release()
    story.start("b-0")
    assert story.fair.in_flight() == 2
    story.complete("b-0")
    assert story.fair.in_flight() == 1


def test_events_that_were_seen_change_nothing() -> None:
    """A record at or before the position is passed over."""
    story = Story()
    story.batch("b", 3)
    story.release(2)
    story.start("b-0")
    before = story.fair.dump()
    story.fair.apply_many(reversed(story.log.records))
    story.fair.apply_many(story.log.records)
    assert story.fair.dump() == before


def test_an_archived_source_is_read_where_it_is() -> None:
    """Also by a file that is released only afterwards."""
    story = Story()
    story.batch("b", 2)
    story.tell(e.SourcesArchived(sources={"b-0": ARCHIVED, "unknown": ARCHIVED}))
    story.tell(e.SourceForceArchived(file_id="b-1", source=ARCHIVED, reason="full"))
    assert [item.source for item in story.fair.release(START_MS, 10)] == [ARCHIVED, ARCHIVED]


def test_a_lane_has_its_own_queue_and_window() -> None:
    """Files for an outside provider do not hold up the rest of their batch."""
    story = Story(lanes={"vision": "openai"})
    story.batch("b", 2)
    story.tell(file_queued(2, processor="vision"), "b", "b-2")
    assert story.fair.lanes() == ["main", "openai"]
    assert (story.release(lane="openai"), story.release(lane="main")) == (["b-2"], ["b-0", "b-1"])
    assert (story.fair.in_flight("openai"), story.fair.in_flight("main"), story.fair.in_flight()) == (1, 2, 3)


def test_a_small_batch_has_a_lane_without_large_ones() -> None:
    """Known to be small by its seal; whatever of a large one was released before, it is not behind it."""
    story = Story(lanes={"noop": "quick"}, providers=["http-mine"], small_files=2)
    story.batch("large", 3)
    story.batch("small", 2)
    assert story.release(lane="quick") == ["large-0", "large-1", "large-2"]
    assert story.release(lane="small") == ["small-0", "small-1"]
    assert [item.lane for item in story.fair.outstanding(START_MS + 1, 0)] == ["quick"] * 3 + ["small"] * 2
    again = FairScheduler.restore(story.fair.dump(), {"noop": "quick"}, ["http-mine"], small_files=2)
    assert (again.in_flight("small"), again.in_flight("quick")) == (2, 3), "a successor knows it too"


def test_a_small_batch_keeps_the_lane_of_a_provider() -> None:
    """The lane is what holds a provider's limit."""
    story = Story(providers=["http-mine"], small_files=2)
    story.batch("b", 0, sealed=False)
    story.tell(file_queued(0, processor="http", options={"endpoint": "mine"}), "b", "b-0")
    story.tell(e.BatchSealed(total=1, bytes=1))
    assert (story.release(lane="small"), story.release(lane=provider_lane("http-mine"))) == ([], ["b-0"])


def test_what_is_begun_is_told_from_what_only_waits() -> None:
    """A lane's window follows how many are worked on; a second start of a file is no second file."""
    story = Story()
    story.batch("b", 3)
    story.release()
    assert (story.fair.in_flight("main"), story.fair.started("main")) == (3, 0)
    story.start("b-0")
    story.start("b-0")
    story.start("b-1")
    assert story.fair.started("main") == 2
    again = FairScheduler.restore(story.fair.dump())
    assert again.started("main") == 2, "a successor knows it too"
    story.fail_for_now("b-0", START_MS + 1_000)
    story.complete("b-1")
    assert (story.fair.in_flight("main"), story.fair.started("main")) == (1, 0)


# -- what comes due -------------------------------------------------------------------------------


def test_a_failed_attempt_is_due_again_at_its_time() -> None:
    """With the state and position that decide it; again after a while unless the log tells it is done."""
    story = Story()
    story.batch("b", 1)
    story.release()
    story.start("b-0")
    story.fail_for_now("b-0", START_MS + 1_000)
    timer = Timer(tenant="acme", batch_id="b", file_id="b-0", seq=5)
    assert story.fair.timers() == [(timer, rfc3339(START_MS + 1_000))]
    assert (story.fair.timers(), story.due(999)) == ([], [])
    (due,) = story.fair.due(START_MS + 1_000)
    assert (due.kind, due.file_id, due.seq) == ("retry", "b-0", 5)
    assert due.state == FileState(status="retrying", attempt=1, effort=1, queued=file_queued())
    assert story.due(1_000 + DUE_AGAIN_MS - 1) == []
    assert story.due(1_000 + DUE_AGAIN_MS) == [("retry", "b-0")]
    story.tell(file_queued(attempt=2, previous="retrying"), "b", "b-0")
    assert story.due(99_000) == []
    (item,) = story.fair.release(START_MS, 9)
    assert (item.attempt, item.seq) == (2, 6)


def test_a_waiting_file_is_out_of_flight_until_its_deadline() -> None:
    """A confirmation that does not come is a failure that somebody has to write."""
    story = Story()
    story.batch("b", 1)
    story.start("b-0")
    story.tell(e.FileWaiting(attempt=1, token_sha256=DIGEST, deadline=rfc3339(START_MS + 50)), "b", "b-0")
    assert (story.fair.in_flight(), story.due(49), story.due(50)) == (0, [], [("deadline", "b-0")])


def test_a_cancelled_batch_is_due_to_lose_what_does_not_run() -> None:
    """Queued, released, retrying and waiting files; a running one is finished."""
    story = Story()
    story.batch("b", 4)
    story.release(3)
    story.start("b-0")
    story.start("b-1")
    story.fail_for_now("b-1", START_MS + 9)
    story.tell(e.BatchCancelled())
    assert story.fair.withdrawn() == [("acme", "b")]
    assert sorted(story.due()) == [("cancel", "b-1"), ("cancel", "b-2"), ("cancel", "b-3")]
    assert (story.release(), story.fair.in_flight(), story.fair.unreleased()) == ([], 1, 0)
    story.fail_for_now("b-0", START_MS + 9)
    assert story.due(1) == [("cancel", "b-0")]


def test_what_was_cancelled_stays_so_when_others_are_retried() -> None:
    """The promise of a cancel is kept file by file; only a new FileQueued takes it back."""
    story = Story()
    story.batch("b", 3)
    story.tell(e.BatchCancelled())
    story.tell(e.FileCancelled(attempt=1, previous="queued"), "b", "b-0")
    story.tell(e.FilesRetried(file_ids=["b-0"]))
    story.tell(file_queued(attempt=2, previous="cancelled"), "b", "b-0")
    assert story.release() == ["b-0"]
    assert story.due() == [("cancel", "b-1"), ("cancel", "b-2")]


def test_a_file_that_comes_after_the_cancel_is_cancelled_too() -> None:
    """An upload into an open batch may cross its cancel."""
    story = Story()
    story.batch("b", 0, sealed=False)
    story.tell(e.BatchCancelled())
    story.tell(file_queued(), "b", "b-0")
    assert (story.due(), story.release()) == ([("cancel", "b-0")], [])


def test_the_sweep_names_what_has_been_silent() -> None:
    """Released or started and nothing heard since; named once per age, in work items."""
    story = Story()
    story.batch("b", 3)
    story.release(2)
    story.log.now_ms += 4_000
    story.start("b-1")

    def outstanding(after_ms: int) -> list[str]:
        return [item.file_id for item in story.fair.outstanding(START_MS + after_ms, 5_000)]

    assert [outstanding(ms) for ms in (4_999, 5_000, 5_001, 9_000)] == [[], ["b-0"], [], ["b-1"]]


# -- what is remembered ---------------------------------------------------------------------------


def _finish(story: Story, batch_id: str, files: int) -> None:
    story.batch(batch_id, files)
    for file_id in story.release():
        story.start(file_id)
        story.complete(file_id)
    story.tell(
        e.BatchCompleted(version=1, through_seq=1, results=RESULTS, counts={"completed": files}), batch_id
    )


def test_finished_batches_are_forgotten() -> None:
    """The state does not grow with what is done."""
    story, fresh = Story(), Story()
    for number in range(50):
        _finish(story, f"b{number}", 3)
    fresh.fair.position = story.fair.position
    assert (story.fair.unfinished(), story.fair.dump()) == (0, fresh.fair.dump())


def test_a_retry_of_a_forgotten_batch_runs() -> None:
    """What it needs comes with its events; afterwards it is forgotten again."""
    story = Story()
    _finish(story, "b", 2)
    story.tell(e.FilesRetried(file_ids=["b-1"]))
    story.tell(file_queued(1, attempt=2, previous="completed"), "b", "b-1")
    assert story.release() == ["b-1"]
    story.complete("b-1")
    assert story.fair.unfinished() == 1
    story.tell(e.BatchCompleted(version=2, through_seq=1, results=RESULTS, counts={"completed": 2}))
    assert story.fair.unfinished() == 0


@pytest.mark.parametrize("grouped", [False, True])
def test_a_file_that_comes_after_its_batch_was_forgotten_is_cancelled(grouped: bool) -> None:
    """It was on its way when others sealed the batch: it neither runs nor stays queued for ever."""
    story = Story()
    _finish(story, "b", 1)
    if grouped:
        story.tell(e.FilesQueued(files=[("b-1", file_queued(1))]), "b", "grp_1")
        assert [one.group for one in story.fair.partings(START_MS)] == ["grp_1"]
        story.tell(e.FilesParted(), "b", "grp_1")
    else:
        story.tell(file_queued(1), "b", "b-1")
    assert (story.release(), story.due()) == ([], [("cancel", "b-1")])
    story.tell(e.FileCancelled(attempt=1, previous="queued"), "b", "b-1")
    assert story.fair.unfinished() == 0


@examples(60)
@given(
    sizes=st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(["interactive", "normal", "bulk"]), st.integers(1, 8)
        ),
        min_size=1,
        max_size=8,
    ),
    rooms=st.lists(st.integers(0, 6), max_size=6),
)
def test_a_restored_scheduler_goes_on_exactly_like_the_first(
    sizes: list[tuple[str, Any, int]], rooms: list[int]
) -> None:
    """Same order of turns, same bytes of its own dump, for any batches and any releases before."""
    story = Story()
    for number, (tenant, priority, files) in enumerate(sizes):
        story.batch(f"b{number}", files, tenant=tenant, priority=priority)
    for room in rooms:
        story.release(room)
    twin = FairScheduler.restore(story.fair.dump())
    assert twin.dump() == story.fair.dump()
    assert [twin.release(START_MS, 3) for _ in range(30)] == [
        story.fair.release(START_MS, 3) for _ in range(30)
    ]
    assert (twin.unreleased(), twin.in_flight()) == (0, sum(files for _, _, files in sizes))


def test_a_successor_knows_what_is_under_way() -> None:
    """What is in flight, what comes due, what is to be set and what is to be withdrawn."""
    story = Story()
    story.batch("b", 4, start_at=rfc3339(START_MS), expires_at=rfc3339(START_MS + 9))
    story.release(3)
    story.start("b-0")
    story.fail_for_now("b-0", START_MS + 5)
    story.start("b-1")
    story.tell(e.BatchPaused())
    story.batch("later", 1, start_at=rfc3339(START_MS + 7))
    twin = FairScheduler.restore(story.fair.dump())
    assert (twin.in_flight("main"), twin.in_flight(), twin.unreleased(), twin.next_ms()) == (
        1,
        1,
        3,
        START_MS + 5,
    )
    assert [(due.kind, due.file_id) for due in twin.due(START_MS + 9)] == [("retry", "b-0"), ("expiry", None)]
    assert [item.file_id for item in twin.release(START_MS + 9, 9)] == ["later-0"]
    assert (twin.withdrawn(), twin.timers()) == (story.fair.withdrawn(), story.fair.timers())


def test_a_lane_has_room_again_after_a_file_is_settled() -> None:
    """The count of a lane falls with the outcome, like the count of all."""
    story = Story()
    story.batch("b", 1)
    story.release()
    story.complete("b-0")
    assert (story.fair.in_flight("main"), story.fair.in_flight()) == (0, 0)


# -- fairness -------------------------------------------------------------------------------------


def test_a_small_batch_behind_a_large_one_goes_out_in_the_first_round() -> None:
    """Three files behind ten thousand: the first six releases have all three."""
    story = Story()
    story.batch("large", 10_000)
    story.batch("small", 3)
    assert sum(file_id.startswith("small") for file_id in story.release(6)) == 3


def test_tenants_share_equally_whatever_they_call_their_work() -> None:
    """A tenant with a hundred interactive batches gets no more than one with a bulk batch."""
    story = Story()
    for number in range(100):
        story.batch(f"a{number}", 10, tenant="a", priority="interactive")
    story.batch("b", 100, tenant="b", priority="bulk")
    items = story.fair.release(START_MS, 200)
    assert Counter(item.tenant for item in items) == {"a": 100, "b": 100}


def test_priorities_share_a_tenant_by_their_weights() -> None:
    """8 : 4 : 1 in every thirteen releases, as long as all three have work."""
    story = Story()
    for priority in ("interactive", "normal", "bulk"):
        story.batch(priority, 104, priority=priority)
    for _ in range(13):
        items = story.fair.release(START_MS, len(WHEEL))
        assert Counter(item.batch_id for item in items) == {"interactive": 8, "normal": 4, "bulk": 1}


@examples(80)
@given(
    batches=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["interactive", "normal", "bulk"]), st.integers(1, 6)),
        min_size=1,
        max_size=25,
    ),
    arrivals=st.lists(st.integers(0, 12), max_size=25),
)
def test_no_batch_waits_longer_than_its_bound(
    batches: list[tuple[int, Any, int]], arrivals: list[int]
) -> None:
    """At most ``tenants * 13 * batches of its priority`` releases, though others keep arriving."""
    story = Story()
    waited: dict[str, int] = {}
    bounds: dict[str, int] = {}
    for number, (tenant, priority, files) in enumerate(batches):
        story.batch(f"b{number}", files, tenant=f"t{tenant}", priority=priority)
        waited[f"b{number}"] = 0
        bounds[f"b{number}"] = 4 * len(WHEEL) * len(batches)
        for _ in range(arrivals[number] if number < len(arrivals) else 2):
            _release_one(story, waited, bounds)
    while story.fair.unreleased():
        _release_one(story, waited, bounds)


def _release_one(story: Story, waited: dict[str, int], bounds: dict[str, int]) -> None:
    for item in story.fair.release(START_MS, 1):
        for batch_id in waited:
            waited[batch_id] += 1
        waited[item.batch_id] = 0
    waiting = {batch.batch_id for batch in story.fair._backlog.batches.values() if any(batch.queues.values())}
    for batch_id in set(waited) - waiting:
        del waited[batch_id]
    assert all(turns <= bounds[batch_id] for batch_id, turns in waited.items())


@pytest.mark.parametrize("waiting", [1, 5, 30])
def test_a_bulk_file_waits_for_one_round_of_the_wheel(waiting: int) -> None:
    """However many interactive batches there are and keep coming: the bound is tight."""
    story = Story()
    for number in range(waiting):
        story.batch(f"i{number}", 100, priority="interactive")
    story.batch("bulk", 1, priority="bulk")
    assert "bulk-0" in story.release(len(WHEEL))
