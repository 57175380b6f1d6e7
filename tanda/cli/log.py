"""``tanda log``: the events themselves, as CloudEvents, one a line."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Annotated

from cyclopts import Parameter

from tanda.adapters.nats import Connection, connect
from tanda.cli.target import Target
from tanda.contracts.codec import encode
from tanda.contracts.envelope import Recorded, to_cloudevent

HERE = Target()


def log(
    *,
    batch: str | None = None,
    start: Annotated[int, Parameter(name="--from")] = 1,
    follow: Annotated[bool, Parameter(negative="")] = False,
    target: Target = HERE,
) -> None:
    """Print the events of the log as NDJSON CloudEvents.

    Args:
        batch: Only those of one batch.
        start: The first log position.
        follow: Go on with new events as they come.
    """
    asyncio.run(_print(batch, start - 1, follow, target))


async def _print(batch: str | None, after: int, follow: bool, target: Target) -> None:
    connection = await connect(target.settings(), "tanda-log")
    try:
        async for chunk in _chunks(connection, batch, after, follow):
            for record in chunk:
                if batch in (None, record.batch_id):
                    sys.stdout.buffer.write(encode(to_cloudevent(record)) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        await connection.close()


def _chunks(
    connection: Connection, batch: str | None, after: int, follow: bool
) -> AsyncIterator[list[Recorded]]:
    if follow:
        return connection.log.follow(after)
    return connection.log.read(f"ev.*.{batch}.>" if batch else "ev.>", after=after)
