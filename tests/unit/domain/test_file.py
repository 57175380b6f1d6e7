"""The file aggregate: given events, when a command, then events; and nothing illegal, ever."""

from dataclasses import dataclass
from functools import reduce

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER
from tanda.contracts.results import StoredArtifact, Usage
from tanda.domain import file as files
from tanda.domain.errors import StateForbids
from tests.unit.domain.folding import (
    ARCHIVED,
    BROKEN,
    BUSY,
    DIGEST,
    complete_file,
    file_queued,
    queue_file,
    start_file,
)
from tests.unit.domain.profile import examples

LATER = "2026-11-21T06:00:00.000Z"
REJECT = c.RejectFile(name="a", index=0, content_type="text/html", bytes=1, error=BROKEN)
AWAIT = c.AwaitFile(token_sha256=DIGEST, deadline=LATER)
FAIL = c.FailFile(error=BROKEN, duration_ms=3)
FAIL_FOR_NOW = c.FailFile(error=BUSY, duration_ms=3, retry_at=LATER)
COMMANDS: dict[str, c.Command] = {
    "queue": queue_file(),
    "reject": REJECT,
    "start": start_file(),
    "await": AWAIT,
    "complete": complete_file(),
    "complete at once": msgspec.structs.replace(complete_file(), started_at=LATER),
    "fail": FAIL,
    "fail for now": FAIL_FOR_NOW,
    "requeue": c.RequeueFile(),
    "requeue by force": c.RequeueFile(forced=True, processor="pdf"),
    "cancel": c.CancelFile(),
}
#: The arrows: status before, command, status after. Everything else is forbidden.
ARROWS: dict[tuple[e.FileStatus | None, str], e.FileStatus] = {
    (None, "queue"): "queued",
    (None, "reject"): "rejected",
    ("queued", "start"): "processing",
    ("queued", "complete at once"): "completed",
    ("queued", "cancel"): "cancelled",
    ("processing", "start"): "processing",
    ("processing", "await"): "waiting",
    ("processing", "complete"): "completed",
    ("processing", "fail"): "failed",
    ("processing", "fail for now"): "retrying",
    ("waiting", "complete"): "completed",
    ("waiting", "fail"): "failed",
    ("waiting", "fail for now"): "retrying",
    ("waiting", "cancel"): "cancelled",
    ("retrying", "requeue"): "queued",
    ("retrying", "requeue by force"): "queued",
    ("retrying", "cancel"): "cancelled",
    ("failed", "requeue by force"): "queued",
    ("completed", "requeue by force"): "queued",
    ("cancelled", "requeue by force"): "queued",
}
PATHS: dict[e.FileStatus | None, list[str]] = {
    None: [],
    "queued": ["queue"],
    "processing": ["queue", "start"],
    "waiting": ["queue", "start", "await"],
    "retrying": ["queue", "start", "fail for now"],
    "completed": ["queue", "start", "complete"],
    "failed": ["queue", "start", "fail"],
    "rejected": ["reject"],
    "cancelled": ["queue", "cancel"],
}


def after(*names: str) -> files.FileState:
    """The state after commands."""
    state = files.initial()
    for name in names:
        state = reduce(files.evolve, files.decide(state, COMMANDS[name]), state)
    return state


@pytest.mark.parametrize("status", PATHS, ids=str)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_arrows_is_complete(status: e.FileStatus | None, name: str) -> None:
    """A command leads where its arrow points, and is forbidden where there is none."""
    state = after(*PATHS[status])
    assert state.status == status
    if (status, name) in ARROWS:
        (event,) = files.decide(state, COMMANDS[name])
        assert files.evolve(state, event).status == ARROWS[status, name]
        assert getattr(event, "previous", status) == status
    else:
        with pytest.raises(StateForbids) as refusal:
            files.decide(state, COMMANDS[name])
        assert (refusal.value.code, refusal.value.fields) == (
            "file_state_forbids",
            {"state": status or "unknown"},
        )


@pytest.mark.parametrize(
    ("given", "when", "then"),
    [
        ([], "queue", file_queued()),
        (["queue"], "start", e.FileStarted(attempt=1, delivery=1, worker="w1", processor="noop",
                                           processor_version="1", previous="queued")),
        (["queue", "start"], "start", e.FileStarted(attempt=1, delivery=2, worker="w1", processor="noop",
                                                    processor_version="1", previous="processing")),
        (["queue", "start"], "fail", e.FileFailed(attempt=1, error=BROKEN, duration_ms=3, effort=1)),
        (["queue", "start", "fail for now"], "requeue", file_queued(attempt=2, previous="retrying")),
        (["queue", "start", "fail for now", "requeue"], "start",
         e.FileStarted(attempt=2, delivery=1, worker="w1", processor="noop",
                       processor_version="1", previous="queued")),
        (["queue", "start", "complete"], "requeue by force",
         file_queued(attempt=2, previous="completed", processor="pdf")),
        (["queue", "start", "await"], "cancel", e.FileCancelled(attempt=1, previous="waiting")),
    ],
)  # fmt: skip
def test_a_decision_in_full(given: list[str], when: str, then: e.Event) -> None:
    """Attempts count from 1 by retries, deliveries from 1 within an attempt; a retry repeats the facts."""
    assert files.decide(after(*given), COMMANDS[when]) == [then]


def test_a_new_file_tells_all_that_was_asked() -> None:
    """Every field of the command is in the event, under the same name."""
    command = queue_file(3, processor="xml", options={"a": 1}, bytes=7, source=ARCHIVED)
    (event,) = files.decide(files.initial(), command)
    told = msgspec.structs.asdict(event)
    assert {name: told[name] for name in command.__struct_fields__} == msgspec.structs.asdict(command)


def test_a_retry_reads_the_archived_source() -> None:
    """Once a source is archived, the next attempt is queued with its new place."""
    state = files.archived_source(after("queue", "start", "fail for now"), ARCHIVED)
    assert files.decide(state, c.RequeueFile()) == [
        file_queued(attempt=2, previous="retrying", source=ARCHIVED)
    ]


def test_a_version_holds_until_a_person_asks_again() -> None:
    """Attempts that follow by themselves keep to it; a person's next retry without one takes any."""
    asked = c.RequeueFile(processor="pdf", processor_version="2", forced=True)
    (queued,) = files.decide(after("queue", "start", "fail"), asked)
    state = files.evolve(files.initial(), queued)
    assert isinstance(queued, e.FileQueued) and (queued.processor, queued.processor_version) == ("pdf", "2")
    state = msgspec.structs.replace(state, status="retrying")
    versions: list[str | None] = []
    for command in (c.RequeueFile(), c.RequeueFile(forced=True)):
        (again,) = files.decide(state, command)
        assert isinstance(again, e.FileQueued) and again.processor == "pdf"
        versions.append(again.processor_version)
    assert versions == ["2", None]


def test_the_short_state_decides_a_start_like_the_folded_one() -> None:
    """A runner that knows the last event is the FileQueued needs no read before its start."""
    retried = after("queue", "start", "fail for now", "requeue")
    short = files.queued_state(2, retried.effort)
    (started,) = files.decide(retried, start_file())
    assert files.decide(short, start_file()) == [started]
    assert files.decide(files.evolve(short, started), complete_file()) == files.decide(
        files.evolve(retried, started), complete_file()
    )


def test_a_command_of_a_batch_is_forbidden() -> None:
    """The aggregate knows its own commands only."""
    with pytest.raises(StateForbids):
        files.decide(after("queue"), c.PauseBatch())


def test_a_batch_event_leaves_a_file_as_it_is() -> None:
    """What has no meaning here changes nothing."""
    assert files.evolve(after("queue"), e.BatchPaused()) == after("queue")


@dataclass
class Outcomes:
    """Final outcomes of one attempt."""

    attempt: int
    final: int = 0


class FileLife(RuleBasedStateMachine):
    """Any commands in any order: the state machine of the module's docstring, and no other."""

    def __init__(self) -> None:
        super().__init__()
        self.state = files.initial()
        self.counts: dict[e.FileStatus, int] = {}
        self.outcomes: list[Outcomes] = []
        self.effort = 0
        self.events: list[e.Event] = []

    @rule(name=st.sampled_from(sorted(COMMANDS)))
    def ask(self, name: str) -> None:
        before = self.state
        try:
            decided = files.decide(before, COMMANDS[name])
        except StateForbids:
            assert (before.status, name) not in ARROWS
            return
        assert (before.status, name) in ARROWS
        for event in decided:
            self._happens(event)
        assert self.state.status == ARROWS[before.status, name]

    def _happens(self, event: e.Event) -> None:
        previous = getattr(event, "previous", None)
        assert previous == self.state.status, "previous is the status that the file leaves"
        if previous is not None:
            self.counts[previous] -= 1
        status = STATUS_AFTER[type(event)]
        self.counts[status] = self.counts.get(status, 0) + 1
        if isinstance(event, e.FileCompleted | e.FileFailed):
            assert event.effort == self.effort > 0, "an outcome repeats what its file was to cost"
        if isinstance(event, e.FileQueued):
            self.effort = event.effort
            self.outcomes.append(Outcomes(event.attempt))
        elif not isinstance(event, e.FileRejected):
            assert getattr(event, "attempt", None) == self.outcomes[-1].attempt
        if status in FINAL_STATUSES and self.outcomes:
            self.outcomes[-1].final += 1
        self.state = files.evolve(self.state, event)
        self.events.append(event)

    @invariant()
    def counting_by_deltas_is_counting_by_state(self) -> None:
        expected = {self.state.status: 1} if self.state.status else {}
        assert {status: count for status, count in self.counts.items() if count} == expected

    @invariant()
    def an_attempt_has_one_final_outcome_at_most(self) -> None:
        assert all(one.final <= 1 for one in self.outcomes)
        assert [one.attempt for one in self.outcomes] == list(range(1, len(self.outcomes) + 1))

    @invariant()
    def replaying_gives_the_same_state(self) -> None:
        assert reduce(files.evolve, self.events, files.initial()) == self.state


def test_quick_work_is_told_as_any_other() -> None:
    """With every field that a completion has; the short way leaves none out."""
    usage = Usage(provider="p", model="m")
    artifact = StoredArtifact(name="a", content_type="t", blob=ARCHIVED)
    command = msgspec.structs.replace(
        complete_file(), result_ref=ARCHIVED, artifacts=[artifact], warnings=["w"], reused=True, provider="p",
        usage=usage, started_at=LATER,
    )  # fmt: skip
    optional = [one for one in msgspec.structs.fields(command) if not one.required]
    assert all(getattr(command, one.name) not in (None, [], False) for one in optional)

    (decided,) = files.decide(files.queued_state(2, 7), command)

    assert files.completed_at_once(2, 7, command, LATER) == decided


TestFileLife = FileLife.TestCase
TestFileLife.settings = examples(60, steps=30)
