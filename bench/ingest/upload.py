"""Uploads: many small files, a usual batch, and one very large file beside the store's own rate."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from secrets import token_hex

import httpx2

from bench.stack import cpu_s, peak_mb, pid_of, rss_mb, settings
from tanda.adapters.s3.client import client
from tests.running import Running

SMALL_BYTES = 10_000
USUAL_FILES = 51
USUAL_BATCHES = 100
LARGE_BYTES = int(os.environ.get("TANDA_BENCH_LARGE_BYTES", str(2 * 1024**3)))
#: What the client hands to its socket at once, as a program that uploads files does.
PIECE_BYTES = 1024**2
#: The store is given the same bytes in parts of this size, which its own client would choose here.
STORE_PART_BYTES = 16 * 1024**2
BOUNDARY = "tanda-bench"


async def run(stack: Running, files: int) -> dict[str, float]:
    """Rates, the gateway's peak memory in MB above all, and its and the store's CPU for a small file."""
    gateway, store = pid_of(stack, "gateway"), pid_of(stack, "s3")
    figures = {"before_mb": rss_mb(gateway)}
    body = small_body(files)
    cpu_before = cpu_s(gateway), cpu_s(store)
    taken, figures["small_mb"] = await peak_mb(gateway, send(stack, in_pieces(body)))
    figures["small_files_per_s"] = files / taken
    figures["gateway_us_per_file"] = (cpu_s(gateway) - cpu_before[0]) / files * 1e6
    figures["store_us_per_file"] = (cpu_s(store) - cpu_before[1]) / files * 1e6
    del body
    figures |= await usual(stack)
    taken, figures["large_mb"] = await peak_mb(gateway, send(stack, one_file(LARGE_BYTES)))
    figures["large_mb_per_s"] = LARGE_BYTES / 1e6 / taken
    figures["store_mb_per_s"] = await asyncio.to_thread(store_alone, stack, LARGE_BYTES)
    figures["large_ratio"] = figures["large_mb_per_s"] / figures["store_mb_per_s"]
    return figures


async def usual(stack: Running) -> dict[str, float]:
    """ms to the answer of batches of 51 files, one after the other."""
    taken: list[float] = []
    for _ in range(USUAL_BATCHES):
        taken.append(1000 * await send(stack, in_pieces(small_body(USUAL_FILES))))
    taken.sort()
    return {"usual_p50_ms": taken[len(taken) // 2], "usual_p99_ms": taken[int(len(taken) * 0.99)]}


def store_alone(stack: Running, size: int) -> float:
    """MB/s of the object store's own client for an object of this size, three parts at a time."""
    own = settings(stack)
    store = client(own, read_s=300, connections=4)
    key = f"bench/{token_hex(8)}"
    begun = time.perf_counter()
    store.put_object(own.s3_bucket, key, _Zeros(), size, part_size=STORE_PART_BYTES, num_parallel_uploads=3)  # pyright: ignore[reportArgumentType]
    taken = time.perf_counter() - begun
    store.remove_object(own.s3_bucket, key)
    return size / 1e6 / taken


class _Zeros:
    """A file of nothing, as long as it is asked for."""

    def read(self, size: int) -> bytes:
        return bytes(size)


async def send(stack: Running, body: AsyncIterator[bytes]) -> float:
    """Seconds until the answer: the files are durable and queued."""
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    async with httpx2.AsyncClient(base_url=stack.url, timeout=600) as http:
        begun = time.perf_counter()
        response = await http.post("/v1/batches", content=body, headers=headers)
        assert response.status_code == 201, response.text
        return time.perf_counter() - begun


def small_body(count: int) -> bytes:
    """A form of small files, each with bytes of its own."""
    chance = os.urandom(SMALL_BYTES)
    parts = [field("processor", "noop")]
    for index in range(count):
        own = sha256(chance + index.to_bytes(4, "big")).digest()
        parts += [head(f"{index:06d}.bin"), own, chance[len(own) :], b"\r\n"]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


async def one_file(size: int) -> AsyncIterator[bytes]:
    yield field("processor", "noop") + head("large.bin")
    for start in range(0, size, PIECE_BYTES):
        yield bytes(min(PIECE_BYTES, size - start))
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def field(name: str, value: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def head(name: str) -> bytes:
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
