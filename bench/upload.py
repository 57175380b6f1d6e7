"""The gateway's memory while much is uploaded: many small files, and one very large one."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import httpx2

from tests.running import Running

SMALL_BYTES = 10_000
LARGE_BYTES = int(os.environ.get("TANDA_BENCH_LARGE_BYTES", str(2 * 1024**3)))
PIECE = bytes(256 * 1024)
BOUNDARY = "tanda-bench"


async def run(stack: Running, files: int) -> dict[str, float]:
    """Peak memory of the gateway in MB, above all and for each upload, and the rates."""
    pid = stack.facts()["pids"]["gateway"][0]
    before = rss_mb(pid)
    small_s, small_mb = await watched(pid, send(stack, small_files(files)))
    large_s, large_mb = await watched(pid, send(stack, one_file(LARGE_BYTES)))
    return {
        "before_mb": before, "small_mb": small_mb, "large_mb": large_mb,
        "small_files_per_s": files / small_s, "large_mb_per_s": LARGE_BYTES / 1e6 / large_s,
    }  # fmt: skip


async def watched(pid: int, upload: Coroutine[Any, Any, None]) -> tuple[float, float]:
    """Seconds and peak MB of an upload."""
    peak = 0.0
    begun = time.perf_counter()
    task = asyncio.create_task(upload)
    while not task.done():
        peak = max(peak, rss_mb(pid))
        await asyncio.wait([task], timeout=0.05)
    await task
    return time.perf_counter() - begun, peak


async def send(stack: Running, body: AsyncIterator[bytes]) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    async with httpx2.AsyncClient(base_url=stack.url, timeout=600) as http:
        response = await http.post("/v1/batches", content=body, headers=headers)
        assert response.status_code == 201, response.text


async def small_files(count: int) -> AsyncIterator[bytes]:
    yield field("processor", "noop")
    for index in range(count):
        yield head(f"{index:06d}.bin") + os.urandom(SMALL_BYTES) + b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


async def one_file(size: int) -> AsyncIterator[bytes]:
    yield field("processor", "noop")
    yield head("large.bin")
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def field(name: str, value: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def head(name: str) -> bytes:
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
