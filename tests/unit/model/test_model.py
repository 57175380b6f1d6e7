"""The whole model under any faults in any order: safe at every step, and finished once faults stop."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tanda.contracts import commands as c
from tests.unit.domain.profile import examples
from tests.unit.model.world import QUICK, TENANT, World

PICK = st.integers(0, 1_000)
LIMIT = st.sampled_from([None, None, 1, 2, 5])


class ModelLife(RuleBasedStateMachine):
    """Each rule is one thing that people, services or faults do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def _batch(self, pick: int) -> str:
        names = list(self.world.truth.batches)
        return names[pick % len(names)]

    # -- people

    @rule(
        count=st.integers(1, 8),
        sealed=st.sampled_from([True, True, False]),
        poisoned=st.booleans(),
        start_in_ms=st.sampled_from([0, 0, 0, 15_000]),
        grouped=st.booleans(),
        quick=st.booleans(),
    )
    def upload(
        self, count: int, sealed: bool, poisoned: bool, start_in_ms: int, grouped: bool, quick: bool
    ) -> None:
        self.world.upload(
            count, sealed=sealed, poisoned=poisoned, start_in_ms=start_in_ms, grouped=grouped, quick=quick
        )

    @precondition(lambda self: self.world.truth.batches)
    @rule(pick=PICK, grouped=st.booleans(), quick=st.booleans())
    def upload_more(self, pick: int, grouped: bool, quick: bool) -> None:
        self.world.upload_more(self._batch(pick), grouped=grouped, quick=quick)

    @precondition(lambda self: self.world.truth.batches)
    @rule(
        pick=PICK,
        command=st.sampled_from([c.PauseBatch(), c.ResumeBatch(), c.ResumeBatch(), c.CancelBatch()]),
    )
    def command(self, pick: int, command: c.Command) -> None:
        self.world.command(self._batch(pick), command)

    @precondition(lambda self: self.world.truth.batches)
    @rule(pick=PICK)
    def seal(self, pick: int) -> None:
        self.world.seal(self._batch(pick))

    @precondition(lambda self: self.world.truth.batches)
    @rule(pick=PICK, completed=st.booleans())
    def retry(self, pick: int, completed: bool) -> None:
        self.world.retry(self._batch(pick), completed=completed)

    @precondition(lambda self: self.world.truth.batches)
    @rule(pick=PICK, limit=LIMIT)
    def limit(self, pick: int, limit: int | None) -> None:
        self.world.limit(self._batch(pick), limit)

    @rule(limit=LIMIT)
    def limit_tenant(self, limit: int | None) -> None:
        self.world.limit_all(tenants={TENANT: limit})

    @rule(limit=LIMIT)
    def limit_processor(self, limit: int | None) -> None:
        self.world.limit_all(processors={QUICK: limit})

    # -- services

    @rule(behind=st.sampled_from([0, 0, 0, 1, 4]), put_fails=st.sampled_from([False, False, False, True]))
    def schedule(self, behind: int, put_fails: bool) -> None:
        self.world.fold(behind)
        self.world.schedule(put_fails=put_fails)

    @rule()
    def sweep(self) -> None:
        self.world.sweep()

    @rule(pick=PICK, at_once=st.sampled_from([True, True, False]))
    def take(self, pick: int, at_once: bool) -> None:
        self.world.take(pick)
        if at_once and self.world.runs and self.world.runs[-1].state is None:
            self.world.begin(self.world.runs[-1])

    @precondition(lambda self: self.world.runs)
    @rule(
        pick=PICK,
        how=st.sampled_from(["complete", "complete", "complete", "fail", "break", "wait"]),
        ack_lost=st.sampled_from([False, False, True]),
    )
    def run_on(self, pick: int, how: str, ack_lost: bool) -> None:
        run = self.world.runs[pick % len(self.world.runs)]
        self.world.run_on(run, how, ack_lost=ack_lost)

    @precondition(lambda self: self.world.truth.batches)
    @rule(pick=PICK)
    def complete(self, pick: int) -> None:
        self.world.complete(self._batch(pick))

    @rule(ms=st.sampled_from([100, 1_000, 6_000, 30_000]))
    def wait(self, ms: int) -> None:
        self.world.log.now_ms += ms

    # -- faults

    @precondition(lambda self: self.world.runs)
    @rule(pick=PICK)
    def runner_dies(self, pick: int) -> None:
        self.world.runs.pop(pick % len(self.world.runs))

    @rule(pick=PICK)
    def queue_forgets_one(self, pick: int) -> None:
        self.world.take(pick, removes=True)

    @rule()
    def queue_forgets_all(self) -> None:
        self.world.forget_all()

    @rule()
    def snapshot(self) -> None:
        self.world.keep()

    @rule()
    def scheduler_dies(self) -> None:
        self.world.fall_back()

    @rule()
    def another_scheduler_leads(self) -> None:
        self.world.second()

    # -- what must hold

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.settle()


TestModelLife = ModelLife.TestCase
TestModelLife.settings = examples(60, steps=60)
