"""Groups of files in the scheduler: what the model test finds only after long stories."""

from tanda.contracts import events as e
from tanda.contracts.subjects import group_token
from tanda.contracts.work import LANE_DEFAULT, LANE_QUICK, LANE_SMALL
from tanda.domain.scheduling.fair import FairScheduler
from tests.unit.domain.folding import FoldedLog, complete_at_once, file_queued

GROUP = group_token(0)
LANES = {"noop": LANE_QUICK, "echo": LANE_QUICK}
NOW_MS = 1_795_000_100_000
Files = list[tuple[str, e.FileQueued]]


def grouped(log: FoldedLog, *processors: str, batch_id: str = "b1") -> Files:
    """A sealed batch whose files, one for each processor, are a group."""
    files = [(f"f{at}", file_queued(at, processor=processor)) for at, processor in enumerate(processors)]
    log.append(e.BatchCreated(name=batch_id), batch_id)
    log.append(e.FilesQueued(files=files), batch_id, GROUP, expected=0)
    log.append(e.BatchSealed(total=len(files)), batch_id)
    return files


def complete(log: FoldedLog, files: Files) -> None:
    done = [(file_id, complete_at_once(queued, "2026-11-18T10:00:00.000Z")) for file_id, queued in files]
    log.append(e.FilesCompleted(files=done), "b1", GROUP)


def released(fair: FairScheduler, lane: str, room: int = 100) -> list[str]:
    return [item.file_id for item in fair.release(NOW_MS, room, lane)]


def test_a_group_on_two_tracks_is_completed() -> None:
    """One of its processors got a limit while it was out: its files wait on two tracks, all are settled."""
    log, fair = FoldedLog(), FairScheduler(LANES)
    files = grouped(log, "noop", "echo", "noop")
    fair.apply_many(log.records)
    assert released(fair, LANE_QUICK) == ["f0", "f1", "f2"]
    log.append(e.BatchPaused(), "b1")
    log.append(e.LimitsChanged(processors={"noop": 1}), "limits")
    complete(log, files)
    log.append(e.BatchResumed(), "b1")
    fair.apply_many(log.records)
    assert (fair.unreleased(), fair.in_flight(), released(fair, LANE_QUICK)) == (0, 0, [])


def test_a_group_whose_batch_is_cancelled_is_cancelled_in_spite_of_a_retry() -> None:
    """Parted after something else was retried, its files are due to be cancelled and are not released."""
    log, fair = FoldedLog(), FairScheduler(LANES)
    grouped(log, "noop", "noop")
    log.append(e.BatchCancelled(), "b1")
    log.append(e.FilesRetried(file_ids=["f9"]), "b1")
    log.append(e.FilesParted(), "b1", GROUP)
    fair.apply_many(log.records)
    assert released(fair, LANE_QUICK) == []
    assert [(one.kind, one.file_id, one.seq) for one in fair.due(NOW_MS)] == [
        ("cancel", "f0", 0),
        ("cancel", "f1", 0),
    ]


def test_nothing_is_due_of_a_file_whose_group_is_whole() -> None:
    """Also after a restart: until it is parted nobody may write an event of its own."""
    log, fair = FoldedLog(), FairScheduler(LANES)
    grouped(log, "noop", "noop")
    log.append(e.BatchCancelled(), "b1")
    fair.apply_many(log.records)
    again = FairScheduler.restore(fair.dump(), LANES)
    for scheduler in (fair, again):
        assert scheduler.due(NOW_MS) == []
        (parting,) = scheduler.partings(NOW_MS)
        assert (parting.batch_id, parting.group, parting.seq) == ("b1", GROUP, 2)
        assert scheduler.partings(NOW_MS) == []


def test_slow_files_of_a_small_batch_have_its_lane_once_they_are_parted() -> None:
    """A group may be small where much of its upload was rejected."""
    log, fair = FoldedLog(), FairScheduler(LANES, small_files=2)
    grouped(log, "table", "noop")
    log.append(e.FilesParted(), "b1", GROUP)
    fair.apply_many(log.records)
    assert released(fair, LANE_DEFAULT) == released(fair, LANE_QUICK) == []
    assert released(fair, LANE_SMALL) == ["f0", "f1"]


def test_a_group_and_single_files_get_the_same_share() -> None:
    """A turn of quick work is a group, or as many single files: nobody's wait for a group each."""
    log, fair = FoldedLog(), FairScheduler(LANES)
    log.append(e.BatchCreated(name="b1"), "b1")
    for number in range(2):
        files = [(f"f{number}-{at}", file_queued(100 * number + at, processor="noop")) for at in range(100)]
        log.append(e.FilesQueued(files=files), "b1", group_token(number), expected=0)
    log.append(e.BatchSealed(total=200), "b1")
    log.append(e.BatchCreated(name="b2"), "b2")
    for at in range(300):
        log.append(file_queued(at, processor="noop"), "b2", f"s{at:03d}")
    log.append(e.BatchSealed(total=300), "b2")
    fair.apply_many(log.records)
    given = released(fair, LANE_QUICK, room=200)
    assert sorted(given) == sorted([f"f0-{at}" for at in range(100)] + [f"s{at:03d}" for at in range(100)])


def test_a_turn_of_single_files_ends_at_a_limit() -> None:
    """Of a batch that may have three at once, three are released."""
    log, fair = FoldedLog(), FairScheduler(LANES)
    log.append(e.BatchCreated(name="b2", limit=3), "b2")
    for at in range(10):
        log.append(file_queued(at, processor="noop"), "b2", f"s{at}")
    log.append(e.BatchSealed(total=10), "b2")
    fair.apply_many(log.records)
    assert released(fair, LANE_QUICK) == ["s0", "s1", "s2"]
