"""Writing a view's rows and moving its checkpoint, inside the caller's transaction."""

from collections.abc import Sequence

import structlog

from tanda.adapters.postgres import Connection
from tanda.adapters.sql import named
from tanda.contracts.views import Checkpoint, Write

_log = structlog.get_logger("tanda.views")
_SQL = named("checkpoints")


async def advance(connection: Connection, schema: str, seen: Checkpoint, seq: int, event_id: str) -> bool:
    """Moves a checkpoint on; False where it is not where it had been seen."""
    sql = _SQL["advance"].format(schema=schema)
    return await connection.execute(sql, seq, event_id, seen.seq, seen.version) == "UPDATE 1"


async def write(connection: Connection, schema: str, writes: Sequence[Write], *, clear: bool = False) -> None:
    """Copies new rows, and merges changes into those that are there.

    ``clear``: rows that cannot be there twice were there. The log should not tell of a second
    beginning; where it does, the last one counts, and one odd event does not stop every view.
    """
    for one in writes:
        if clear and one.clear_sql is not None:
            arguments = one.columns[: one.clear_sql.count("$")]
            await connection.execute(one.clear_sql.format(schema=schema), *arguments)
        if one.sql is None:
            records = zip(*one.columns, strict=True)
            await connection.copy_records_to_table(
                one.table, schema_name=schema, columns=one.names, records=records
            )
            continue
        answer = await connection.execute(one.sql.format(schema=schema), *one.columns)
        touched = int(answer.rpartition(" ")[2])
        if touched != one.rows:
            missing = one.rows - touched
            table = f"{schema}.{one.table}"
            _log.warning("events name rows that are not there, passing over them", table=table, rows=missing)
