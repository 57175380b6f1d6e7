"""An outside provider on loopback: it answers as its script says, and notes each call."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Seen:
    """One call as it came in."""

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
                status, headers, body = answer
                lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Seen | None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = await self._chunks(reader)
        return Seen(headers, body, time.time())

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body


@asynccontextmanager
async def provider(answer: Callable[[Seen], Answer | None], **given: Any) -> AsyncIterator[Provider]:
    """A provider on a free port."""
    one = Provider(answer, **given)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jobs"
    try:
        yield one
    finally:
        server.close()
