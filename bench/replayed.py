"""Events per second of a replay into all views, beside a raw copy of their rows, and reading the log.

An event of a group counts as those of its files, which is what the views make of it.
"""

import json
import time
from io import BytesIO

import asyncpg

from bench.stack import settings
from services.projector.catalog import VIEWS
from services.projector.store import live_schema
from tanda.adapters.nats import connect
from tanda.contracts.envelope import told
from tests.running import Running

SCHEMA = "bench_copy"


async def run(stack: Running, files: int) -> dict[str, float]:
    """All in events/s: ``ours``; ``limit``, a raw COPY of the rows, and ``reading``, each with its ratio.

    ``ours`` is a rebuild, ``verifying`` the same beside the live views, which it leaves as they are.
    """
    del files
    ours, taken = replayed(stack)
    verifying, verified = replayed(stack, "--verify")
    connection = await connect(settings(stack), "bench")
    end = await connection.log.position()
    read = 0
    begun_reading = time.perf_counter()
    async for chunk in connection.log.follow(0):
        read += sum(map(told, chunk))
        if chunk[-1].seq >= end:
            break
    reading = read / (time.perf_counter() - begun_reading)
    await connection.close()
    limit = read / await raw_copy_s(stack.facts()["postgres_dsn"])
    return {
        "ours": ours, "limit": limit, "ratio": ours / limit, "reading": reading,
        "reading_ratio": ours / reading, "events": read, "whole_command_s": taken,
        "verifying": verifying, "whole_verify_s": verified,
    }  # fmt: skip


def replayed(stack: Running, *options: str) -> tuple[float, float]:
    """Events per second of filling the views, and how long the whole command took."""
    begun = time.perf_counter()
    done = stack.tanda("replay", "--all", "--json", *options)
    taken = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1])[0]["events_per_s"]), taken


async def raw_copy_s(dsn: str) -> float:
    """Seconds that the rows of all views take from memory into tables like theirs, indexes included."""
    database = await asyncpg.connect(dsn)
    taken = 0.0
    for view in VIEWS.values():
        await database.execute(f"drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}")
        rows = {table: BytesIO() for table in view.tables}
        for table, data in rows.items():
            await database.copy_from_table(
                table.name, schema_name=live_schema(view.name), columns=list(table.columns), output=data,
                format="binary",
            )  # fmt: skip
            data.seek(0)
        tables, _, indexes = view.ddl.partition("\n-- indexes\n")
        begun = time.perf_counter()
        await database.execute(f"set search_path = {SCHEMA}; {tables}")
        for table, data in rows.items():
            await database.copy_to_table(
                table.name, schema_name=SCHEMA, columns=list(table.columns), source=data, format="binary"
            )
        await database.execute(indexes or "select 1")
        taken += time.perf_counter() - begun
    await database.execute(f"drop schema {SCHEMA} cascade")
    await database.close()
    return taken
