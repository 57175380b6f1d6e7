"""What a replay and the processes that fill its shadows say to each other: JSON lines over a socket each."""

import asyncio
import socket

import msgspec

from tanda.settings import Settings

#: A line is some numbers, or once the settings.
LINE_BYTES_MAX = 1024 * 1024


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Where the servers are, and the schema that each view is to be filled in."""

    settings: Settings
    schemas: dict[str, str]


class Stretch(msgspec.Struct, frozen=True, tag=True):
    """Fold the events after a position through another one; write them when it is your turn."""

    after: int
    #: The id of the event at ``after``, where it is known.
    anchor: str | None
    through: int
    #: Of so many events at a time the rows are kept in memory and written.
    events_max: int


class YourTurn(msgspec.Struct, frozen=True, tag=True):
    """Everything before the stretch is written."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The process is there, with its connections."""


class Folded(msgspec.Struct, frozen=True, tag=True):
    """A stretch is folded up to its end, or as far as ``events_max`` goes."""

    seq: int
    told: int


class Written(msgspec.Struct, frozen=True, tag=True):
    """Rows and checkpoints are at a position; a stretch is done when that is its end."""

    seq: int
    told: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process ends."""

    reason: str
    log_is_damaged: bool


Order = Begin | Stretch | YourTurn
News = Ready | Folded | Written | Failed
_orders = msgspec.json.Decoder(Order)
_news = msgspec.json.Decoder(News)


class Link:
    """One end of a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def tell(self, message: Order | News) -> None:
        self._writer.write(msgspec.json.encode(message) + b"\n")
        await self._writer.drain()

    async def order(self) -> Order:
        """The next one; EOFError where the other end is gone."""
        return _orders.decode(await self._line())

    async def news(self) -> News:
        """The next one; EOFError where the other end is gone."""
        return _news.decode(await self._line())

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def close(self) -> None:
        self._writer.close()


async def link(end: socket.socket) -> Link:
    """An end of a socket, to talk over."""
    return Link(*await asyncio.open_connection(sock=end, limit=LINE_BYTES_MAX))
