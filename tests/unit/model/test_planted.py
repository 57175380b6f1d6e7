"""The test of the simulation: rules broken on purpose, each of which it must find.

A row is a bug, where it is planted, and what it is made of. ``FOUND_WITHIN`` seeds are enough for every one.
An acknowledgement without an outcome is not among them: the sweep puts the file back, so nothing breaks.
"""

import inspect
import time
from collections.abc import Callable
from typing import Any

import pytest

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.domain import batch as of_batch
from tanda.domain import file as of_file
from tanda.domain.scheduling import fair
from tanda.domain.scheduling.backlog import Backlog
from tanda.domain.scheduling.grouped import Grouped
from tests.unit.domain.folding import FoldedLog
from tests.unit.model.test_simulation import simulate
from tests.unit.model.world import World

FOUND_WITHIN = 2_000
STEPS = 120

Original = Callable[..., Any]
Plant = Callable[[Original], Original]


def never(_original: Original) -> Original:
    """Forgets to do it."""
    return lambda *_args, **_more: None


def _no_expected(original: Original) -> Original:
    def append(log: Any, event: Any, batch_id: str, file_id: str | None = None, **more: Any) -> Any:
        return original(log, event, batch_id, file_id, **more | {"expected": None})

    return append


def _ignores_attempt(original: Original) -> Original:
    def evolve(state: Any, event: Any) -> Any:
        after = original(state, event)
        return state if isinstance(event, e.FileAttemptFailed) else after

    return evolve


def _ignores(kind: type[e.Event]) -> Plant:
    """A fold that passes over one kind of event."""

    def plant(original: Original) -> Original:
        def apply(scheduler: Any, record: Any) -> None:
            if isinstance(record.event, kind) and record.seq > scheduler.position:
                scheduler.position = record.seq
            else:
                original(scheduler, record)

        return apply

    return plant


def _one_too_many(original: Original) -> Original:
    return lambda scheduler, now_ms, room, *lane: original(scheduler, now_ms, room + 1, *lane)


def _folds_twice(original: Original) -> Original:
    def apply(scheduler: Any, record: Any) -> None:
        scheduler.position = min(scheduler.position, record.seq - 1)
        original(scheduler, record)

    return apply


def _completes_early(original: Original) -> Original:
    def decide(state: Any, command: Any) -> Any:
        if isinstance(command, c.CompleteBatch) and state.phase is not None:
            made = e.BatchCompleted(
                version=1, through_seq=command.through_seq, results=command.results, counts=command.counts
            )
            return [made]
        return original(state, command)

    return decide


def _lost_checkpoint(original: Original) -> Original:
    def fall_back(world: World) -> None:
        seen = world.scheduler.position
        original(world)
        world.scheduler.position = seen

    return fall_back


def _parts_nothing(_original: Original) -> Original:
    return lambda *_args: []


def _only_the_first(original: Original) -> Original:
    return lambda *args: original(*args)[:1]


def _no_limits(_original: Original) -> Original:
    return lambda *_args: False


def _no_expected_of_groups(original: Original) -> Original:
    def append(log: Any, event: Any, batch_id: str, token: str | None = None, **more: Any) -> Any:
        if isinstance(event, e.FilesCompleted | e.FilesParted):
            more["expected"] = None
        return original(log, event, batch_id, token, **more)

    return append


#: The bug, where it is, what it is made of.
BUGS: list[tuple[str, Any, str, Plant]] = [
    ("the log checks no position", FoldedLog, "append", _no_expected),
    ("a file's fold passes over failed attempts", of_file, "evolve", _ignores_attempt),
    ("the scheduler ignores pauses", fair.FairScheduler, "apply", _ignores(e.BatchPaused)),
    ("the scheduler ignores resumes", fair.FairScheduler, "apply", _ignores(e.BatchResumed)),
    ("the scheduler ignores cancels", fair.FairScheduler, "apply", _ignores(e.BatchCancelled)),
    ("the scheduler ignores seals", fair.FairScheduler, "apply", _ignores(e.BatchSealed)),
    ("the scheduler ignores starts", fair.FairScheduler, "apply", _ignores(e.FileStarted)),
    ("the scheduler forgets retries", fair.FairScheduler, "apply", _ignores(e.FileAttemptFailed)),
    ("the scheduler forgets waiting files", fair.FairScheduler, "apply", _ignores(e.FileWaiting)),
    ("the scheduler skips outcomes", fair.FairScheduler, "apply", _ignores(e.FileCompleted)),
    ("the scheduler skips queued files", fair.FairScheduler, "apply", _ignores(e.FileQueued)),
    ("the scheduler never forgets a batch", fair.FairScheduler, "apply", _ignores(e.BatchCompleted)),
    ("the scheduler folds an event twice", fair.FairScheduler, "apply", _folds_twice),
    ("a release beyond the window", fair.FairScheduler, "release", _one_too_many),
    ("doomed files are not named", fair.FairScheduler, "_doom", never),
    ("alarms are not set", Backlog, "set_alarm", never),
    ("start times are not kept", Backlog, "set_start", never),
    ("lost work is not put back", World, "sweep", never),
    ("a snapshot's position is wrong", World, "fall_back", _lost_checkpoint),
    ("a batch is completed before its files are", of_batch, "decide", _completes_early),
    ("the scheduler skips queued groups", fair.FairScheduler, "apply", _ignores(e.FilesQueued)),
    ("the scheduler skips completed groups", fair.FairScheduler, "apply", _ignores(e.FilesCompleted)),
    ("the scheduler skips parted groups", fair.FairScheduler, "apply", _ignores(e.FilesParted)),
    ("the log checks no position of a group", FoldedLog, "append", _no_expected_of_groups),
    ("groups are never parted", Grouped, "partings", _parts_nothing),
    ("a cancel parts no group", Grouped, "doom", never),
    ("a cancelled group is forgotten by a retry", Grouped, "doom", lambda _: Grouped.part),
    ("a limit parts no group", Grouped, "_is_limited", _no_limits),
    ("a part of a group is released", Grouped, "items", _only_the_first),
    ("a group's files are members for ever", Grouped, "_forget", never),
]


def seeds_until_found(seeds: int) -> int | None:
    """The first seed that breaks, or None."""
    for seed in range(seeds):
        try:
            simulate(seed, STEPS)
        except Exception:
            return seed
    return None


@pytest.mark.parametrize(("where", "name", "plant"), [bug[1:] for bug in BUGS], ids=[bug[0] for bug in BUGS])
def test_a_planted_bug_is_found(where: Any, name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation breaks on it within its seeds."""
    monkeypatch.setattr(where, name, plant(inspect.getattr_static(where, name)))
    assert seeds_until_found(FOUND_WITHIN) is not None


def test_nothing_is_found_where_nothing_is_planted(capsys: pytest.CaptureFixture[str]) -> None:
    """The same stories hold without a bug; how many a minute of CPU tells."""
    began = time.process_time()
    assert seeds_until_found(100) is None
    with capsys.disabled():
        print(f"\n{100 / (time.process_time() - began) * 60:.0f} schedules of {STEPS} steps a minute of CPU")
