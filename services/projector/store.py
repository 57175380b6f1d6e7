"""What the projector needs of the database that holds its views (``tanda.adapters.views.store``)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from tanda.contracts.views import Checkpoint, Step, Table, TableDigest, Write

#: Brings a shadow to a position; called while live commits wait, so little may be missing.
CatchUp = Callable[[int], Awaitable[None]]


class Rows(Protocol):
    """Reads rows as they were at one moment."""

    async def checkpoint(self, schema: str) -> Checkpoint | None:
        """None where there is no such schema."""
        ...

    async def digest(self, schema: str, tables: Sequence[Table]) -> dict[str, TableDigest]:
        """Rows and digest of every table."""
        ...

    def lines(self, schema: str, table: Table) -> AsyncIterator[str]:
        """Every row of a table as JSON, in key order, as it is streamed."""
        ...

    async def first(self, schema: str, table: Table, rows_max: int) -> list[msgspec.Raw]:
        """The first rows of a table as JSON, in key order."""
        ...


class Shadow(Protocol):
    """A view being built beside the live one, until it takes its place or is dropped."""

    @property
    def schema(self) -> str:
        """Where its rows are: the live schema, once it is swapped."""
        ...

    @property
    def retired(self) -> str | None:
        """Where the view is that it replaced, until the shadow is left."""
        ...

    @property
    def checkpoint(self) -> Checkpoint: ...

    async def apply(self, writes: Sequence[Write], seq: int, event_id: str) -> None:
        """Writes rows and moves the shadow's checkpoint to ``seq``."""
        ...

    async def refresh(self) -> None:
        """Takes the checkpoint from the rows: other processes have written them."""
        ...

    async def index(self) -> None:
        """Makes the indexes that only readers need, once most rows are there; a second time does nothing."""
        ...

    async def swap(self, catch_up: CatchUp, *, only_other_version: bool = False) -> Rows | None:
        """Becomes the live view. Returns old and new at one position, where there are two to compare.

        ``only_other_version`` leaves a live view of the same version alone: somebody was faster.
        What is returned can be read until the shadow is left.
        """
        ...

    def reading(self) -> AbstractAsyncContextManager[Rows]:
        """Its own rows."""
        ...

    async def keep(self) -> str:
        """Leaves the rows behind in a schema that no clean-up touches; returns its name."""
        ...


class Store(Protocol):
    """The live views; every method may raise Unavailable."""

    async def checkpoint(self, view: str) -> Checkpoint | None:
        """The live view's, None where there is no such view."""
        ...

    async def commit(self, steps: Sequence[Step]) -> None:
        """Writes all steps in one transaction or none. Conflict where a checkpoint has moved."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Rows]:
        """Everything as it is now, whatever is committed later."""
        ...

    def shadow(
        self, view: str, version: str, ddl: str, *, passing: bool = False
    ) -> AbstractAsyncContextManager[Shadow]:
        """An empty shadow of a view; the swapped and the kept outlive the block, nothing else does.

        A ``passing`` one is neither swapped nor kept.
        """
        ...

    async def drop_abandoned(self, view: str) -> list[str]:
        """Drops what killed rebuilds of a view left behind."""
        ...


def live_schema(view: str) -> str:
    """Where a live view's rows are."""
    return f"view_{view}"
