"""Everything that a service has of NATS, behind one connection."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

import structlog

from tanda.adapters.jetstream import JetStreamLog
from tanda.adapters.jetstream_board import JetStreamBoard
from tanda.adapters.jetstream_work import JetStreamLease, JetStreamTimers, JetStreamWork
from tanda.adapters.nats_connection import ApiError, EventClient, NatsSignals, open_client, retry
from tanda.contracts.times import rfc3339
from tanda.contracts.work import Presence
from tanda.domain.errors import Unavailable
from tanda.settings import Settings

_log = structlog.get_logger("tanda.nats")

#: How long a starting service waits for JetStream, after the server itself has answered.
START_PATIENCE_S = 60.0
#: A third of what the board forgets within.
HELLO_EVERY_S = 5.0


class Connection:
    """The ports over one NATS connection."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self.client = client
        self.log = JetStreamLog(client, settings)
        self.work = JetStreamWork(client, settings)
        self.timers = JetStreamTimers(client, settings)
        self.lease = JetStreamLease(client, settings)
        self.board = JetStreamBoard(client, settings)
        self.signals = NatsSignals(client)
        self._ensuring: asyncio.Task[None] | None = None
        self._present: asyncio.Task[None] | None = None
        client.reconnected.append(self._ensure_again)

    def _ensure_again(self) -> None:
        """A server that was restarted does not know the streams that were in its memory."""
        self._ensuring = asyncio.create_task(self._ensure_quietly())

    async def _ensure_quietly(self) -> None:
        try:
            await retry(self._ensure_others, START_PATIENCE_S)
        except (Unavailable, ApiError) as error:
            _log.warning("the streams could not be looked after", error=str(error))

    async def ensure(self) -> None:
        """Creates the streams that are not there."""
        await self.log.ensure()
        await self._ensure_others()

    async def _ensure_others(self) -> None:
        """All but the log: where that is gone from a running server it is damage, never to be hidden."""
        await self.work.ensure()
        await self.timers.ensure()
        await self.lease.ensure()
        await self.board.ensure()

    def be_present(self, name: str, instance: str, processors: Mapping[str, str] | None = None) -> None:
        """Says from now on, again and again, that this service is there; a worker with what it has."""
        self._present = asyncio.create_task(self._say_hello(name, instance, dict(processors or {})))

    async def _say_hello(self, name: str, instance: str, processors: dict[str, str]) -> None:
        while True:
            with suppress(Unavailable):
                at = rfc3339(time.time_ns() // 1_000_000)
                await self.board.hello(Presence(name=name, instance=instance, at=at, processors=processors))
            await asyncio.sleep(HELLO_EVERY_S)

    async def ready(self) -> None:
        """Returns where the log answers; Unavailable where it does not."""
        if not self.client.is_connected:
            raise Unavailable("nats", "not connected")
        await self.log.position()

    async def close(self) -> None:
        for task in (self._ensuring, self._present):
            if task is not None:
                task.cancel()
        if not self.client.is_closed:
            await self.client.close()


async def connect(settings: Settings, name: str) -> Connection:
    """Connects as ``name``, waiting for the server, and sees that the streams are there."""
    connection = Connection(await open_client(settings.nats_url, name), settings)
    await retry(connection.ensure, START_PATIENCE_S)
    return connection
