"""The network cuts NATS's stream anywhere; each message reaches its reader whole."""

from typing import Any

import pytest

from tanda.adapters.nats_connection import EventClient, Frame

HEADERS = b"NATS/1.0\r\nce-id: evt_1\r\n\r\n"
STREAM = b"".join(
    [
        b"HMSG ev.a.b.c 1 $JS.ACK.x %d %d\r\n%bhola\r\n" % (len(HEADERS), len(HEADERS) + 4, HEADERS),
        b"PING\r\n",
        b"MSG signal.view.files 2 2\r\n42\r\n",
        b"+OK\r\n",
        b"HMSG ev.a.b.d 1 %d %d\r\n%b\r\n\r\n" % (len(HEADERS), len(HEADERS) + 2, HEADERS),
        b"",
        b"MSG _INBOX.x 1 11\r\nMSG a 1 1\r\n\r\n",
        b"INFO {}\r\n",
    ]
)
FRAMES = [
    Frame("ev.a.b.c", "$JS.ACK.x", HEADERS, b"hola"),
    Frame("ev.a.b.d", "", HEADERS, b"\r\n"),
    Frame("_INBOX.x", "", b"", b"MSG a 1 1\r\n"),
]


class Seen(EventClient):
    """Notes what reaches nats-py itself."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.frames: list[Frame] = []
        self._listeners[1] = self.frames.append

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.told.append((sid, data))

    async def _process_ping(self) -> None:
        self.told.append("ping")

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        self.told.append(info)


@pytest.mark.parametrize("piece", [*range(1, 40), len(STREAM)])
async def test_messages_come_whole_however_the_stream_is_cut(piece: int) -> None:
    """Listeners get theirs in order and as they were sent; everything else is nats-py's, once."""
    client = Seen()
    for at in range(0, len(STREAM), piece):
        await client._ps.parse(STREAM[at : at + piece])
    assert client.frames == FRAMES
    assert client.told == ["ping", (2, b"42"), {}]
