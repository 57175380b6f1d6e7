"""A TCP proxy in front of each server, whose connections can be cut in every way a network does it."""

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Mode = Literal["open", "reset", "blackhole", "half-open", "slow"]

CUTS: tuple[Mode, ...] = ("reset", "blackhole", "half-open", "slow")
CHUNK_BYTES = 64 * 1024
SLOW_BYTES_PER_S = 5_000
SLOW_CHUNK_BYTES = 500
#: Closing with this sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """One door. Reset: every connection dies and no new one lives. Blackhole: nothing passes, nobody is told.

    Half-open: what the client says passes, what the server answers does not. Slow: 5 kB/s each way.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._mode: Mode = "open"
        self._passable = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._passable.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        assert self._server
        self._server.close()
        self._reset_all()

    def cut(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "reset":
            self._reset_all()
        if mode in ("blackhole", "half-open"):
            self._passable.clear()
        else:
            self._passable.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        back: asyncio.StreamWriter | None = None
        try:
            if self._mode == "reset":
                return
            await self._pass(answer=False)
            source, back = await asyncio.open_connection("127.0.0.1", self._target())
            self._writers.add(back)
            ways = (self._pump(reader, back, answer=False), self._pump(source, writer, answer=True))
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass
        finally:
            for one in (writer, back):
                if one is not None:
                    self._writers.discard(one)
                    reset(one)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(SLOW_CHUNK_BYTES if self._mode == "slow" else CHUNK_BYTES):
                await self._pass(answer=answer)
                if self._mode == "slow":
                    await asyncio.sleep(len(data) / SLOW_BYTES_PER_S)
                writer.write(data)
                await writer.drain()

    async def _pass(self, *, answer: bool) -> None:
        while self._mode == "blackhole" or (self._mode == "half-open" and answer):
            await self._passable.wait()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection as a crash does: by RST, with whatever was under way."""
    raw: socket.socket | None = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


class Proxies:
    """One for each server of a stack, which says in its folder where its servers are.

    They have a thread of their own: whoever waits for the stack must not stand in its way.
    """

    def __init__(self, data: Path) -> None:
        def target(name: str) -> Callable[[], int]:
            return lambda: json.loads((data / "ports.json").read_text())[name][0]

        self._proxies = {name: Proxy(target(name)) for name in ("nats", "postgres", "s3")}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        for proxy in self._proxies.values():
            asyncio.run_coroutine_threadsafe(proxy.start(), self._loop).result()

    def stop(self) -> None:
        for proxy in self._proxies.values():
            self._loop.call_soon_threadsafe(proxy.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self, name: str, mode: Mode) -> None:
        self._loop.call_soon_threadsafe(self._proxies[name].cut, mode)

    def ports(self) -> dict[str, int]:
        return {name: proxy.port for name, proxy in self._proxies.items()}
