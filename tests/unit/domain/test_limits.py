"""Limits and brakes in the scheduler's fold: how many files run at once, and who is not held up by it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tanda.contracts import events as e
from tanda.contracts.results import FileError
from tanda.contracts.times import rfc3339
from tanda.contracts.work import provider_lane
from tanda.domain.scheduling.fair import FairScheduler
from tanda.domain.scheduling.limits import CALM_CALLS, NO_BRAKE, allowed, success, trouble
from tests.unit.domain.folding import DIGEST, START_MS, file_queued
from tests.unit.domain.profile import examples
from tests.unit.domain.test_fair import Story

PROVIDER = "http-publisher"
LANE = provider_lane(PROVIDER)
TOO_MANY = FileError(code="rate_limited", message="Later.", retryable=True)


def limits(story: Story, **changed: Any) -> None:
    story.tell(e.LimitsChanged(**changed), "limits")


def outside(story: Story, batch_id: str, files: int) -> None:
    """A batch whose files go to a provider."""
    story.tell(e.BatchCreated(name=batch_id), batch_id)
    for index in range(files):
        queued = file_queued(index, processor="http", options={"endpoint": "publisher"})
        story.tell(queued, batch_id, f"{batch_id}-{index}")
    story.tell(e.BatchSealed(total=files), batch_id)


def asked_to_pause(story: Story, file_id: str, until_ms: int) -> None:
    story.start(file_id)
    event = e.FileAttemptFailed(
        attempt=1, error=TOO_MANY, retry_at=rfc3339(until_ms), provider=PROVIDER,
        braked_until=rfc3339(until_ms),
    )  # fmt: skip
    story.tell(event, file_id.partition("-")[0], file_id)


def test_a_batch_runs_no_more_files_at_once_than_its_limit() -> None:
    """One that is done makes room for one; taking the limit away frees the rest."""
    story = Story()
    story.batch("b", 6)
    story.tell(e.BatchChanged(changed=["limit"], limit=2))
    assert story.release() == ["b-0", "b-1"]
    assert story.fair.reasons(START_MS) == {"b": "limit"}
    story.complete("b-0")
    assert story.release() == ["b-2"]
    story.tell(e.BatchChanged(changed=["limit"], limit=None))
    assert story.release() == ["b-3", "b-4", "b-5"]


def test_a_tenant_at_its_limit_holds_up_nobody_else() -> None:
    """Its batches keep their places meanwhile."""
    story = Story()
    limits(story, tenants={"a": 1})
    story.batch("x", 2, tenant="a")
    story.batch("y", 2, tenant="a")
    story.batch("z", 2, tenant="other")
    assert story.release() == ["x-0", "z-0", "z-1"]
    assert story.fair.reasons(START_MS) == {"x": "limit", "y": "limit"}
    limits(story, tenants={"a": None})
    assert story.release() == ["y-0", "x-1", "y-1"]


def test_a_processor_at_its_limit_holds_up_no_other_processor() -> None:
    """Not even in the same batch; the order within one processor stays."""
    story = Story()
    story.batch("b", 2)
    for index in (2, 3, 4):
        story.tell(file_queued(index, processor="pdf"), "b", f"b-{index}")
    limits(story, processors={"pdf": 1})
    assert sorted(story.release()) == ["b-0", "b-1", "b-2"]
    story.complete("b-2")
    assert story.release() == ["b-3"]
    limits(story, processors={"pdf": None})
    assert story.release() == ["b-4"]


def test_a_provider_is_a_lane_of_its_own_with_its_limit() -> None:
    """Three calls at once where nobody has set anything else."""
    story = Story(providers=[PROVIDER])
    outside(story, "b", 4)
    assert (story.release(), story.fair.allowed(LANE), story.fair.allowed("main")) == ([], 3, None)
    limits(story, providers={PROVIDER: 7})
    assert story.fair.allowed(LANE) == 7
    assert story.release(lane=LANE) == ["b-0", "b-1", "b-2", "b-3"]


def test_work_for_a_provider_that_is_not_configured_is_not_lost() -> None:
    """It runs in the default lane, where the worker fails it with a reason."""
    story = Story()
    outside(story, "b", 1)
    assert story.release() == ["b-0"]


def test_a_braked_provider_is_not_called_before_its_time() -> None:
    """No file of anybody; afterwards half as many at once, and after good calls as many as before."""
    story = Story(providers=[PROVIDER])
    outside(story, "b", 9)
    assert len(story.release(3, lane=LANE)) == 3
    asked_to_pause(story, "b-0", START_MS + 5_000)
    assert (story.release(lane=LANE), story.release(after_ms=4_999, lane=LANE)) == ([], [])
    assert story.fair.reasons(START_MS) == {"b": "brake"}
    assert story.fair.allowed(LANE) == 1
    assert len(story.release(9, after_ms=5_000, lane=LANE)) == 6
    for number in range(CALM_CALLS):
        done = e.FileCompleted(
            attempt=1, processor="http", processor_version="1", duration_ms=1, result_sha256=DIGEST,
            result_bytes=2, provider=PROVIDER,
        )  # fmt: skip
        story.tell(done, "b", f"b-{number + 1}")
    assert story.fair.allowed(LANE) == 3


def test_trouble_of_calls_under_way_is_one_time_of_trouble() -> None:
    """Three answers of 429 at once halve the limit once; the longest pause counts."""
    brake = trouble(NO_BRAKE, at_ms=0, until_ms=1_000, code="rate_limited")
    brake = trouble(brake, at_ms=10, until_ms=500, code="rate_limited")
    assert (brake.level, brake.until_ms, allowed(8, brake)) == (1, 1_000, 4)
    assert trouble(brake, at_ms=1_000, until_ms=2_000, code="unavailable").level == 2


def test_good_calls_without_a_brake_change_nothing() -> None:
    """There is nothing to give back."""
    assert success(NO_BRAKE) == NO_BRAKE


def test_a_new_leader_counts_what_another_has_released() -> None:
    """What the work queue holds is in flight: limits hold across a change of leaders."""
    story = Story()
    story.batch("b", 4)
    story.tell(e.BatchChanged(changed=["limit"], limit=2))
    story.fair.adopt([("acme", "b", "b-1"), ("acme", "b", "b-2"), ("acme", "gone", "x")], START_MS)
    assert (story.release(), story.fair.in_flight()) == ([], 2)
    story.complete("b-2")
    assert story.release() == ["b-0"]


def test_a_batch_changes_its_class_while_it_waits() -> None:
    """From bulk to interactive: eight turns of nine instead of one of nine."""
    story = Story()
    story.batch("n", 40, priority="interactive")
    story.batch("b", 40, priority="bulk")
    story.tell(e.BatchChanged(changed=["priority"], priority="interactive"))
    story.tell(e.BatchChanged(changed=["priority"], priority="bulk"), "n")
    assert sum(one.startswith("b-") for one in story.release(9)) == 8


def test_a_schedule_is_changed_and_taken_away() -> None:
    """Later, then at once; the alarm of the first time rings for nothing."""
    story = Story()
    story.batch("b", 1, start_at=rfc3339(START_MS + 500))
    story.tell(e.BatchChanged(changed=["start_at"], start_at=rfc3339(START_MS + 900)))
    assert [timer for timer, _ in story.fair.timers()][-1].seq == 4
    assert (story.release(after_ms=500), story.release(after_ms=899)) == ([], [])
    story.tell(e.BatchChanged(changed=["start_at"]))
    assert story.release(after_ms=1) == ["b-0"]


def test_an_expiry_is_changed_and_taken_away() -> None:
    story = Story()
    story.batch("b", 1, expires_at=rfc3339(START_MS + 500))
    story.tell(e.BatchChanged(changed=["expires_at"], expires_at=rfc3339(START_MS + 900)))
    assert (story.due(500), story.due(899)) == ([], [])
    story.tell(e.BatchChanged(changed=["expires_at"]))
    assert story.due(2_000) == []


@examples(150)
@given(
    batches=st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from(["noop", "pdf"]), st.integers(1, 5),
            st.one_of(st.none(), st.integers(1, 3)),
        ),
        min_size=1, max_size=5,
    ),
    of_tenant=st.one_of(st.none(), st.integers(1, 4)),
    of_processor=st.one_of(st.none(), st.integers(1, 4)),
    seed=st.randoms(use_true_random=False),
)  # fmt: skip
def test_no_limit_is_ever_passed_and_nothing_is_forgotten(
    batches: list[tuple[str, str, int, int | None]],
    of_tenant: int | None,
    of_processor: int | None,
    seed: Any,
) -> None:
    """For any batches and limits, restored on the way: within all limits, and all run in the end."""
    story = Story()
    limits(story, tenants={"a": of_tenant}, processors={"pdf": of_processor})
    owners: dict[str, tuple[str, str, int | None]] = {}
    for number, (tenant, processor, files, limit) in enumerate(batches):
        batch_id = f"b{number}"
        story.fair.apply(story.log.append(e.BatchCreated(name="x", limit=limit), batch_id, tenant=tenant))
        for index in range(files):
            queued = file_queued(index, processor=processor)
            story.fair.apply(story.log.append(queued, batch_id, f"{batch_id}-{index}", tenant=tenant))
        story.fair.apply(story.log.append(e.BatchSealed(total=files), batch_id, tenant=tenant))
        owners[batch_id] = (tenant, processor, limit)
    running: list[str] = []
    done = 0
    while done < sum(files for _, _, files, _ in batches):
        running += [item.file_id for item in story.fair.release(START_MS, seed.randint(1, 4))]
        assert running, "something waits although nothing runs"
        flying = [owners[one.partition("-")[0]] for one in running]
        assert of_tenant is None or sum(tenant == "a" for tenant, _, _ in flying) <= of_tenant
        assert of_processor is None or sum(one == "pdf" for _, one, _ in flying) <= of_processor
        for batch_id, (_, _, limit) in owners.items():
            mine = sum(one.startswith(f"{batch_id}-") for one in running)
            assert limit is None or mine <= limit
        if seed.random() < 0.2:
            story.fair = FairScheduler.restore(story.fair.dump())
        finished = running.pop(seed.randrange(len(running)))
        batch_id = finished.partition("-")[0]
        event = e.FileFailed(attempt=1, error=TOO_MANY)
        story.fair.apply(story.log.append(event, batch_id, finished, tenant=owners[batch_id][0]))
        done += 1
    assert (story.fair.in_flight(), story.fair.unreleased()) == (0, 0)
