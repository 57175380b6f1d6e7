"""What a read model is made of: its tables, the rows that a fold writes, and how far it has come.

The projector's views speak it, and so does the store that holds their rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

#: How a new value and the row's value become one.
Merge = Literal["set", "add", "first", "min", "max"]


class Column(msgspec.Struct, frozen=True):
    """A column: its PostgreSQL type, how values merge, and what a new row holds."""

    type: str
    merge: Merge = "set"
    default: Any = None


class Table(msgspec.Struct, frozen=True):
    """A table of a view. ``key`` orders its rows; ``columns`` has the key's columns too."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]

    def __hash__(self) -> int:
        return hash((self.name, self.key))


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One statement's worth of rows: new ones row by row, to be copied, or changes column by column."""

    table: str
    names: tuple[str, ...]
    columns: Sequence[Sequence[Any]] = ()
    records: Sequence[Sequence[Any]] = ()
    #: How many rows the statement has to touch.
    rows: int
    #: Columns that have the same value in every row, and that value: what a group's files have in common
    #: need not be written out for each.
    same: dict[str, Any] = {}
    #: With ``{schema}`` to fill in, one array per column and then what is the same; None: copy the records.
    sql: str | None = None
    #: Removes the rows of these keys (the first columns), should they be there already after all.
    clear_sql: str | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far a view has come, and which version of the code brought it there."""

    seq: int
    #: Of the event at ``seq``: the log must still have it there.
    event_id: str | None
    version: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One view's part of a commit: rows, and the checkpoint's move from where it was seen."""

    view: str
    seen: Checkpoint
    seq: int
    event_id: str
    writes: list[Write]


class TableDigest(msgspec.Struct, frozen=True, kw_only=True):
    """What a table holds: equal digests are equal rows."""

    rows: int
    digest: str


def merge(how: Merge, old: Any, new: Any) -> Any:
    """The same merge as in SQL; None is a value that is not there."""
    if old is None or how == "set":
        return new
    if how == "add":
        return old + new
    if how == "first" or new is None:
        return old
    return min(old, new) if how == "min" else max(old, new)
