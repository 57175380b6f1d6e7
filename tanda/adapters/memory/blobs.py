"""The object store in memory: the same promises as over S3, for tests and for trying things out."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256 as sha256_of
from pathlib import Path

from tanda.contracts.results import BlobRef
from tanda.ports import BlobStat

#: Pieces of a stream, as the S3 adapter gives them.
PIECE_BYTES = 256 * 1024


class MemoryBlobs:
    """Objects in a dict, by key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._modified_ms: dict[str, int] = {}

    async def put(self, key: str, data: bytes | Path, *, sha256: str, content_type: str) -> BlobRef:
        content = await asyncio.to_thread(data.read_bytes) if isinstance(data, Path) else bytes(data)
        if sha256_of(content).hexdigest() != sha256:
            raise ValueError(f"the bytes for {key} do not have the digest that was given")
        self.objects[key] = content
        self._modified_ms[key] = time.time_ns() // 1_000_000
        return BlobRef(key=key, bytes=len(content), sha256=sha256)

    async def put_pack(self, key: str, data: bytes | bytearray, *, content_type: str) -> None:
        await self.put(key, bytes(data), sha256=sha256_of(data).hexdigest(), content_type=content_type)

    def upload(self, key: str, *, content_type: str) -> "MemoryUpload":
        return MemoryUpload(self, key, content_type)

    async def barrier(self) -> None:
        await asyncio.sleep(0)

    async def read(self, ref: BlobRef) -> bytes:
        await asyncio.sleep(0)
        content = self._range(ref, 0, ref.bytes)
        if len(content) != ref.bytes or sha256_of(content).hexdigest() != ref.sha256:
            raise KeyError(f"{ref.key}: damaged")
        return content

    async def fetch(self, ref: BlobRef, path: Path) -> None:
        content = await self.read(ref)
        await asyncio.to_thread(path.write_bytes, content)

    async def fetch_many(self, wanted: Sequence[tuple[BlobRef, Path]]) -> list[bool]:
        there: list[bool] = []
        for ref, path in wanted:
            try:
                await self.fetch(ref, path)
                there.append(True)
            except KeyError:
                there.append(False)
        return there

    async def stream(self, ref: BlobRef, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        content = self._range(ref, start, length)
        for offset in range(0, len(content), PIECE_BYTES):
            await asyncio.sleep(0)
            yield content[offset : offset + PIECE_BYTES]

    async def stat(self, key: str) -> BlobStat | None:
        await asyncio.sleep(0)
        content = self.objects.get(key)
        if content is None:
            return None
        return BlobStat(key=key, bytes=len(content), modified_ms=self._modified_ms.get(key, 0))

    async def copy(self, source: str, target: str) -> None:
        await asyncio.sleep(0)
        self.objects[target] = self.objects[source]
        self._modified_ms[target] = time.time_ns() // 1_000_000

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        self.objects.pop(key, None)

    async def keys(self, prefix: str) -> list[str]:
        await asyncio.sleep(0)
        return sorted(key for key in self.objects if key.startswith(prefix))

    async def stats(self, prefix: str) -> list[BlobStat]:
        found = [await self.stat(key) for key in await self.keys(prefix)]
        return [one for one in found if one is not None]

    async def ready(self) -> None:
        """Always."""

    async def close(self) -> None:
        """Nothing to close."""

    def _range(self, ref: BlobRef, start: int, length: int | None) -> bytes:
        content = self.objects.get(ref.key)
        if content is None:
            raise KeyError(f"{ref.key}: gone")
        end = ref.bytes if length is None else min(ref.bytes, start + length)
        return content[ref.offset + start : ref.offset + end]


class MemoryUpload:
    """``ports.BlobUpload``: gathers, and puts at its end."""

    def __init__(self, blobs: MemoryBlobs, key: str, content_type: str) -> None:
        self._blobs = blobs
        self._key = key
        self._content_type = content_type
        self._content = bytearray()

    @property
    def bytes_written(self) -> int:
        return len(self._content)

    @property
    def sha256(self) -> str:
        return sha256_of(self._content).hexdigest()

    async def write(self, piece: bytes) -> None:
        await asyncio.sleep(0)
        self._content += piece

    async def finish(self) -> BlobRef:
        content = bytes(self._content)
        return await self._blobs.put(self._key, content, sha256=self.sha256, content_type=self._content_type)

    async def abort(self) -> None:
        self._content.clear()
