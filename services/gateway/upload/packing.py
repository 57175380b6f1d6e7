"""Where the bytes of one upload go: small files into packs, a large one into an object of its own.

The object store takes some 1,300 PUTs a second, so that 5,000 files of 10 kB would cost four seconds
one by one and cost 0.1 s in packs. PUTs overlap with the reading of the body, a few at a time;
who brings more bytes waits, and so does the client. Nothing is written to a disk of ours.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Iterable
from hashlib import sha256
from typing import Any

import msgspec
import structlog

from tanda.contracts.results import BlobRef
from tanda.domain.filetypes import FileType, Refusal
from tanda.ports import Blobs, BlobUpload

#: More of them were slower, the first upload most of all: the store has to get memory for each.
PUTS_PER_UPLOAD_MAX = 4
#: Over all uploads of the process; each may hold a pack in memory.
PUTS_MAX = 16
#: Each pack of an upload is twice as large as the one before, up to ``TANDA_PACK_BYTES``.
FIRST_PACK_BYTES = 1024**2
OBJECT_TYPE = "application/octet-stream"

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


class _Pack:
    """Small files that will be one object."""

    def __init__(self) -> None:
        self.files: list[Received] = []
        self.content = bytearray()


class Store:
    """The objects of one upload, put while it is still being read.

    ``held`` files are those of which nobody knows yet whether they are taken: they have objects of their
    own, which ``release_held`` keeps or drops.
    """

    def __init__(self, blobs: Blobs, prefix: str, puts: asyncio.Semaphore, pack_bytes: int) -> None:
        self._blobs = blobs
        self._prefix = prefix
        self._puts = puts
        self._own_puts = asyncio.Semaphore(PUTS_PER_UPLOAD_MAX)
        self._pack_bytes = pack_bytes
        #: The next pack's size: the store has work as soon as the first megabyte is here.
        self._next_bytes = min(FIRST_PACK_BYTES, pack_bytes)
        self._packs = {held: _Pack() for held in (False, True)}
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        #: Named after what is in them: a repeated request may have put the very same.
        self._pack_keys: set[str] = set()
        #: Named by chance, and known to nobody else.
        self._uploads: dict[str, BlobUpload] = {}
        self._held_keys: set[str] = set()
        self._unwanted: set[str] = set()
        self._promised = False
        self._all_here = False
        self._ahead: asyncio.Task[None] | None = None

    async def add(self, file: Received, content: bytes | memoryview, *, held: bool = False) -> None:
        """Takes a file that is small enough for a pack, and copies its bytes."""
        pack = self._packs[held]
        if len(pack.content) + len(content) > self._next_bytes:
            self._next_bytes = min(2 * self._next_bytes, self._pack_bytes)
            await self._flush(held)
            pack = self._packs[held]
        pack.files.append(file)
        pack.content += content

    def begin(self, *, held: bool = False) -> tuple[str, BlobUpload]:
        """A new object for a large file, and its key."""
        key = f"{self._prefix}{secrets.token_hex(16)}"
        if held:
            self._held_keys.add(key)
        upload = self._uploads[key] = self._blobs.upload(key, content_type=OBJECT_TYPE)
        return key, upload

    async def add_large(self, file: Received, key: str) -> None:
        """Takes a file all of whose bytes were written to the upload of this key."""
        file.source = BlobRef(key=key, bytes=file.bytes, sha256=file.sha256)
        await self._start(self._finish_upload(self._uploads[key]))

    def release_held(self, *, store: bool) -> None:
        """The processor is known: what was held is kept, or dropped."""
        if not store:
            self._packs[True] = _Pack()
            self._unwanted = self._held_keys

    async def flush(self) -> None:
        """Nothing waits here any more: every file that is kept knows its object."""
        self._all_here = True
        for held in self._packs:
            await self._flush(held)

    async def finish(self) -> None:
        """Returns once every byte is durable."""
        await self.flush()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self._raise_error()
        await self._delete(self._unwanted)
        if self._pack_keys or self._uploads:
            await self._blobs.barrier()

    def promise(self) -> None:
        """To be called before events name the objects: a lost answer may hide that they are in the log."""
        self._promised = True

    async def abandon(self, *, packs: bool) -> None:
        """The upload failed: stops, and takes back what no event can name."""
        if self._promised:
            await self._stop()
        else:
            await self.discard(packs=packs)

    async def discard(self, *, packs: bool) -> None:
        """Stops, and takes back what was put, as far as that goes.

        With ``packs`` those too, which is only right where nobody else can have put the same.
        """
        await self._stop()
        for upload in self._uploads.values():
            await upload.abort()
        await self._delete([*self._uploads, *(self._pack_keys if packs else ())])

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)

    async def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                await self._blobs.delete(key)
            except Exception as error:  # it belongs to no batch and costs only its space
                log.warning("An unused object could not be deleted.", key=key, error=str(error))
                return

    async def _flush(self, held: bool) -> None:
        pack, self._packs[held] = self._packs[held], _Pack()
        if not pack.files:
            return
        key = f"{self._prefix}{_digest(pack, held)}"
        if held:
            self._held_keys.add(key)
        offset = 0
        for file in pack.files:
            file.source = BlobRef(key=key, offset=offset, bytes=file.bytes, sha256=file.sha256)
            offset += file.bytes
        if key not in self._pack_keys:
            self._pack_keys.add(key)
            await self._start(self._put_pack(key, pack.content))

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

    async def _put_pack(self, key: str, data: bytearray) -> None:
        async with self._puts:
            await self._blobs.put_pack(key, data, content_type=OBJECT_TYPE)
        self._sync_ahead()

    def _sync_ahead(self) -> None:
        """Brings what is there to the disk while more comes, so that less is left when everybody waits."""
        if self._all_here and len(self._tasks) == 1:  # the last one: from here on everybody waits anyway
            return
        if self._ahead is None or self._ahead.done():
            self._ahead = asyncio.create_task(self._blobs.barrier())
            self._ahead.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _finish_upload(self, upload: BlobUpload) -> None:
        async with self._puts:
            await upload.finish()


def _digest(pack: _Pack, held: bool) -> str:
    """The name of a pack: of what is in it, by its files' digests, which are there already."""
    members = "".join([f"{file.sha256}{file.bytes}," for file in pack.files])
    return sha256(f"{'held' if held else ''}{members}".encode()).hexdigest()
