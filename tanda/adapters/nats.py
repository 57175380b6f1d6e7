"""Everything that a service has of NATS, behind one connection."""

from tanda.adapters.jetstream import JetStreamLog
from tanda.adapters.jetstream_work import JetStreamLease, JetStreamTimers, JetStreamWork
from tanda.adapters.nats_connection import EventClient, NatsSignals, open_client, retry
from tanda.domain.errors import Unavailable
from tanda.settings import Settings

#: How long a starting service waits for JetStream, after the server itself has answered.
START_PATIENCE_S = 60.0


class Connection:
    """The ports over one NATS connection."""

    def __init__(self, client: EventClient, settings: Settings) -> None:
        self.client = client
        self.log = JetStreamLog(client, settings)
        self.work = JetStreamWork(client, settings)
        self.timers = JetStreamTimers(client, settings)
        self.lease = JetStreamLease(client, settings)
        self.signals = NatsSignals(client)

    async def ensure(self) -> None:
        """Creates the streams that are not there: all at the start, those in memory after a restart."""
        await self.log.ensure()
        await self.work.ensure()
        await self.timers.ensure()
        await self.lease.ensure()

    async def ready(self) -> None:
        """Returns where the log answers; Unavailable where it does not."""
        if not self.client.is_connected:
            raise Unavailable("nats", "not connected")
        await self.log.position()

    async def close(self) -> None:
        if not self.client.is_closed:
            await self.client.close()


async def connect(settings: Settings, name: str) -> Connection:
    """Connects as ``name``, waiting for the server, and sees that the streams are there."""
    connection = Connection(await open_client(settings.nats_url, name), settings)
    await retry(connection.ensure, START_PATIENCE_S)
    return connection
