"""Result documents that are asked for again, in memory: whole, verified, and as fast as a file server's.

A document is named after its digest and never changes, so that nothing has to be asked of the store.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator

from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable
from tanda.ports import Blobs

#: Of all documents that are kept or still on their way to a client.
BYTES_MAX = 64 * 1024**2
DOCUMENT_BYTES_MAX = 32 * 1024**2
#: Those that were asked for once: the next time they are worth their memory.
ASKED_MAX = 1_024


class Documents:
    """The least recently asked for goes first, unless somebody is being sent it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lent: dict[str, int] = {}
        self._bytes = 0
        self._is_reading = False

    async def get(self, ref: BlobRef) -> bytes | None:
        """The document, or None where it is to be streamed from the store."""
        if (document := self._kept.get(ref.key)) is not None:
            self._kept.move_to_end(ref.key)
            return document
        if ref.bytes > DOCUMENT_BYTES_MAX or not self._was_asked(ref.key) or self._is_reading:
            return None
        if not self._make_room(ref.bytes):
            return None
        self._is_reading = True
        try:
            document = await self._blobs.read(ref)
        except (KeyError, Unavailable):
            return None  # whoever streams it finds out what is wrong
        finally:
            self._is_reading = False
        self._kept[ref.key] = document
        self._bytes += len(document)
        return document

    async def sent(self, ref: BlobRef, part: memoryview) -> AsyncIterator[memoryview]:
        """A part of a document as a response's body."""
        self._lent[ref.key] = self._lent.get(ref.key, 0) + 1
        try:
            yield part
            # Nothing, but it is taken only when the kernel has got the part: until then the part is lent.
            yield part[:0]
        finally:
            self._lent[ref.key] -= 1
            if not self._lent[ref.key]:
                del self._lent[ref.key]

    def _was_asked(self, key: str) -> bool:
        if key in self._asked:
            self._asked.move_to_end(key)
            return True
        self._asked[key] = None
        if len(self._asked) > ASKED_MAX:
            self._asked.popitem(last=False)
        return False

    def _make_room(self, length: int) -> bool:
        for key in [key for key in self._kept if key not in self._lent]:
            if self._bytes + length <= BYTES_MAX:
                break
            self._bytes -= len(self._kept.pop(key))
        return self._bytes + length <= BYTES_MAX
