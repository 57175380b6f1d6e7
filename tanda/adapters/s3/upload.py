"""An object of unknown length: its parts go to the store while more of it is still being written."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import structlog

from tanda.adapters.s3.objects import Objects
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable

#: S3's smallest part. It takes 10,000 of them: 48 GiB.
PART_BYTES = 5 * 1024**2
#: Parts on their way to the store, over all uploads of the process. Each upload that is being written
#: holds one more in memory.
PARTS_AT_ONCE = 4

_log = structlog.get_logger("tanda.s3")


class S3Upload:
    """``ports.BlobUpload`` over S3; what is no longer than one part is a single PUT."""

    def __init__(
        self,
        objects: Objects,
        call: Callable[[Callable[[], Any]], Awaitable[Any]],
        room: asyncio.Semaphore,
        key: str,
        content_type: str,
    ) -> None:
        self.key = key
        self.bytes_written = 0
        self._objects = objects
        self._call = call
        self._room = room
        self._content_type = content_type
        self._digest = sha256()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._upload_id = ""
        #: The store's word and ours, by part.
        self._parts: dict[int, tuple[str, bytes]] = {}
        self._sent = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None
        self._may_be_complete = False

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self.bytes_written += len(piece)
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        while self._pending_bytes > PART_BYTES:
            data = b"".join(self._pending)
            self._pending, self._pending_bytes = [data[PART_BYTES:]], len(data) - PART_BYTES
            await self._send(data[:PART_BYTES])

    async def finish(self) -> BlobRef:
        ref = BlobRef(key=self.key, bytes=self.bytes_written, sha256=self.sha256)
        rest, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        if not self._upload_id:
            await self._call(lambda: self._objects.put_bytes(self.key, rest, self._content_type))
            return ref
        await self._send(rest)
        await asyncio.gather(*self._tasks)
        self._raise_error()
        self._may_be_complete = True
        parts = [self._parts[number] for number in sorted(self._parts)]
        try:
            await self._call(lambda: self._objects.complete(ref, self._upload_id, parts))
        except KeyError as error:
            raise Unavailable("s3", f"an object is not there as it was sent: {error}") from error
        return ref

    async def abort(self) -> None:
        """Drops what was sent. What may be complete by now is an object, to be deleted as one."""
        await asyncio.gather(*self._tasks, return_exceptions=True)  # a part that came later would stay
        self._pending, self._pending_bytes = [], 0
        if not self._upload_id or self._may_be_complete:
            return
        try:
            await self._call(lambda: self._objects.give_up(self.key, self._upload_id))
        except (Unavailable, KeyError) as error:  # they belong to nothing and cost only their space
            _log.warning("Parts of a broken upload could not be dropped.", key=self.key, error=str(error))

    async def _send(self, data: bytes) -> None:
        if not self._upload_id:
            self._upload_id = await self._call(lambda: self._objects.begin(self.key, self._content_type))
        await self._room.acquire()
        self._sent += 1
        task = asyncio.create_task(self._put_part(self._sent, data))
        self._tasks.add(task)
        task.add_done_callback(self._settle)
        self._raise_error()

    async def _put_part(self, number: int, data: bytes) -> None:
        put = self._objects.put_part
        self._parts[number] = await self._call(lambda: put(self.key, self._upload_id, number, data))

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._error = self._error or error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
