"""Days of the model by seed: deep stories of people, services and faults, checked at every step.

``test_model`` finds short stories and shrinks them; this finds long ones. A failure names its seed:
``simulate(seed)`` repeats it. ``TANDA_TEST_EXAMPLES`` is the number of seeds.
"""

import random
from collections.abc import Callable

import pytest

from tanda.contracts import commands as c
from tests.unit.domain.profile import CHOSEN
from tests.unit.model.world import QUICK, TENANT, World

STEPS = 200
SEEDS = int(CHOSEN) if CHOSEN else 600
#: In one test each, so that a failure shows its neighbourhood at once.
SEEDS_PER_TEST = 100

Act = Callable[[World, random.Random], None]


def _upload(world: World, chance: random.Random) -> None:
    if len(world.truth.live()) < 12:
        world.upload(
            chance.randint(1, 8),
            sealed=chance.random() < 0.7,
            poisoned=chance.random() < 0.2,
            start_in_ms=chance.choice([0, 0, 0, 15_000]),
            grouped=chance.random() < 0.6,
            quick=chance.random() < 0.7,
        )


def _upload_more(world: World, chance: random.Random) -> None:
    if len(world.truth.live()) < 12:
        grouped, quick = chance.random() < 0.8, chance.random() < 0.7
        world.batch(chance.random(), lambda name: world.upload_more(name, grouped=grouped, quick=quick))


def _ask(command: c.Command) -> Act:
    return lambda world, chance: world.batch(chance.random(), lambda name: world.command(name, command))


def _seal(world: World, chance: random.Random) -> None:
    world.batch(chance.random(), world.seal)


def _retry(world: World, chance: random.Random) -> None:
    completed = chance.random() < 0.15
    world.batch(chance.random(), lambda name: world.retry(name, completed=completed))


def _limit(world: World, chance: random.Random) -> None:
    limit = chance.choice([None, 1, 2, 5])
    match chance.randrange(4):
        case 0:
            world.limit_all(tenants={TENANT: limit})
        case 1:
            world.limit_all(processors={QUICK: limit})
        case 2:
            world.limit_all(tenants={TENANT: None}, processors={QUICK: None})
        case _:
            world.batch(chance.random(), lambda name: world.limit(name, limit))


def _complete(world: World, chance: random.Random) -> None:
    for name in list(world.truth.batches):
        if chance.random() < 0.8:
            world.complete(name)


def _schedule(world: World, chance: random.Random) -> None:
    world.fold(chance.choice([0, 0, 0, 1, 4]))
    world.schedule(put_fails=chance.random() < 0.1)


def _take(world: World, chance: random.Random) -> None:
    if len(world.runs) < 4:
        world.take(chance.randrange(1_000))


def _run_on(world: World, chance: random.Random) -> None:
    if world.runs:
        how = chance.choice(["complete", "complete", "complete", "fail", "break", "wait"])
        world.run_on(chance.choice(world.runs), how, ack_lost=chance.random() < 0.2)


def _runner_dies(world: World, chance: random.Random) -> None:
    if world.runs:
        world.runs.remove(chance.choice(world.runs))


def _wait(world: World, chance: random.Random) -> None:
    world.log.now_ms += chance.choice([100, 1_000, 6_000, 30_000])


#: What happens, and how often.
ACTS: dict[str, tuple[Act, int]] = {
    "upload": (_upload, 8),
    "more of an upload": (_upload_more, 2),
    "seal": (_seal, 6),
    "pause": (_ask(c.PauseBatch()), 4),
    "resume": (_ask(c.ResumeBatch()), 8),
    "cancel": (_ask(c.CancelBatch()), 3),
    "retry": (_retry, 12),
    "a limit": (_limit, 3),
    "complete": (_complete, 5),
    "schedule": (_schedule, 20),
    "sweep": (lambda world, _: world.sweep(), 5),
    "take": (_take, 25),
    "run on": (_run_on, 45),
    "wait": (_wait, 8),
    "a runner dies": (_runner_dies, 3),
    "the queue gives out twice": (lambda world, chance: world.take(chance.randrange(1_000), removes=True), 1),
    "the queue forgets": (lambda world, _: world.forget_all(), 1),
    "a snapshot": (lambda world, _: world.keep(), 3),
    "the scheduler dies": (lambda world, _: world.fall_back(), 2),
    "another scheduler leads": (lambda world, _: world.second(), 2),
}


def simulate(seed: int, steps: int = STEPS) -> World:
    """One story, the same for the same seed."""
    chance, world = random.Random(seed), World()
    names = list(ACTS)
    for name in chance.choices(names, [ACTS[name][1] for name in names], k=steps):
        ACTS[name][0](world, chance)
        world.check()
    world.settle()
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_every_story_is_safe_and_ends(first: int) -> None:
    """No invariant breaks at any step, and everything is settled once faults stop."""
    for seed in range(first, first + SEEDS_PER_TEST):
        try:
            simulate(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_story_is_the_same_when_it_is_told_again() -> None:
    """Two runs of one seed write the same log."""
    assert simulate(7).log.records == simulate(7).log.records


def test_the_stories_reach_everything() -> None:
    """Each kind of event happens often: else the search looks in the wrong place."""
    kinds: dict[str, int] = {}
    for seed in range(40):
        for record in simulate(seed).log.records:
            kinds[record.name] = kinds.get(record.name, 0) + 1
    rare = {name: kinds.get(name, 0) for name in REACHED if kinds.get(name, 0) < 20}
    assert not rare


REACHED = (
    "BatchPaused", "BatchResumed", "BatchCancelled", "FilesRetried", "BatchCompleted", "FileStarted",
    "FileWaiting", "FileCompleted", "FileAttemptFailed", "FileFailed", "FileCancelled", "FilesQueued",
    "FilesCompleted", "FilesParted", "LimitsChanged", "BatchChanged",
)  # fmt: skip
