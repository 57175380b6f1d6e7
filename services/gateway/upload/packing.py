"""Where the bytes of one upload go: small files into packs, a large one into an object of its own.

The object store takes some 1,300 PUTs a second, so that 5,000 files of 10 kB would cost four seconds
one by one and cost 0.1 s in seven packs. PUTs overlap with the reading of the body, a few at a time;
who brings more bytes waits, and so does the client.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from tanda.contracts.results import BlobRef
from tanda.domain.filetypes import FileType, Refusal
from tanda.ports import Blobs

PUTS_PER_UPLOAD_MAX = 4
#: Over all uploads of the process; each may hold a pack in memory.
PUTS_MAX = 16
#: Hashing and writing to the spool; apart from the object store's threads, which may all be waiting.
SPOOL_THREADS = 4
OBJECT_TYPE = "application/octet-stream"
#: A folder's time is that of its last new or removed file; no upload is silent for so long.
LEFT_OVER_S = 24 * 3_600.0

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Received(msgspec.Struct, kw_only=True):
    """A file whose bytes have come completely."""

    index: int
    name: str
    declared: str | None
    bytes: int
    sha256: str
    #: What it is, or why no typed processor takes it.
    verdict: FileType | Refusal
    #: Known once the object that it is in is on its way.
    source: BlobRef | None = None


class Spool:
    """This process's folder of files that are too large for memory, and the threads that write there."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self.folder = parent / f"gateway-{os.getpid()}-{secrets.token_hex(4)}"
        self._threads = ThreadPoolExecutor(SPOOL_THREADS, thread_name_prefix="spool")

    def open(self) -> None:
        """Makes the folder, and removes those that killed gateways have left long ago."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in self._parent.glob("gateway-*"):
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime < time.time() - LEFT_OVER_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_path(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.folder)
        with open(handle, "wb"):  # noqa: PTH123 - a descriptor, not a path
            return Path(name)

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


class Store:
    """The objects of one upload, put while it is still being read."""

    def __init__(
        self, blobs: Blobs, prefix: str, spool: Spool, puts: asyncio.Semaphore, pack_bytes: int
    ) -> None:
        self._blobs = blobs
        self._prefix = prefix
        self._spool = spool
        self._puts = puts
        self._own_puts = asyncio.Semaphore(PUTS_PER_UPLOAD_MAX)
        self._pack_bytes = pack_bytes
        self._pack: list[tuple[Received, bytes]] = []
        self._packed_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._keys: set[str] = set()
        self._promised = False
        #: Refused files that are kept until the processor is known.
        self._held: list[tuple[Received, Path]] = []

    async def add(self, file: Received, content: bytes | Path) -> None:
        """Takes a file's bytes; a path is the store's from now on and is deleted after its PUT."""
        if isinstance(content, Path):
            file.source = self._ref(file.sha256, file, 0)
            await self._start(self._put(file.sha256, content))
            return
        if self._packed_bytes + len(content) > self._pack_bytes:
            await self._flush()
        self._pack.append((file, content))
        self._packed_bytes += len(content)

    async def hold(self, file: Received, content: bytes | Path) -> None:
        """Keeps a file on disk until ``release_held``."""
        path = content if isinstance(content, Path) else self._spool.new_path()
        if not isinstance(content, Path):
            await self._spool.run(path.write_bytes, content)
        self._held.append((file, path))

    async def release_held(self, *, store: bool) -> None:
        """The processor is known: stores what was held, or drops it."""
        while self._held:
            file, path = self._held.pop()
            if store:
                await self.add(file, path)
            else:
                remove(path)

    async def finish(self) -> None:
        """Returns once every byte is durable."""
        await self._flush()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self._raise_error()
        if self._keys:
            await self._blobs.barrier()

    def promise(self) -> None:
        """To be called before events name the objects: a lost answer may hide that they are in the log."""
        self._promised = True

    async def abandon(self, *, delete: bool) -> None:
        """The upload failed: stops, and with ``delete`` takes back what no event can name."""
        await self.discard(delete=delete and not self._promised)

    async def discard(self, *, delete: bool) -> None:
        """Stops, and with ``delete`` takes back what was put, as far as that goes."""
        for _, path in self._held:
            remove(path)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)
        for key in self._keys if delete else ():
            try:
                await self._blobs.delete(key)
            except Exception as error:  # it belongs to no batch and costs only its space
                log.warning("An unused object could not be deleted.", key=key, error=str(error))
                return

    async def _flush(self) -> None:
        if not self._pack:
            return
        pack, self._pack, self._packed_bytes = self._pack, [], 0
        data = b"".join([content for _, content in pack])
        digest = await self._spool.run(_digest, data)
        offset = 0
        for file, content in pack:
            file.source = self._ref(digest, file, offset)
            offset += len(content)
        pack.clear()
        await self._start(self._put(digest, data))

    def _ref(self, digest: str, file: Received, offset: int) -> BlobRef:
        return BlobRef(key=f"{self._prefix}{digest}", offset=offset, bytes=file.bytes, sha256=file.sha256)

    async def _start(self, put: Coroutine[Any, Any, None]) -> None:
        try:
            await self._own_puts.acquire()
        except BaseException:
            put.close()
            raise
        task = asyncio.create_task(put)
        self._tasks.add(task)
        task.add_done_callback(self._settle)
        self._raise_error()

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._own_puts.release()
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    async def _put(self, digest: str, content: bytes | Path) -> None:
        key = f"{self._prefix}{digest}"
        try:
            if key not in self._keys:
                self._keys.add(key)
                async with self._puts:
                    await self._blobs.put(key, content, sha256=digest, content_type=OBJECT_TYPE)
        finally:
            if isinstance(content, Path):
                remove(content)


def remove(path: Path) -> None:
    """Takes a file out of the spool; one that is gone or cannot be removed is swept at the next start."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
