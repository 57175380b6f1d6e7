"""Very many short schedules, and bugs planted in the rules that they must find.

A failure names its seed: ``tell(seed)`` repeats it. ``TANDA_TEST_EXAMPLES`` is the number of seeds.
"""

import gc
import inspect
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.domain import batch as of_batch
from tanda.domain import file as of_file
from tanda.domain.scheduling import fair
from tanda.domain.scheduling.backlog import Backlog
from tanda.domain.scheduling.grouped import Grouped
from tanda.domain.settling import SettlingBatch
from tests.sim import schedule
from tests.sim.schedule import Schedule, tell
from tests.unit.domain.profile import CHOSEN

SEEDS = int(CHOSEN) if CHOSEN else 4_000
FOUND_WITHIN = 2_000

Original = Callable[..., Any]
Plant = Callable[[Original], Original]


@pytest.fixture(autouse=True)
def fewer_collections() -> Generator[None]:
    """Schedules are small and short-lived; looking for their cycles all the time took a tenth of it."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    yield
    gc.set_threshold(*before)


def test_every_schedule_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """No rule breaks at any step, and everything is settled once the faults stop."""
    began = time.process_time()
    for seed in range(SEEDS):
        try:
            tell(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    minutes = (time.process_time() - began) / 60
    with capsys.disabled():
        print(f"\n{SEEDS:,} schedules of {schedule.STEPS} steps, {SEEDS / minutes:,.0f} a minute of CPU")


def test_a_schedule_is_the_same_when_it_is_told_again() -> None:
    """Two runs of one seed write the same log."""
    for seed in range(20):
        assert tell(seed).records == tell(seed).records


def test_the_schedules_are_not_trivial() -> None:
    """Each kind of event and each fault comes often: else the search looks in the wrong place."""
    kinds: Counter[str] = Counter()
    for seed in range(1_000):
        kinds.update({record.name for record in tell(seed).records})
    rare = {name: kinds[name] for name in REACHED if kinds[name] < 50}
    assert not rare


REACHED = (
    "BatchPaused", "BatchResumed", "BatchCancelled", "FilesRetried", "BatchCompleted", "FileStarted",
    "FileWaiting", "FileCompleted", "FileAttemptFailed", "FileFailed", "FileCancelled", "SourcesArchived",
    "LimitsChanged", "FilesQueued", "FilesCompleted", "FilesParted",
)  # fmt: skip


# -- the test of the test


def never(_original: Original) -> Original:
    """Forgets to do it."""
    return lambda *_args, **_more: None


def passes_over(kind: type[e.Event]) -> Plant:
    """A fold that does not know one kind of event."""

    def plant(original: Original) -> Original:
        def apply(folded: Any, record: Any) -> None:
            if isinstance(record.event, kind):
                position = "position" if hasattr(folded, "position") else "seq"
                setattr(folded, position, max(getattr(folded, position), record.seq))
            else:
                original(folded, record)

        return apply

    return plant


def _no_occ(original: Original) -> Original:
    return lambda world, event, key, _expected=None: original(world, event, key)


def _acks_first(original: Original) -> Original:
    def write(world: Schedule, run: Any, command: c.Command) -> bool:
        """The queue's item is gone before the outcome is in the log, and the worker dies in between."""
        if not isinstance(command, c.StartFile) and world.chance.random() < 0.3:
            world.queue.pop(run.key, None)
            world.leaders[0].fair.outstanding(world.now_ms + 10**9, 0)
            return False
        return original(world, run, command)

    return write


def _parts_nothing(_original: Original) -> Original:
    return lambda *_args: []


def _only_the_first(original: Original) -> Original:
    return lambda *args: original(*args)[:1]


def _no_limits(_original: Original) -> Original:
    return lambda *_args: False


def _skips_failed_attempts(original: Original) -> Original:
    return lambda state, event: state if isinstance(event, e.FileAttemptFailed) else original(state, event)


def _one_too_many(original: Original) -> Original:
    return lambda one, now_ms, room, *lane: original(one, now_ms, room + 1, *lane)


def _folds_twice(original: Original) -> Original:
    def apply(one: Any, record: Any) -> None:
        one.position = min(one.position, record.seq - 1)
        original(one, record)

    return apply


def _completes_early(original: Original) -> Original:
    def decide(state: Any, command: Any) -> Any:
        if isinstance(command, c.PauseBatch) and state.phase == "sealed":
            return [e.BatchCompleted(version=1, through_seq=1, results=schedule.RESULTS, counts={})]
        return original(state, command)

    return decide


def _lost_checkpoint(original: Original) -> Original:
    def project(world: Schedule, pick: int) -> None:
        """Rows are written, the checkpoint is not: what was projected is projected again."""
        before = world.checkpoint
        original(world, pick)
        if world.chance.random() < 0.2:
            world.checkpoint = before

    return project


def _no_fence(_original: Original) -> Original:
    return lambda events, _seen: events


def _archives_early(original: Original) -> Original:
    def archivable(batch: SettlingBatch) -> Any:
        found = original(batch)
        queued = {
            file_id: file.source
            for file_id, file in batch.files.items()
            if file.status == "queued" and file.source is not None and file.archived is None
        }
        return {**found, "early": queued} if queued and batch.state.sealed else found

    return archivable


def _no_brake(_original: Original) -> Original:
    return lambda brake, **_more: brake


BUGS: list[tuple[str, Any, str, Plant]] = [
    ("the log checks no position", Schedule, "append", _no_occ),
    ("an acknowledgement before the event", Schedule, "_write", _acks_first),
    ("a file's fold passes over failed attempts", of_file, "evolve", _skips_failed_attempts),
    ("a batch is completed before its files are", of_batch, "decide", _completes_early),
    ("the scheduler skips queued groups", fair.FairScheduler, "apply", passes_over(e.FilesQueued)),
    ("the scheduler skips completed groups", fair.FairScheduler, "apply", passes_over(e.FilesCompleted)),
    ("the scheduler skips parted groups", fair.FairScheduler, "apply", passes_over(e.FilesParted)),
    ("groups are never parted", Grouped, "partings", _parts_nothing),
    ("a cancel parts no group", Grouped, "doom", never),
    ("a limit parts no group", Grouped, "_is_limited", _no_limits),
    ("a part of a group is released", Grouped, "items", _only_the_first),
    ("storage passes over completed groups", SettlingBatch, "apply", passes_over(e.FilesCompleted)),
    ("the scheduler ignores pauses", fair.FairScheduler, "apply", passes_over(e.BatchPaused)),
    ("the scheduler ignores resumes", fair.FairScheduler, "apply", passes_over(e.BatchResumed)),
    ("the scheduler ignores cancels", fair.FairScheduler, "apply", passes_over(e.BatchCancelled)),
    ("the scheduler ignores seals", fair.FairScheduler, "apply", passes_over(e.BatchSealed)),
    ("the scheduler ignores starts", fair.FairScheduler, "apply", passes_over(e.FileStarted)),
    ("the scheduler forgets retries", fair.FairScheduler, "apply", passes_over(e.FileAttemptFailed)),
    ("the scheduler forgets waiting files", fair.FairScheduler, "apply", passes_over(e.FileWaiting)),
    ("the scheduler skips outcomes", fair.FairScheduler, "apply", passes_over(e.FileCompleted)),
    ("the scheduler skips queued files", fair.FairScheduler, "apply", passes_over(e.FileQueued)),
    ("the scheduler never forgets a batch", fair.FairScheduler, "apply", passes_over(e.BatchCompleted)),
    ("the scheduler folds an event twice", fair.FairScheduler, "apply", _folds_twice),
    ("a release beyond the window", fair.FairScheduler, "release", _one_too_many),
    ("doomed files are not named", fair.FairScheduler, "_doom", never),
    ("a provider's trouble brakes nothing", fair, "trouble", _no_brake),
    ("a tenant's limit is ignored", Backlog, "tenant_full", never),
    ("alarms are not set", Backlog, "set_alarm", never),
    ("start times are not kept", Backlog, "set_start", never),
    ("lost work is not put back", Schedule, "sweep", never),
    ("storage passes over outcomes", SettlingBatch, "apply", passes_over(e.FileCompleted)),
    ("storage passes over retries", SettlingBatch, "apply", passes_over(e.FilesRetried)),
    ("sources are archived early", SettlingBatch, "archivable", _archives_early),
    ("the projector loses its checkpoint", Schedule, "project", _lost_checkpoint),
    ("the projector reads without its fence", schedule, "unseen", _no_fence),
]


def seeds_until_found(seeds: int) -> int | None:
    """The first seed that breaks, or None."""
    for seed in range(seeds):
        try:
            tell(seed)
        except Exception:
            return seed
    return None


@pytest.mark.parametrize(("where", "name", "plant"), [bug[1:] for bug in BUGS], ids=[bug[0] for bug in BUGS])
def test_a_planted_bug_is_found(where: Any, name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedules break on it within their seeds."""
    planted = plant(inspect.getattr_static(where, name))
    monkeypatch.setattr(where, name, planted)
    monkeypatch.setattr(schedule, "ACTS", [planted if act.__name__ == name else act for act in schedule.ACTS])
    assert seeds_until_found(FOUND_WITHIN) is not None
