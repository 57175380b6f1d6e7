"""Two versions of a table side by side, row by row in key order."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from services.projector.store import Rows
from services.projector.views.rows import Key
from tanda.contracts.views import Table


class At(NamedTuple):
    """A schema, and the moment at which its rows are read."""

    rows: Rows
    schema: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One column of one row that is not what the log says."""

    view: str
    table: str
    key: dict[str, Any]
    #: None where the whole row is missing on one side.
    column: str | None
    live: Any
    replayed: Any

    def sentence(self) -> str:
        """For a person: view, key, column and both values."""
        key = ", ".join(f"{name}={value}" for name, value in self.key.items())
        what = self.column or "the row"
        values = f"live {_short(self.live)}, replayed {_short(self.replayed)}"
        return f"{self.view}.{self.table} [{key}] {what}: {values}"


async def differences(view: str, table: Table, live: At, replayed: At, limit: int) -> list[Difference]:
    """The first differences between a table in two schemas, at most ``limit``."""
    found: list[Difference] = []
    ours, theirs = _rows(table, live), _rows(table, replayed)
    one, other = await anext(ours, None), await anext(theirs, None)
    while (one is not None or other is not None) and len(found) < limit:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None, "the loop's condition"
            found.append(_missing(view, table, one[0], one[1], None))
            one = await anext(ours, None)
        elif one is None or other[0] < one[0]:
            found.append(_missing(view, table, other[0], None, other[1]))
            other = await anext(theirs, None)
        else:
            found += _columns(view, table, one, other)
            one, other = await anext(ours, None), await anext(theirs, None)
    return found[:limit]


_Row = tuple[Key, dict[str, Any]]


async def _rows(table: Table, at: At) -> AsyncIterator[_Row]:
    async for line in at.rows.lines(at.schema, table):
        row: dict[str, Any] = msgspec.json.decode(line)
        yield tuple(row[name] for name in table.key), row


def _missing(view: str, table: Table, key: Key, live: Any, replayed: Any) -> Difference:
    named = dict(zip(table.key, key, strict=True))
    return Difference(view=view, table=table.name, key=named, column=None, live=live, replayed=replayed)


def _columns(view: str, table: Table, live: _Row, replayed: _Row) -> list[Difference]:
    named = dict(zip(table.key, live[0], strict=True))
    return [
        Difference(view=view, table=table.name, key=named, column=name, live=value, replayed=expected)
        for name, value in live[1].items()
        if value != (expected := replayed[1].get(name))
    ]


def _short(value: Any) -> str:
    """A value on one line; None of a whole row means that it is not there."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}…"
