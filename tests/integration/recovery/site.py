"""Servers of a test's own, a log with its archive on them, and ways to damage it."""

import os
import signal
import sys
from asyncio import create_subprocess_exec, wait_for
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tanda.adapters.jetstream_raw import JetStreamRawLog
from tanda.adapters.memory import MemoryLog
from tanda.adapters.nats import Connection, connect
from tanda.adapters.s3 import S3Blobs
from tanda.archive.exchange import from_line
from tanda.archive.log_archive import ArchiveWriter, LogArchive
from tanda.archive.records import RawRecord
from tanda.contracts.codec import encode
from tanda.contracts.envelope import to_cloudevent
from tanda.embedded import Servers
from tanda.settings import Settings
from tests.builders import RandomBatches

COMMAND_S_MAX = 90.0


class Site:
    """A log, its archive, and everything that a test does to them."""

    def __init__(self, servers: Servers, settings: Settings, connection: Connection) -> None:
        self.servers = servers
        self.settings = settings
        self.connection = connection
        self.blobs = S3Blobs(settings)
        self.raw = JetStreamRawLog(connection.client, settings)
        self.archive = LogArchive(self.blobs)

    async def events(self, number: int, seed: int = 1) -> None:
        """Appends about so many events of random batches, written a thousand at a time."""
        told = MemoryLog()
        await RandomBatches(told, seed, batches_max=20, files_max=40).run(number)
        after = (await self.raw.facts()).last
        async for chunk in told.read():
            records = [from_line(encode(to_cloudevent(one))) for one in chunk]
            await self.raw.write([msgspec.structs.replace(one, seq=after + one.seq) for one in records])

    async def archive_all(self) -> ArchiveWriter:
        writer = ArchiveWriter(self.raw, self.archive)
        await writer.begin()
        await writer.advance_to_end()
        return writer

    async def records(self) -> list[RawRecord]:
        return [one async for chunk in self.raw.read(0) for one in chunk]

    async def empty(self) -> None:
        """A log without events, a bucket without an archive, and nobody who has said hello."""
        await self.raw.recreate()
        await self.connection.client.jetstream().purge_stream("STATUS")
        for prefix in ("log/", "snapshots/", "t/"):
            for key in await self.blobs.keys(prefix):
                await self.blobs.delete(key)

    async def kill_nats(self) -> None:
        os.kill(self.servers.nats.pid, signal.SIGKILL)
        await self.servers.nats.exited()

    def blocks(self) -> list[Path]:
        """The files that the log is in."""
        return sorted((self.servers.nats.folder.path / "nats").rglob("streams/EVENTS/msgs/*.blk"))

    async def flip_byte(self, at: float) -> None:
        """One bit in the log's last file, at a fraction of its length, after kill -9; then a restart."""
        await self.kill_nats()
        block = self.blocks()[-1]
        content = bytearray(block.read_bytes())
        content[int(len(content) * at)] ^= 1
        block.write_bytes(content)
        for index in block.parent.glob("index.db"):
            index.unlink()
        await self.servers.nats.start()
        await self.connection.ensure()

    async def command(self, *arguments: str) -> tuple[int | None, str, str]:
        """``python -m …`` on these servers."""
        env = {**os.environ, **self.servers.env, "TANDA_POSTGRES_DSN": self.settings.postgres_dsn,
               "TANDA_DATA": self.settings.data}  # fmt: skip
        process = await create_subprocess_exec(
            sys.executable, "-m", *arguments, env=env, stdout=PIPE, stderr=PIPE
        )
        out, err = await wait_for(process.communicate(), COMMAND_S_MAX)
        return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def site(servers: Servers, settings: Settings) -> AsyncGenerator[Site]:
    """A site with nothing in it."""
    connection = await connect(settings, "test")
    one = Site(servers, msgspec.structs.replace(settings), connection)
    try:
        await one.empty()
        yield one
    finally:
        await one.blobs.close()
        await connection.close()
