"""The batch aggregate: given commands, when a command, then events; and nothing illegal, ever."""

from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.domain import batch as batches
from tanda.domain.errors import Refusal, StateForbids
from tests.unit.domain.folding import ARCHIVED, RESULTS
from tests.unit.domain.profile import examples

COMPLETE = c.CompleteBatch(through_seq=9, results=RESULTS, counts={"completed": 1, "rejected": 1})
COMMANDS: dict[str, c.Command] = {
    "create": c.CreateBatch(name="noviembre"),
    "seal": c.SealBatch(total=2, rejected=1),
    "pause": c.PauseBatch(),
    "resume": c.ResumeBatch(),
    "cancel": c.CancelBatch(reason="wrong month"),
    "retry": c.RetryFiles(file_ids=["fil_1"]),
    "complete": COMPLETE,
    "archive": c.ArchiveSources(sources={"fil_1": ARCHIVED}),
    "archive by force": c.ForceArchiveSource(file_id="fil_1", source=ARCHIVED, reason="full"),
}
#: Each situation by the commands that lead there, and what it then allows.
SITUATIONS: dict[str, tuple[list[str], set[str]]] = {
    "unknown": ([], {"create"}),
    "open": (["create"], {"seal", "pause", "cancel"}),
    "open paused": (["create", "pause"], {"seal", "resume", "cancel"}),
    "sealed": (["create", "seal"], {"pause", "cancel", "retry", "complete"}),
    "paused": (["create", "seal", "pause"], {"resume", "cancel", "retry", "complete"}),
    "sealed while paused": (["create", "pause", "seal"], {"resume", "cancel", "retry", "complete"}),
    "completed": (["create", "seal", "complete"], {"retry"}),
    "completed while paused": (["create", "seal", "pause", "complete"], {"retry"}),
    "cancelled": (["create", "seal", "cancel"], {"retry", "complete"}),
    "cancelled and complete": (["create", "seal", "cancel", "complete"], {"retry"}),
    "cancelled while open": (["create", "cancel"], {"complete"}),
    "retried": (["create", "seal", "complete", "retry"], {"pause", "cancel", "retry", "complete"}),
    "retried after a cancel": (
        ["create", "seal", "cancel", "retry"],
        {"pause", "cancel", "retry", "complete"},
    ),
}
ALWAYS = {"archive", "archive by force"}


def after(*names: str) -> batches.BatchState:
    """The state after commands."""
    state = batches.initial()
    for name in names:
        state = reduce(batches.evolve, batches.decide(state, COMMANDS[name]), state)
    return state


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_situation_allows_exactly_its_commands(situation: str, name: str) -> None:
    """What a batch's state forbids is refused with the state, and changes nothing."""
    names, allowed = SITUATIONS[situation]
    state = after(*names)
    if name in allowed or (name in ALWAYS and names):
        assert len(batches.decide(state, COMMANDS[name])) == 1
    else:
        with pytest.raises(StateForbids) as refusal:
            batches.decide(state, COMMANDS[name])
        assert refusal.value.fields == {"state": state.phase or "unknown"}


@pytest.mark.parametrize(
    ("given", "when", "then"),
    [
        ([], "create", e.BatchCreated(name="noviembre")),
        (["create"], "seal", e.BatchSealed(total=2, rejected=1)),
        (["create"], "cancel", e.BatchCancelled(reason="wrong month")),
        (["create", "seal"], "complete",
         e.BatchCompleted(version=1, through_seq=9, results=RESULTS, counts=COMPLETE.counts)),
        (["create", "seal", "complete", "retry"], "complete",
         e.BatchCompleted(version=2, through_seq=9, results=RESULTS, counts=COMPLETE.counts)),
        (["create", "seal", "cancel", "complete"], "retry", e.FilesRetried(file_ids=["fil_1"])),
    ],
)  # fmt: skip
def test_a_decision_in_full(given: list[str], when: str, then: e.Event) -> None:
    """Results are numbered by version, one more with every retry of a finished batch."""
    assert batches.decide(after(*given), COMMANDS[when]) == [then]


@pytest.mark.parametrize(
    ("given", "phase", "sealed", "settled"),
    [
        (["create", "pause", "resume"], "open", False, False),
        (["create", "pause", "seal"], "paused", True, False),
        (["create", "pause", "seal", "resume"], "sealed", True, False),
        (["create", "seal", "pause", "retry"], "paused", True, False),
        (["create", "seal", "pause", "complete"], "completed", True, True),
        (["create", "seal", "cancel", "complete"], "cancelled", True, True),
        (["create", "seal", "cancel", "complete", "retry"], "sealed", True, False),
    ],
)
def test_where_a_story_ends(given: list[str], phase: str, sealed: bool, settled: bool) -> None:
    """A pause outlives the seal and a retry; a cancel outlives the results."""
    state = after(*given)
    assert (state.phase, state.sealed, state.settled) == (phase, sealed, settled)


@pytest.mark.parametrize(
    "counts",
    [{"completed": 1}, {"completed": 1, "processing": 1}, {"completed": 2, "queued": 1}, {"retrying": 2}, {}],
)
def test_results_wait_for_every_file(counts: dict[e.FileStatus, int]) -> None:
    """Also for one that slipped in beside the seal and is not in the total."""
    command = c.CompleteBatch(through_seq=9, results=RESULTS, counts=counts)
    with pytest.raises(StateForbids) as refusal:
        batches.decide(after("create", "seal"), command)
    assert refusal.value.code == "batch_not_settled"


def test_a_file_more_than_the_total_does_not_keep_a_batch_from_its_results() -> None:
    """Three settled files of a batch that was sealed with two are all there is."""
    command = c.CompleteBatch(through_seq=9, results=RESULTS, counts={"completed": 3})
    assert len(batches.decide(after("create", "seal"), command)) == 1


@pytest.mark.parametrize(
    ("given", "command", "code"),
    [
        (["create"], c.SealBatch(total=0), "empty_batch"),
        (["create", "seal"], c.RetryFiles(file_ids=[]), "empty_selection"),
    ],
)
def test_an_empty_wish_is_refused(given: list[str], command: c.Command, code: str) -> None:
    """A batch has files, and a retry names some."""
    with pytest.raises(Refusal) as refusal:
        batches.decide(after(*given), command)
    assert (refusal.value.code, refusal.value.status) == (code, 422)


def test_a_command_of_a_file_is_forbidden() -> None:
    """The aggregate knows its own commands only."""
    with pytest.raises(StateForbids):
        batches.decide(after("create"), c.CancelFile())


class BatchLife(RuleBasedStateMachine):
    """Any commands in any order, also forbidden ones."""

    def __init__(self) -> None:
        super().__init__()
        self.state = batches.initial()
        self.events: list[e.Event] = []

    @rule(name=st.sampled_from(sorted(COMMANDS)))
    def ask(self, name: str) -> None:
        try:
            decided = batches.decide(self.state, COMMANDS[name])
        except StateForbids:
            return
        for event in decided:
            self.state = batches.evolve(self.state, event)
            self.events.append(event)

    @invariant()
    def replaying_gives_the_same_state(self) -> None:
        assert reduce(batches.evolve, self.events, batches.initial()) == self.state

    @invariant()
    def the_flags_fit_the_phase(self) -> None:
        state = self.state
        assert state.phase != "open" or not state.sealed
        assert state.phase not in ("sealed", "completed") or state.sealed
        assert state.phase != "completed" or state.settled
        assert not state.settled or state.phase in ("completed", "cancelled")

    @invariant()
    def versions_count_the_results(self) -> None:
        versions = [event.version for event in self.events if isinstance(event, e.BatchCompleted)]
        assert versions == list(range(1, self.state.version + 1))

    @invariant()
    def it_is_created_and_sealed_once(self) -> None:
        kinds = [type(event) for event in self.events]
        assert kinds[:1] in ([], [e.BatchCreated])
        assert kinds.count(e.BatchCreated) <= 1
        assert kinds.count(e.BatchSealed) <= 1

    @invariant()
    def between_two_results_there_is_a_retry(self) -> None:
        kinds = [type(event) for event in self.events if isinstance(event, e.BatchCompleted | e.FilesRetried)]
        assert (e.BatchCompleted, e.BatchCompleted) not in pairwise(kinds)


TestBatchLife = BatchLife.TestCase
TestBatchLife.settings = examples(60, steps=30)
