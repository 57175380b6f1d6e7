"""Moving sources to the archive, in an order that never leaves a source without its bytes.

Copy, verify, barrier, the event, and only then the deletion of the original, once the log says that
every file in it is archived. Each step may be repeated from the start after a crash at any point.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice

import structlog

from tanda.contracts.results import BlobRef
from tanda.domain.settling import archive_key, moved_ref
from tanda.ports import Blobs

#: Of one ``SourcesArchived``; the log refuses messages over 256 kB.
FILES_MAX = 1_000
EVENT_BYTES_MAX = 200_000
#: Of one append: the log is asked, and syncs, once for all of them, and others wait no longer for it.
EVENTS_MAX = 8
#: Objects that are copied, and told of, before the next ones.
OBJECTS_MAX = 500
_COPIES_MAX = 4
#: What a source takes in an event beside its texts, two numbers of ten digits included.
_BESIDE = len('"":{"key":"","offset":,"bytes":,"sha256":""},') + 20

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
        for (key, files), is_there in zip(objects.items(), copied, strict=True):
            if is_there:
                target = _target(key)
                archived |= {file_id: moved_ref(source, target) for file_id, source in files.items()}
        return archived

    async def delete(self, objects: dict[str, str]) -> list[str]:
        """Removes originals whose copy is whole, and returns them; others stay, with an alarm."""
        done = await asyncio.gather(*(self._deleted(key, copy) for key, copy in objects.items()))
        return [key for key, is_done in zip(objects, done, strict=True) if is_done]

    async def _copied(self, key: str) -> bool:
        target = _target(key)
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


def in_turns(objects: dict[str, dict[str, BlobRef]]) -> Iterator[dict[str, dict[str, BlobRef]]]:
    """The same objects, so many at once."""
    left = iter(objects.items())
    while some := dict(islice(left, OBJECTS_MAX)):
        yield some


def event_sizes(sources: dict[str, BlobRef]) -> Iterator[dict[str, BlobRef]]:
    """The same sources in portions that each fit into one event."""
    portion: dict[str, BlobRef] = {}
    size = 0
    for file_id in sorted(sources):
        source = sources[file_id]
        length = len(file_id) + len(source.key) + len(source.sha256) + _BESIDE
        if portion and (len(portion) == FILES_MAX or size + length > EVENT_BYTES_MAX):
            yield portion
            portion, size = {}, 0
        portion[file_id] = source
        size += length
    if portion:
        yield portion


def _target(key: str) -> str:
    target = archive_key(key)
    assert target is not None, "only sources get here"
    return target
