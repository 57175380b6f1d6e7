"""Writing views' rows and moving their checkpoints, inside the caller's transaction.

Every statement is a way to the server and back, which takes longer than the few rows that a lone event
changes: so all that changes rows or checkpoints travels as one, few new rows with it, and only many new rows
are copied beside it.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import asyncpg
import msgspec
import structlog

from tanda.adapters.postgres import Connection
from tanda.adapters.sql import named
from tanda.contracts.views import Step, Write
from tanda.domain.errors import Conflict

_log = structlog.get_logger("tanda.views")
_SQL = named("checkpoints")
_PLACE = re.compile(r"\$(\d+)")
#: Which columns change together varies; each combination is a text of its own.
_TEXTS_MAX = 256
#: As many new rows travel with the changes; more are quicker copied.
NEW_ROWS_MAX = 64
#: Of more rows each column travels as one text: the driver looks at each element of an array for half a
#: microsecond. Characters that values do not have stand between them, and for what is not there.
ARRAY_ROWS_MAX = 16
_BETWEEN, _NOTHING = "\x1f", "\x1e"
_PLAIN = frozenset({str, int, bool, type(None)})
_ARRAY = re.compile(r"(\$\d+)::(\w+)\[\]")


async def commit(connection: Connection, steps: Sequence[tuple[str, Step]], *, clear: bool = False) -> None:
    """Writes each schema's step; Conflict where a checkpoint is not where the step had seen it.

    ``clear``: rows that cannot be there twice were there. The log should not tell of a second
    beginning; where it does, the last one counts, and one odd event does not stop every view.
    """
    if clear:
        for schema, one in [(schema, one) for schema, step in steps for one in step.writes if one.clear_sql]:
            keys = zip(*(row[: str(one.clear_sql).count("$")] for row in one.records), strict=True)
            await connection.execute(str(one.clear_sql).format(schema=schema), *keys)
    advances = [(schema, _SQL["advance"]) for schema, _ in steps]
    writes = [(schema, _inlined(_joined(one))) for schema, step in steps for one in step.writes]
    changes = [(schema, one) for schema, one in writes if one.sql is not None]
    text = _as_one((*advances, *((schema, str(one.sql)) for schema, one in changes)))
    arguments: list[Any] = []
    for _, step in steps:
        arguments += (step.seq, step.event_id, step.seen.seq, step.seen.version)
    for _, one in changes:
        arguments += (*one.columns, *one.same.values())
    try:
        touched = await connection.fetchrow(text, *arguments)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise Conflict(steps[0][0], steps[0][1].seen.seq) from error
    assert touched is not None, "a select without a from has one row"
    for (schema, step), moved in zip(steps, touched, strict=False):
        if not moved:
            raise Conflict(schema, step.seen.seq)
    for (schema, one), rows in zip(changes, touched[len(steps) :], strict=True):
        if rows != one.rows:
            _log.warning("events name rows that are not there, passing over them",
                         table=f"{schema}.{one.table}", rows=one.rows - rows)  # fmt: skip
    for schema, one in writes:
        if one.sql is None:
            await connection.copy_records_to_table(
                one.table, schema_name=schema, columns=one.names, records=one.records
            )


def _inlined(write: Write) -> Write:
    """A copy of few rows as a statement, any other write as it is."""
    if write.sql is not None or write.rows > NEW_ROWS_MAX:
        return write
    names = ", ".join(write.names)
    place = f"{{schema}}.{write.table}"
    sql = f"insert into {place} ({names}) select {names} from json_populate_recordset(null::{place}, $1)"  # noqa: S608
    rows = [dict(zip(write.names, values, strict=True)) for values in write.records]
    return msgspec.structs.replace(write, sql=sql, records=(), columns=[msgspec.json.encode(rows).decode()])


def _joined(write: Write) -> Write:
    """A change of many rows with its columns as texts, where that is possible; any other write as it is."""
    if write.sql is None or write.rows <= ARRAY_ROWS_MAX:
        return write
    texts = [_as_text(column) for column in write.columns]
    if None in texts:
        return write
    return msgspec.structs.replace(write, sql=_split(write.sql), columns=texts)


def _as_text(column: Sequence[Any]) -> str | None:
    """The values in one text; None where they are not plain or hold a character that stands for something."""
    if not _PLAIN.issuperset(map(type, column)):
        return None
    text = _BETWEEN.join(
        [one if type(one) is str else _NOTHING if one is None else str(one) for one in column]
    )
    is_clear = text.count(_BETWEEN) == len(column) - 1 and text.count(_NOTHING) == column.count(None)
    return text if is_clear else None


@lru_cache(_TEXTS_MAX)
def _split(sql: str) -> str:
    """The same statement with a text in the place of each array."""
    return _ARRAY.sub(r"string_to_array(\1, E'\\x1f', E'\\x1e')::\2[]", sql)


@lru_cache(_TEXTS_MAX)
def _as_one(statements: tuple[tuple[str, str], ...]) -> str:
    """Several statements, each with its schema, as one that says how many rows each has touched."""
    parts: list[str] = []
    taken = 0
    for number, (schema, sql) in enumerate(statements):
        places = {int(place) for place in _PLACE.findall(sql)}
        moved = _PLACE.sub(lambda match, by=taken: f"${int(match[1]) + by}", sql.format(schema=schema))
        parts.append(f"s{number} as ({moved} returning 1)")
        taken += len(places)
    counts = [f"(select count(*) from s{number})" for number in range(len(parts))]  # noqa: S608 - our own names
    return f"with {', '.join(parts)} select {', '.join(counts)}"
