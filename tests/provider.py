"""An outside provider on loopback: it answers as its script says, and notes each call."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

#: A body that comes in pieces is streamed; ConnectionError instead of a piece breaks it off.
Answer = tuple[int, dict[str, str], bytes | AsyncIterator[bytes]]


@dataclass
class Seen:
    """One call as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    #: Seconds since the epoch.
    at: float


@dataclass
class Provider:
    """``answer`` gets the call and gives status, headers and body; None breaks the connection."""

    answer: Callable[[Seen], Answer | None]
    #: How long each call takes.
    work_s: float = 0.0
    calls: list[Seen] = field(default_factory=list)
    #: Where it is, and an endpoint of it.
    base: str = ""
    url: str = ""
    at_once: int = 0
    at_once_most: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (seen := await self._read(reader)) is not None:
                self.at_once += 1
                self.at_once_most = max(self.at_once_most, self.at_once)
                try:
                    self.calls.append(seen)
                    await asyncio.sleep(self.work_s)
                    answer = self.answer(seen)
                finally:
                    self.at_once -= 1
                if answer is None:
                    return
                await self._write(writer, answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        status, headers, body = answer
        is_whole = isinstance(body, bytes)
        length = f"Content-Length: {len(body)}" if is_whole else "Transfer-Encoding: chunked"
        lines = [f"HTTP/1.1 {status} X", length]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if is_whole:
            writer.write(body)
        else:
            async for piece in body:
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> Seen | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = await self._chunks(reader)
        return Seen(first.split(" ")[1], headers, body, time.time())

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body


@asynccontextmanager
async def provider(answer: Callable[[Seen], Answer | None], **given: Any) -> AsyncIterator[Provider]:
    """A provider on a free port."""
    one = Provider(answer, **given)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    one.url = f"{one.base}/jobs"
    try:
        yield one
    finally:
        server.close()
