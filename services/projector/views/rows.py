"""What a fold does to a table, gathered so that each row is touched once.

A column either takes the latest value (``set``) or merges with what the row holds: ``add`` counts,
``first`` keeps the earliest value, ``min`` and ``max`` keep an extreme. A delta therefore never
needs the row it changes, and a view never looks anything up.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tanda.contracts.views import Merge, Table, Write, merge

Key = tuple[Any, ...]

#: How the value of a row (``t``) and of a change become one, in SQL.
_SQL: dict[Merge, str] = {
    "set": "{value}",
    "add": "t.{name} + {value}",
    "first": "coalesce(t.{name}, {value})",
    "min": "least(t.{name}, {value})",
    "max": "greatest(t.{name}, {value})",
}


class Rows:
    """Changes of one table during a fold."""

    def __init__(self, table: Table, *, upsert: bool = False) -> None:
        self._table = table
        self._upsert = upsert
        self._merged: dict[str, Merge] = {
            name: one.merge for name, one in table.columns.items() if one.merge != "set"
        }
        self._defaults = {name: column.default for name, column in table.columns.items()}
        self._new: dict[Key, dict[str, Any]] = {}
        self._changed: dict[Key, dict[str, Any]] = {}

    def new(self, key: Key, values: Mapping[str, Any]) -> None:
        """A row whose first event this is; where the log tells of a second one, the last one counts."""
        self._changed.pop(key, None)
        row = self._defaults.copy()
        row.update(zip(self._table.key, key, strict=True))
        row.update(values)
        self._new[key] = row

    def change(self, key: Key, values: Mapping[str, Any]) -> None:
        """New values for columns of one row, merged as the table says."""
        if not values:
            return
        row = self._new.get(key)
        if row is None:
            row = self._changed.get(key)
            if row is None:
                row = self._changed[key] = {}
        if not self._merged:
            row.update(values)
            return
        for name, value in values.items():
            how = self._merged.get(name)
            row[name] = value if how is None else merge(how, row.get(name), value)

    def writes(self) -> list[Write]:
        """New rows first, then changes grouped by the columns they touch."""
        writes = [self._copy()] if self._new else []
        groups: dict[frozenset[str], list[Key]] = {}
        for key, row in self._changed.items():
            groups.setdefault(frozenset(row), []).append(key)
        return writes + [self._change(tuple(sorted(names)), keys) for names, keys in groups.items()]

    def _copy(self) -> Write:
        table = self._table
        rows = [[row[name] for name in table.columns] for row in self._new.values()]
        return Write(
            table=table.name, names=tuple(table.columns), records=rows, rows=len(rows),
            clear_sql=clearing(table),
        )  # fmt: skip

    def _change(self, names: tuple[str, ...], keys: list[Key]) -> Write:
        rows = [self._changed[key] for key in keys]
        columns = [[row[name] for row in rows] for name in names]
        if not self._upsert:
            return update_write(self._table, names, keys, columns)
        return Write(
            table=self._table.name, names=(*self._table.key, *names),
            columns=[*zip(*keys, strict=True), *columns], sql=_upsert(self._table, names), rows=len(keys),
        )  # fmt: skip


def update_write(
    table: Table, names: tuple[str, ...], keys: Sequence[Key], columns: Sequence[Sequence[Any]]
) -> Write:
    """Changes of rows that are there, the same columns of each; what all have in common is told once."""
    same: dict[str, Any] = {}
    if len(keys) > 1:
        pairs = zip(names, columns, strict=True)
        same = {name: each[0] for name, each in pairs if each.count(each[0]) == len(each)}
    various = tuple(name for name in names if name not in same)
    told = [each for name, each in zip(names, columns, strict=True) if name not in same]
    # The key is told row by row, or PostgreSQL reads all that has a part of it in common, a whole batch.
    return Write(
        table=table.name, names=(*table.key, *various), columns=[*zip(*keys, strict=True), *told], same=same,
        sql=_update(table, various, tuple(same)), rows=len(keys),
    )  # fmt: skip


@cache
def _update(table: Table, names: tuple[str, ...], same: tuple[str, ...]) -> str:
    told = (*table.key, *names)
    values = {name: f"u.{name}" for name in names}
    values |= {name: f"${at}::{table.columns[name].type}" for at, name in enumerate(same, len(told) + 1)}
    return (
        f"update {{schema}}.{table.name} as t set {_assignments(table, values)} "  # noqa: S608
        f"from {_arrays(table, told)} where {' and '.join(f't.{one} = u.{one}' for one in table.key)}"
    )


@cache
def _upsert(table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join((*table.key, *names))
    return (
        f"insert into {{schema}}.{table.name} as t ({columns}) "  # noqa: S608 - names from our own tables
        f"select {columns} from {_arrays(table, (*table.key, *names))} "
        f"on conflict ({', '.join(table.key)}) do update set "
        f"{_assignments(table, {name: f'excluded.{name}' for name in names})}"
    )


@cache
def clearing(table: Table) -> str:
    """Removes rows by their keys."""
    same = " and ".join(f"t.{one} = u.{one}" for one in table.key)
    return f"delete from {{schema}}.{table.name} as t using {_arrays(table, table.key)} where {same}"  # noqa: S608


def _assignments(table: Table, values: Mapping[str, str]) -> str:
    """Each column with the SQL of its new value."""
    merges = (
        (name, _SQL[table.columns[name].merge].format(name=name, value=sql)) for name, sql in values.items()
    )
    return ", ".join(f"{name} = {merged}" for name, merged in merges)


def _arrays(table: Table, names: tuple[str, ...]) -> str:
    arrays = ", ".join(f"${at}::{table.columns[name].type}[]" for at, name in enumerate(names, 1))
    return f"unnest({arrays}) as u({', '.join(names)})"


def clean(text: str) -> str:
    """A text as PostgreSQL can hold it: it refuses the character NUL, which JSON allows."""
    return text.replace("\0", "\ufffd") if "\0" in text else text
