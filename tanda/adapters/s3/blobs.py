"""The object store over S3: verified writes, checked reads, bounded patience.

The minio SDK is synchronous and runs in threads (measured: 1,300 PUTs/s and 1,700 GETs/s of 10 kB
with 16 of them). Every failure of the server becomes ``Unavailable`` after ``patience_s`` of retries;
an object that is gone, or is not what it was, is a ``KeyError`` that says which.

Objects up to 64 MB are single PUTs and larger ones multipart uploads. Left-over multipart uploads are
never aborted here: on SeaweedFS that destroyed the completed object (its issue 10663).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing, nullcontext
from datetime import datetime
from functools import partial
from hashlib import md5
from hashlib import sha256 as sha256_of
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import InvalidResponseError, MinioException, S3Error
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from tanda.adapters.s3.daemon_pool import DaemonPool
from tanda.adapters.s3.group_sync import GroupSync, sync_filesystem
from tanda.adapters.s3.spans import spans
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable
from tanda.ports import BlobStat
from tanda.settings import Settings

T = TypeVar("T")

#: Beyond it an upload is multipart (SeaweedFS's multipart has had its bugs; a single PUT has not).
SINGLE_PUT_BYTES_MAX = 64 * 1024**2
PART_BYTES = 16 * 1024**2
#: Pieces of a stream.
PIECE_BYTES = 256 * 1024

#: Where the SDK's throughput stops growing with threads.
_THREADS = 16
#: A put of more than this holds its bytes, or a part of them, in memory: only a few at once.
_LARGE_BYTES = 4 * 1024**2
_LARGE_PUTS_MAX = 3
#: S3's smallest part, which the SDK also asks for where there is only one.
_PART_BYTES_MIN = 5 * 1024**2
_CONNECT_S = 2.0
#: Copies and the completion of a multipart upload answer only when the server has moved the bytes.
_SLOW_READ_S = 300.0
_BACKOFF_S = 0.05
_BACKOFF_MAX_S = 1.0
_GONE = frozenset({"NoSuchKey", "NoSuchVersion", "ResourceNotFound"})
#: 4xx codes that mean "again, later".
_LATER = frozenset({"SlowDown", "RequestTimeout", "TooManyRequests", "OperationAborted", "NoSuchUpload"})


class _Damaged(Exception):
    """Bytes came that are not those that were stored; once may be the wire, twice is the store."""


class _Client(Minio):
    """The SDK, which aborts a multipart upload by itself when it fails: see the module's docstring."""

    def _abort_multipart_upload(self, bucket_name: str, object_name: str, upload_id: str) -> None:
        pass


class S3Blobs:
    """``ports.Blobs`` over any S3 server."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._region = settings.s3_region
        self._patience_s = settings.patience_s
        self._quick = _client(settings, read_s=max(settings.patience_s, 5.0))
        self._slow = _client(settings, read_s=_SLOW_READ_S)
        self._threads = DaemonPool("s3", _THREADS)
        self._large = asyncio.Semaphore(_LARGE_PUTS_MAX)
        self._sync = GroupSync(partial(sync_filesystem, settings.s3_sync_dir))
        self._has_sync = bool(settings.s3_sync_dir)

    # -- writing

    async def put(self, key: str, data: bytes | Path, *, sha256: str, content_type: str) -> BlobRef:
        length = len(data) if isinstance(data, bytes) else (await asyncio.to_thread(data.stat)).st_size
        async with self._large if length > _LARGE_BYTES else nullcontext():
            await self._call(lambda: self._put(key, data, length, sha256, content_type))
        return BlobRef(key=key, bytes=length, sha256=sha256)

    async def barrier(self) -> None:
        if not self._has_sync:
            return
        try:
            await self._sync.wait()
        except OSError as error:
            raise Unavailable("s3", f"the store's folder could not be synced: {error}") from error

    async def copy(self, source: str, target: str) -> None:
        await self._call(
            lambda: self._slow.copy_object(self._bucket, target, CopySource(self._bucket, source))
        )

    async def delete(self, key: str) -> None:
        try:
            await self._call(lambda: self._quick.remove_object(self._bucket, key))
        except KeyError:
            return

    # -- reading

    async def read(self, ref: BlobRef) -> bytes:
        def read() -> bytes:
            content = BytesIO()
            self._checked_read(ref, content)
            return content.getvalue()

        return await self._call(read)

    async def fetch(self, ref: BlobRef, path: Path) -> None:
        def fetch() -> None:
            try:
                with path.open("wb") as file:
                    self._checked_read(ref, file)
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
            response = self._open(wanted[0][0].key, first, length)
            try:
                data = response.read(length)
            finally:
                _release(response)
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
        response = await self._call(lambda: self._open(ref.key, first, left))
        try:
            while left > 0:
                piece = await self._piece(response, min(PIECE_BYTES, left))
                if not piece:
                    raise KeyError(f"{ref.key}: damaged, it is shorter than it was")
                left -= len(piece)
                yield piece
        finally:
            # In a thread: a read that was cancelled may still be at it.
            self._threads.submit(partial(_release, response))

    async def stat(self, key: str) -> BlobStat | None:
        try:
            found = await self._call(lambda: self._quick.stat_object(self._bucket, key))
        except KeyError:
            return None
        return BlobStat(key=key, bytes=found.size or 0, modified_ms=_milliseconds(found.last_modified))

    async def keys(self, prefix: str) -> list[str]:
        def names() -> list[str]:
            found = self._quick.list_objects(self._bucket, prefix=prefix, recursive=True)
            return sorted(one.object_name for one in found if one.object_name and not one.is_dir)

        return await self._call(names)

    async def stats(self, prefix: str) -> list[BlobStat]:
        def found() -> list[BlobStat]:
            listed = self._quick.list_objects(self._bucket, prefix=prefix, recursive=True)
            files = [one for one in listed if one.object_name and not one.is_dir]
            return [_listed(one.object_name or "", one.size, one.last_modified) for one in files]

        return sorted(await self._call(found), key=lambda one: one.key)

    # -- being there

    async def ready(self) -> None:
        """Makes sure of the bucket, in one attempt; Unavailable where the store does not serve."""
        await self._call(self._ensure_bucket, patience_s=0.0)

    async def close(self) -> None:
        """Lets go of the connections; requests that are under way are left to themselves."""
        self._threads.close()
        await asyncio.sleep(0)

    # -- one attempt, in a thread

    def _put(self, key: str, data: bytes | Path, length: int, sha256: str, content_type: str) -> None:
        sha_found, md5_found = _digests(data)
        if sha_found != sha256:
            raise ValueError(f"the bytes for {key} do not have the digest that was given")
        single = length <= SINGLE_PUT_BYTES_MAX
        with closing(data.open("rb") if isinstance(data, Path) else BytesIO(data)) as source:
            written = (self._quick if single else self._slow).put_object(
                self._bucket,
                key,
                source,
                length,
                content_type=content_type,
                part_size=max(length, _PART_BYTES_MIN) if single else PART_BYTES,
                num_parallel_uploads=1,
            )
        if single and written.etag == md5_found:
            return
        # No digest of ours to compare with: a multipart upload, or a store that encrypts.
        self._checked_read(BlobRef(key=key, bytes=length, sha256=sha256), _Nowhere())
        if self._quick.stat_object(self._bucket, key).size != length:
            raise _Damaged(key)

    def _checked_read(self, ref: BlobRef, target: "BinaryIO | _Nowhere") -> None:
        """Copies the bytes; they are those of the digest, or it raises."""
        if ref.bytes == 0:
            self._quick.stat_object(self._bucket, ref.key)
            return
        digest = sha256_of()
        length = 0
        response = self._open(ref.key, ref.offset, ref.bytes)
        try:
            while piece := response.read(PIECE_BYTES):
                digest.update(piece)
                length += len(piece)
                target.write(piece)
        finally:
            _release(response)
        if length != ref.bytes or digest.hexdigest() != ref.sha256:
            raise _Damaged(ref.key)

    def _open(self, key: str, first: int, length: int) -> BaseHTTPResponse:
        return self._quick.get_object(self._bucket, key, offset=first, length=length)

    def _ensure_bucket(self) -> None:
        if self._quick.bucket_exists(self._bucket):
            return
        try:
            self._quick.make_bucket(self._bucket, self._region)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    async def _piece(self, response: BaseHTTPResponse, length: int) -> bytes:
        try:
            return await self._threads.run(partial(response.read, length))
        except HTTPError as error:
            raise Unavailable("s3", f"the store stopped in the middle of an object: {error}") from error

    # -- patience

    async def _call(self, attempt: Callable[[], T], patience_s: float | None = None) -> T:
        """Repeats an attempt while the server fails; see the module's docstring for what it raises."""
        deadline = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        pause_s = _BACKOFF_S
        damaged = 0
        while True:
            try:
                return await self._threads.run(attempt)
            except _Damaged as error:
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


class _Nowhere:
    """A file for bytes that only their digest is wanted of."""

    def write(self, data: bytes, /) -> int:
        return len(data)


def _client(settings: Settings, read_s: float) -> _Client:
    pool: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED"} if settings.s3_secure else {}
    return _Client(
        settings.s3_endpoint,
        access_key=settings.s3_access_key or None,
        secret_key=settings.s3_secret_key or None,
        secure=settings.s3_secure,
        region=settings.s3_region,
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=read_s),
            maxsize=4 * _THREADS,  # streams keep theirs between two pieces
            retries=False,
            **pool,
        ),
    )


def _digests(data: bytes | Path) -> tuple[str, str]:
    """SHA-256 and MD5 in hex; a file is read in pieces."""
    sha, short = sha256_of(), md5(usedforsecurity=False)
    if isinstance(data, bytes):
        sha.update(data)
        short.update(data)
    else:
        with data.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                sha.update(piece)
                short.update(piece)
    return sha.hexdigest(), short.hexdigest()


def _write_part(data: bytes, start: int, ref: BlobRef, path: Path) -> bool:
    part = data[start : start + ref.bytes]
    if sha256_of(part).hexdigest() != ref.sha256:
        return False
    path.write_bytes(part)
    return True


def _listed(key: str, size: int | None, modified: datetime | None) -> BlobStat:
    return BlobStat(key=key, bytes=size or 0, modified_ms=_milliseconds(modified))


def _milliseconds(moment: datetime | None) -> int:
    """A listing tells thousandths and a single object does not: neither does this."""
    return 0 if moment is None else int(moment.timestamp()) * 1000


def _release(response: BaseHTTPResponse) -> None:
    """Gives the connection back where the body was read to its end, and closes it elsewhere."""
    response.close()
    response.release_conn()
