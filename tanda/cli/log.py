"""``tanda log``: the events themselves, as CloudEvents, one a line; the whole log into a file and back."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from cyclopts import Parameter

from tanda.adapters.jetstream_raw import JetStreamRawLog
from tanda.adapters.nats import Connection, connect
from tanda.adapters.s3 import S3Blobs
from tanda.archive.exchange import from_line, to_line
from tanda.archive.log_archive import LogArchive
from tanda.archive.records import RawRecord
from tanda.cli.target import Failed, Target
from tanda.contracts.codec import encode
from tanda.contracts.envelope import Recorded, to_cloudevent
from tanda.domain.errors import TandaError

HERE = Target()
#: Events that are read from a file and written together.
IMPORT_EVENTS = 1_000


def log(
    action: Literal["export", "import"] | None = None,
    file: Path | None = None,
    /,
    *,
    batch: str | None = None,
    start: Annotated[int, Parameter(name="--from")] = 1,
    follow: Annotated[bool, Parameter(negative="")] = False,
    target: Target = HERE,
) -> None:
    """Print the events of the log as NDJSON CloudEvents, or write all of them to a file, or read one.

    Args:
        action: export writes FILE; import fills an empty log from FILE, at the same positions.
        file: For export and import.
        batch: Only those of one batch.
        start: The first log position.
        follow: Go on with new events as they come.
    """
    if (action is None) != (file is None):
        raise Failed("it is `tanda log`, `tanda log export FILE` or `tanda log import FILE`")
    if start < 1:
        raise Failed("--from is a log position, from 1")
    if action and (batch or follow or (action == "import" and start > 1)):
        raise Failed(f"`tanda log {action}` is of the whole log: --batch and --follow are not for it")
    if action == "export" and file is not None:
        asyncio.run(_export(file, start - 1, target))
    elif action == "import" and file is not None:
        asyncio.run(_import(file, target))
    else:
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


async def _export(file: Path, after: int, target: Target) -> None:
    """Written under another name first: a file of that name is always a whole one."""
    settings = target.settings()
    connection = await connect(settings, "tanda-log")
    draft = file.with_name(f".{file.name}.part")
    written = 0
    try:
        with draft.open("wb") as out:
            async for records in JetStreamRawLog(connection.client, settings).read(after):
                out.write(b"".join(to_line(one) + b"\n" for one in records))
                written += len(records)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
        await connection.close()
    print(f"{file}: {written} events", file=sys.stderr)


async def _import(file: Path, target: Target) -> None:
    """Looks at the whole file before it writes the first event."""
    settings = target.settings()
    connection = await connect(settings, "tanda-log")
    blobs = S3Blobs(settings)
    raw = JetStreamRawLog(connection.client, settings)
    try:
        if last := (await raw.facts()).last:
            raise Failed(f"the log is not empty, it ends at {last}: only an empty log takes a file")
        if archived := (await LogArchive(blobs).chain()).last:
            raise Failed(
                f"the log's archive has {archived} events: `tanda replay --from-archive` restores them"
            )
        total = sum(len(records) for records in _records(file))
        for records in _records(file):
            await raw.write(records)
        found = await raw.facts()
        if found.last != total or not found.gapless:
            raise Failed(f"the log ends at {found.last}, the file at {total}: somebody else writes")
    except TandaError as error:
        raise Failed(str(error)) from error
    finally:
        await blobs.close()
        await connection.close()
    print(f"{total} events are in the log, positions 1 to {total}", file=sys.stderr)


def _records(file: Path) -> Iterator[list[RawRecord]]:
    """A file's events in portions, checked: every line is an event, and positions are 1, 2, 3 …"""
    with file.open("rb") as lines:
        expected = 1
        while portion := list(islice(_lines(file, lines, expected), IMPORT_EVENTS)):
            expected += len(portion)
            yield portion


def _lines(file: Path, lines: BinaryIO, expected: int) -> Iterator[RawRecord]:
    for number, line in enumerate(lines, expected):
        try:
            record = from_line(line)
        except ValueError as error:
            raise Failed(f"{file}, line {number}: no event ({error})") from error
        if record.seq != number:
            raise Failed(f"{file}, line {number}: the position is {record.seq}; a whole log begins with 1")
        yield record
