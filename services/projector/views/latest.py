"""What a fold does to a table whose columns all take their latest value, gathered row by row.

A row is a list in the order of the table's columns, and a change is a tuple for columns named once: with a
dict a row, as ``Rows`` has it for what merges, a fold took twice as long.
"""

from collections.abc import Sequence
from typing import Any

from services.projector.views.rows import Key, clearing, update_write
from tanda.contracts.views import Table, Write


class Shape:
    """Columns that change together, and their places in a row. Two are the same where they are one object."""

    __slots__ = ("names", "places", "stretch")

    def __init__(self, table: Table, *names: str) -> None:
        order = list(table.columns)
        self.names = names
        self.places = [order.index(name) for name in names]
        first, end = self.places[0], self.places[0] + len(names)
        #: Where the columns follow one another in the table: a row takes them in one piece.
        self.stretch = slice(first, end) if self.places == list(range(first, end)) else None


class LatestRows:
    """Changes of one table during a fold."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._new: dict[Key, list[Any]] = {}
        self._changed: dict[Key, tuple[Shape, Sequence[Any]]] = {}
        self._joined: dict[tuple[str, ...], Shape] = {}

    def new(self, key: Key, row: list[Any]) -> None:
        """A row whose first event this is, whole; where the log tells of a second one, the last counts."""
        if self._changed:
            self._changed.pop(key, None)
        self._new[key] = row

    def change(self, key: Key, shape: Shape, values: Sequence[Any]) -> None:
        """New values for columns of one row."""
        row = self._new.get(key)
        if row is not None:
            if shape.stretch is not None:
                row[shape.stretch] = values
                return
            for place, value in zip(shape.places, values, strict=True):
                row[place] = value
            return
        before = self._changed.get(key)
        self._changed[key] = (shape, values) if before is None else self._both(before, shape, values)

    def _both(
        self, before: tuple[Shape, Sequence[Any]], shape: Shape, values: Sequence[Any]
    ) -> tuple[Shape, Sequence[Any]]:
        """Two changes of a row as one."""
        if before[0] is shape:
            return shape, values
        joined = dict(zip(before[0].names, before[1], strict=True))
        joined.update(zip(shape.names, values, strict=True))
        names = tuple(sorted(joined))
        one = self._joined.get(names)
        if one is None:
            one = self._joined[names] = Shape(self._table, *names)
        return one, [joined[name] for name in names]

    def writes(self) -> list[Write]:
        """New rows first, then changes, those of the same columns together."""
        writes = [self._copy()] if self._new else []
        groups: dict[Shape, tuple[list[Key], list[Sequence[Any]]]] = {}
        for key, (shape, values) in self._changed.items():
            group = groups.get(shape)
            if group is None:
                group = groups[shape] = ([], [])
            group[0].append(key)
            group[1].append(values)
        return writes + [
            update_write(self._table, shape.names, keys, list(zip(*values, strict=True)))
            for shape, (keys, values) in groups.items()
        ]

    def _copy(self) -> Write:
        table = self._table
        rows = list(self._new.values())
        return Write(
            table=table.name, names=tuple(table.columns), records=rows, rows=len(rows),
            clear_sql=clearing(table),
        )  # fmt: skip
