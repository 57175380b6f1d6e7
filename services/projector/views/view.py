"""What a view is."""

from collections.abc import Sequence
from typing import Protocol

from tanda.contracts.envelope import Recorded
from tanda.contracts.views import Table, Write


class View(Protocol):
    """A read model: a pure fold of the log into rows of one schema.

    Sealed: it imports the contracts and nothing else, reads no clock and looks nothing up.
    """

    @property
    def name(self) -> str:
        """The schema is ``view_<name>``."""
        ...

    @property
    def version(self) -> int:
        """Raised when the fold changes its mind; a changed ``ddl`` counts by itself."""
        ...

    @property
    def ddl(self) -> str:
        """Its tables, without a schema; what follows the line ``-- indexes`` can wait for the rows."""
        ...

    @property
    def tables(self) -> tuple[Table, ...]: ...

    def fold(self, events: Sequence[Recorded]) -> list[Write]:
        """What these events, in log order, do to the rows."""
        ...
