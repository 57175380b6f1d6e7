"""The object store over S3: verified writes, checked reads, bounded patience.

The minio SDK is synchronous and runs in threads (measured: 1,300 PUTs/s and 1,700 GETs/s of 10 kB
with 16 of them). Every failure of the server becomes ``Unavailable`` after ``patience_s`` of retries;
an object that is gone, or is not what it was, is a ``KeyError`` that says which.

Bytes and files up to 8 MB are single PUTs, and larger files go in parts (see ``upload``). An upload in parts
whose completion was asked for is never aborted: on SeaweedFS that destroyed the completed object (its issue
10663).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from tanda.adapters.s3.daemon_pool import DaemonPool
from tanda.adapters.s3.group_sync import GroupSync, sync_filesystem
from tanda.adapters.s3.objects import PIECE_BYTES, Damaged, Objects, WrongDigest, release
from tanda.adapters.s3.spans import spans
from tanda.adapters.s3.upload import PARTS_AT_ONCE, S3Upload
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable
from tanda.ports import BlobStat
from tanda.settings import Settings

T = TypeVar("T")

#: A file beyond it is put in parts, so that memory does not grow with it.
SINGLE_PUT_BYTES_MAX = 8 * 1024**2

#: Where the SDK's throughput stops growing with threads.
_THREADS = 16
#: A put of more than this holds its bytes, or a part of them, in memory: only a few at once.
_LARGE_BYTES = 4 * 1024**2
_LARGE_PUTS_MAX = 3
_BACKOFF_S = 0.05
_BACKOFF_MAX_S = 1.0
_GONE = frozenset({"NoSuchKey", "NoSuchVersion", "ResourceNotFound"})
#: 4xx codes that mean "again, later".
_LATER = frozenset(
    {"SlowDown", "RequestTimeout", "TooManyRequests", "OperationAborted", "NoSuchUpload", "BadDigest"}
)


class S3Blobs:
    """``ports.Blobs`` over any S3 server."""

    def __init__(self, settings: Settings) -> None:
        self._patience_s = settings.patience_s
        self._objects = Objects(settings, connections=4 * _THREADS)  # streams keep theirs between two pieces
        self._parts = asyncio.Semaphore(PARTS_AT_ONCE)
        self._threads = DaemonPool("s3", _THREADS)
        self._large = asyncio.Semaphore(_LARGE_PUTS_MAX)
        self._sync = GroupSync(partial(sync_filesystem, settings.s3_sync_dir))
        self._has_sync = bool(settings.s3_sync_dir)

    # -- writing

    async def put(self, key: str, data: bytes | Path, *, sha256: str, content_type: str) -> BlobRef:
        length = len(data) if isinstance(data, bytes) else (await asyncio.to_thread(data.stat)).st_size
        ref = BlobRef(key=key, bytes=length, sha256=sha256)
        if isinstance(data, Path) and length > SINGLE_PUT_BYTES_MAX:
            return await self._put_parts(ref, data, content_type)
        async with self._large if length > _LARGE_BYTES else nullcontext():
            await self._call(lambda: self._objects.put(ref, data, content_type))
        return ref

    async def put_pack(self, key: str, data: bytes | bytearray, *, content_type: str) -> None:
        async with self._large if len(data) > _LARGE_BYTES else nullcontext():
            await self._call(lambda: self._objects.put_bytes(key, data, content_type))

    def upload(self, key: str, *, content_type: str) -> S3Upload:
        return S3Upload(self._objects, self._call, self._parts, key, content_type)

    async def _put_parts(self, ref: BlobRef, path: Path, content_type: str) -> BlobRef:
        upload = self.upload(ref.key, content_type=content_type)
        try:
            with path.open("rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    await upload.write(piece)
            if upload.sha256 != ref.sha256:
                raise WrongDigest(ref.key)
            return await upload.finish()
        except BaseException:
            await upload.abort()
            raise

    async def drop_unfinished(self, older_than_s: float) -> int:
        """Drops the parts of uploads that a killed process has left; how many uploads there were.

        Only where there is no object of that key: see the module's docstring.
        """
        dropped = 0
        for key, upload_id, begun in await self._call(self._objects.unfinished):
            if time.time() - begun.timestamp() > older_than_s and await self.stat(key) is None:
                await self._call(partial(self._objects.give_up, key, upload_id))
                dropped += 1
        return dropped

    async def barrier(self) -> None:
        if not self._has_sync:
            return
        try:
            await self._sync.wait()
        except OSError as error:
            raise Unavailable("s3", f"the store's folder could not be synced: {error}") from error

    async def copy(self, source: str, target: str) -> None:
        await self._call(lambda: self._objects.copy(source, target))

    async def delete(self, key: str) -> None:
        try:
            await self._call(lambda: self._objects.delete(key))
        except KeyError:
            return

    # -- reading

    async def read(self, ref: BlobRef) -> bytes:
        def read() -> bytes:
            content = BytesIO()
            self._objects.read(ref, content)
            return content.getvalue()

        return await self._call(read)

    async def fetch(self, ref: BlobRef, path: Path) -> None:
        def fetch() -> None:
            try:
                with path.open("wb") as file:
                    self._objects.read(ref, file)
            except BaseException:
                path.unlink(missing_ok=True)
                raise

        await self._call(fetch)

    async def fetch_many(self, wanted: Sequence[tuple[BlobRef, Path]]) -> list[bool]:
        there = [False] * len(wanted)

        async def fetch(indices: list[int]) -> None:
            taken = await self._fetch_span([wanted[index] for index in indices])
            for index, found in zip(indices, taken, strict=True):
                there[index] = found or await self._found(*wanted[index])

        await asyncio.gather(*(fetch(span) for span in spans([ref for ref, _ in wanted])))
        return there

    async def _found(self, ref: BlobRef, path: Path) -> bool:
        try:
            await self.fetch(ref, path)
        except KeyError:
            return False
        return True

    async def _fetch_span(self, wanted: Sequence[tuple[BlobRef, Path]]) -> list[bool]:
        """By one request; False for what did not come as it should, so that it is asked for alone."""
        first = wanted[0][0].offset
        length = max(ref.offset + ref.bytes for ref, _ in wanted) - first

        def fetch() -> list[bool]:
            response = self._objects.open(wanted[0][0].key, first, length)
            try:
                data = response.read(length)
            finally:
                release(response)
            return [_write_part(data, ref.offset - first, ref, path) for ref, path in wanted]

        if len(wanted) == 1 or not length:
            return [False] * len(wanted)
        try:
            return await self._call(fetch)
        except KeyError:
            return [False] * len(wanted)

    async def stream(self, ref: BlobRef, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        left = ref.bytes - start if length is None else min(length, ref.bytes - start)
        if left <= 0:
            return
        first = ref.offset + start
        response = await self._call(lambda: self._objects.open(ref.key, first, left))
        try:
            while left > 0:
                piece = await self._piece(response, min(PIECE_BYTES, left))
                if not piece:
                    raise KeyError(f"{ref.key}: damaged, it is shorter than it was")
                left -= len(piece)
                yield piece
        finally:
            # In a thread: a read that was cancelled may still be at it.
            self._threads.submit(partial(release, response))

    async def stat(self, key: str) -> BlobStat | None:
        try:
            found = await self._call(lambda: self._objects.stat(key))
        except KeyError:
            return None
        return BlobStat(key=key, bytes=found.size or 0, modified_ms=_milliseconds(found.last_modified))

    async def keys(self, prefix: str) -> list[str]:
        def names() -> list[str]:
            found = self._objects.below(prefix)
            return sorted(one.object_name for one in found if one.object_name and not one.is_dir)

        return await self._call(names)

    async def stats(self, prefix: str) -> list[BlobStat]:
        def found() -> list[BlobStat]:
            listed = self._objects.below(prefix)
            files = [one for one in listed if one.object_name and not one.is_dir]
            return [_listed(one.object_name or "", one.size, one.last_modified) for one in files]

        return sorted(await self._call(found), key=lambda one: one.key)

    # -- being there

    async def ready(self) -> None:
        """Makes sure of the bucket, in one attempt; Unavailable where the store does not serve."""
        await self._call(self._objects.ensure_bucket, patience_s=0.0)

    async def close(self) -> None:
        """Lets go of the connections; requests that are under way are left to themselves."""
        self._threads.close()
        await asyncio.sleep(0)

    # -- patience

    async def _piece(self, response: BaseHTTPResponse, length: int) -> bytes:
        try:
            return await self._threads.run(partial(response.read, length))
        except HTTPError as error:
            raise Unavailable("s3", f"the store stopped in the middle of an object: {error}") from error

    async def _call(self, attempt: Callable[[], T], patience_s: float | None = None) -> T:
        """Repeats an attempt while the server fails; see the module's docstring for what it raises."""
        deadline = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        pause_s = _BACKOFF_S
        damaged = 0
        while True:
            try:
                return await self._threads.run(attempt)
            except Damaged as error:
                damaged += 1
                if damaged == 2:
                    raise KeyError(f"{error}: damaged, its bytes are not those of its digest") from error
            except (HTTPError, MinioException, ParseError) as error:
                await self._judge(error)
                if time.monotonic() + pause_s >= deadline:
                    raise Unavailable("s3", str(error)) from error
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            pause_s = min(pause_s * 2, _BACKOFF_MAX_S)

    async def _judge(self, error: Exception) -> None:
        """Raises what no repetition would change."""
        if not isinstance(error, S3Error):
            if isinstance(error, InvalidResponseError) and "code: 416" in str(error):
                raise KeyError(f"damaged, it is shorter than it was: {error}") from error
            return
        if error.code in _GONE:
            raise KeyError(f"{error.object_name}: gone") from error
        if error.code == "InvalidRange":
            raise KeyError(f"{error.object_name}: damaged, it is shorter than it was") from error
        if error.code == "NoSuchBucket":
            await self.ready()
        elif error.response.status < 500 and error.code not in _LATER:
            raise Unavailable("s3", f"{error.code}: {error.message}") from error


def _write_part(data: bytes, start: int, ref: BlobRef, path: Path) -> bool:
    part = data[start : start + ref.bytes]
    if sha256(part).hexdigest() != ref.sha256:
        return False
    path.write_bytes(part)
    return True


def _listed(key: str, size: int | None, modified: datetime | None) -> BlobStat:
    return BlobStat(key=key, bytes=size or 0, modified_ms=_milliseconds(modified))


def _milliseconds(moment: datetime | None) -> int:
    """A listing tells thousandths and a single object does not: neither does this."""
    return 0 if moment is None else int(moment.timestamp()) * 1000
