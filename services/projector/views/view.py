"""What a view is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from tanda.contracts.envelope import Recorded
from tanda.contracts.views import Table, Write


class Folding(Protocol):
    """Events of one stretch of the log, being folded as they come."""

    def add(self, events: Sequence[Recorded]) -> None:
        """Further events, in log order."""
        ...

    def writes(self) -> list[Write]:
        """What all of them do to the rows."""
        ...


class View(ABC):
    """A read model: a pure fold of the log into rows of one schema.

    Sealed: it imports the contracts and nothing else, reads no clock and looks nothing up.
    """

    #: The schema is ``view_<name>``.
    name: str
    #: Raised when the fold changes its mind; a changed ``ddl`` counts by itself.
    version: int
    #: Its tables, without a schema; what follows the line ``-- indexes`` can wait for the rows.
    ddl: str
    tables: tuple[Table, ...]

    @abstractmethod
    def folding(self) -> Folding:
        """Nothing folded yet."""

    def fold(self, events: Sequence[Recorded]) -> list[Write]:
        """What these events, in log order, do to the rows."""
        folding = self.folding()
        folding.add(events)
        return folding.writes()
