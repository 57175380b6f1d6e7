"""One HTTP/1.1 request to a server on this machine: enough to ask how it is."""

import asyncio
from collections.abc import Mapping


async def request(
    method: str,
    address: tuple[str, int],
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_s: float,
) -> tuple[int, bytes]:
    """Status and body; status 0 when nobody answers in time. The connection is closed after it."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(address, _head(method, address, path, headers or {}, body) + body)
    except (OSError, ValueError, IndexError):
        return 0, b""


def _head(method: str, address: tuple[str, int], path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"host: {address[0]}:{address[1]}", "connection: close"]
    lines += [f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _exchange(address: tuple[str, int], message: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(message)
        answer = await reader.read(-1)
    finally:
        writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), content
