"""A stretch of the log, folded into every view and written into their shadows."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import msgspec

from services.projector.parallel.wire import Stretch
from services.projector.reading import closing
from services.projector.version import version_of
from services.projector.views.view import Folding, View
from tanda.contracts.envelope import told
from tanda.contracts.views import Checkpoint, Step
from tanda.ports import Log

#: Writes each schema's step, all or none.
Write = Callable[[Sequence[tuple[str, Step]]], Awaitable[None]]


class Part(msgspec.Struct, frozen=True):
    """What successive events do to the rows of every view."""

    steps: list[Step]
    seq: int
    #: How many events, those of a group as many as it has files.
    told: int


async def parts(log: Log, views: Mapping[str, View], stretch: Stretch) -> AsyncGenerator[Part]:
    """The stretch in as many parts as hold ``events_max`` each: it may have more events than was thought.

    Nothing is kept of a part when the next one is asked for.
    """
    after, folded = stretch.after, 0
    foldings = {name: view.folding() for name, view in views.items()}
    async with closing(log.follow(stretch.after, stretch.anchor, through=stretch.through)) as source:
        async for events in source:
            for folding in foldings.values():
                folding.add(events)
            folded += sum(map(told, events))
            seq, event_id = events[-1].seq, events[-1].id
            del events
            if folded >= stretch.events_max or seq == stretch.through:
                yield Part(_steps(views, foldings, after, seq, event_id), seq, folded)
                after, folded = seq, 0
                foldings = {name: view.folding() for name, view in views.items()}


def _steps(
    views: Mapping[str, View], foldings: dict[str, Folding], after: int, seq: int, event_id: str
) -> list[Step]:
    """What was folded, and no more of it than that is kept."""
    steps: list[Step] = []
    while foldings:
        name, folding = foldings.popitem()
        seen = _seen(views[name], after)
        steps.append(Step(view=name, seen=seen, seq=seq, event_id=event_id, writes=folding.writes()))
    return steps


def _seen(view: View, seq: int) -> Checkpoint:
    """What a writer in log order finds; the event there it does not need to know."""
    return Checkpoint(seq=seq, event_id=None, version=version_of(view))
