"""What is to be written of a batch, and what has been: the shapes between a request and the log."""

from collections.abc import Sequence

import msgspec

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.envelope import NewEvent, Origin, Recorded

#: First events, each with its file's id or its group's token.
Told = Sequence[tuple[str, e.Event]]


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file on its way into a batch: stored and to be queued, or refused."""

    file_id: str
    command: c.QueueFile | c.RejectFile


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one batch that are in the log now, in order."""

    tenant: str
    batch_id: str
    records: list[Recorded]
    #: Somebody had written them before: a repeated request, nothing of this one was used.
    repeated: bool = False

    @property
    def seq(self) -> int:
        return self.records[-1].seq


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A whole batch that only has to be written: decided, its first append encoded and sent ahead."""

    tenant: str
    batch_id: str
    files: Sequence[NewFile]
    origin: Origin
    time_ms: int
    #: The batch's creation and what goes with it into the first append.
    first: list[NewEvent]
    #: What the log calls the first append, if it was sent ahead.
    staged: str
    rest: list[Told]
    #: For the last append; None where the first is all.
    sealed: e.Event | None
