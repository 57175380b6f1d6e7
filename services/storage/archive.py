"""Moving sources to the archive, in an order that never leaves a source without its bytes.

Copy, verify, barrier, the event, and only then the deletion of the original, once the log says that
every file in it is archived. Each step may be repeated from the start after a crash at any point.
"""

import asyncio
from collections.abc import Iterator

import structlog

from tanda.contracts.codec import encode
from tanda.contracts.results import BlobRef
from tanda.domain.settling import archive_key, archived_ref
from tanda.ports import Blobs

#: Of one ``SourcesArchived``; the log refuses messages over 256 kB.
FILES_MAX = 1_000
EVENT_BYTES_MAX = 200_000
_COPIES_MAX = 4

_log = structlog.get_logger("tanda.storage")


class Archive:
    """The object store's side of archiving."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._room = asyncio.Semaphore(_COPIES_MAX)

    async def copy(self, objects: dict[str, dict[str, BlobRef]]) -> dict[str, BlobRef]:
        """Copies whole objects, durably, and returns where each of their files then is."""
        copied = await asyncio.gather(*(self._copied(key) for key in objects))
        await self._blobs.barrier()
        archived: dict[str, BlobRef] = {}
        for files, is_there in zip(objects.values(), copied, strict=True):
            if is_there:
                archived |= {file_id: archived_ref(source) for file_id, source in files.items()}
        return archived

    async def delete(self, objects: dict[str, str]) -> list[str]:
        """Removes originals whose copy is whole, and returns them; others stay, with an alarm."""
        done = await asyncio.gather(*(self._deleted(key, copy) for key, copy in objects.items()))
        return [key for key, is_done in zip(objects, done, strict=True) if is_done]

    async def _copied(self, key: str) -> bool:
        target = archive_key(key)
        assert target is not None, "only sources get here"
        async with self._room:
            source, copy = await self._blobs.stat(key), await self._blobs.stat(target)
            if copy is not None and (source is None or copy.bytes == source.bytes):
                return True
            if source is None:
                _log.error("A source is gone and was never archived.", key=key)
                return False
            try:
                await self._blobs.copy(key, target)
            except KeyError:
                return False  # another process was quicker: the next look finds its copy
            copy = await self._blobs.stat(target)
            return copy is not None and copy.bytes == source.bytes

    async def _deleted(self, key: str, copy_key: str) -> bool:
        async with self._room:
            source = await self._blobs.stat(key)
            if source is None:
                return True
            copy = await self._blobs.stat(copy_key)
            if copy is None or copy.bytes != source.bytes:
                _log.error("The archived copy of a source is not whole; the original stays.",
                           key=key, copy=copy_key)  # fmt: skip
                return False
            await self._blobs.delete(key)
            return True


def event_sizes(sources: dict[str, BlobRef]) -> Iterator[dict[str, BlobRef]]:
    """The same sources in portions that each fit into one event."""
    portion: dict[str, BlobRef] = {}
    size = 0
    for file_id, source in sorted(sources.items(), key=lambda item: item[0]):
        length = len(encode(source)) + len(file_id) + len('"":,')
        if portion and (len(portion) == FILES_MAX or size + length > EVENT_BYTES_MAX):
            yield portion
            portion, size = {}, 0
        portion[file_id] = source
        size += length
    if portion:
        yield portion
