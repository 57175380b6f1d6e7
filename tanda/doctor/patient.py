"""What is examined: the servers of one installation, and what runs on them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec

from tanda.adapters.jetstream_raw import JetStreamRawLog
from tanda.adapters.nats import Connection
from tanda.adapters.nats_connection import EventClient, open_client
from tanda.adapters.postgres import open_pool
from tanda.adapters.s3 import S3Blobs
from tanda.archive.exchange import recorded_of
from tanda.archive.log_archive import LogArchive
from tanda.archive.records import LogFacts
from tanda.doctor.inventory import PREFIX, Inventory
from tanda.domain.errors import Unavailable
from tanda.ports import BlobStat
from tanda.settings import Settings

CONNECT_S_MAX = 30.0

#: The projector's replay with these arguments: its exit code, what it said, and its errors.
Replay = Callable[..., Awaitable[tuple[int, str, str]]]


class Holdings(msgspec.Struct, frozen=True):
    """The objects as they were listed, and what the log, read after that, says of them."""

    there: list[BlobStat]
    inventory: Inventory


class Patient:
    """The connections; whatever is made of them is made by the checks."""

    def __init__(
        self, settings: Settings, client: EventClient, pool: asyncpg.Pool, replay: Replay,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.connection = Connection(client, settings)
        self.pool = pool
        self.replay = replay
        self.blobs = S3Blobs(settings)
        self.raw = JetStreamRawLog(client, settings)
        self.archive = LogArchive(self.blobs)
        self.spool = Path(settings.data) / "spool" / "doctor"
        self._clock = clock

    @property
    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def running(self) -> list[str]:
        """The names of the services that have said hello within seconds."""
        await self.connection.board.ensure()
        return sorted({one.name for one in await self.connection.board.services()})

    async def facts(self) -> LogFacts:
        return await self.raw.facts()

    async def holdings(self) -> Holdings:
        """Objects first, then the log: what is put and told meanwhile is in neither or in the log."""
        there = await self.blobs.stats(PREFIX)
        inventory = Inventory()
        if (await self.facts()).last:
            async for records in self.raw.read(0):
                for one in records:
                    inventory.apply(recorded_of(one), one.data)
        return Holdings(there, inventory)


@asynccontextmanager
async def patient(settings: Settings, replay: Replay) -> AsyncGenerator[Patient]:
    """Connected, without making anything: a log that is gone must be seen to be gone."""
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            client = await open_client(settings.nats_url, "tanda-doctor")
    except TimeoutError as error:
        raise Unavailable("nats", f"no answer within {CONNECT_S_MAX:.0f} s") from error
    pool = await open_pool(settings, "tanda-doctor")
    one = Patient(settings, client, pool, replay)
    try:
        yield one
    finally:
        await one.blobs.close()
        pool.terminate()
        await client.close()
