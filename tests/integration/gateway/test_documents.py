"""Documents in memory: never more of them than their limit, and none that is not what it should be."""

from hashlib import sha256

import pytest

from services.gateway.downloads import documents
from services.gateway.downloads.documents import Documents
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts.results import BlobRef


@pytest.fixture
def blobs(monkeypatch: pytest.MonkeyPatch) -> MemoryBlobs:
    monkeypatch.setattr(documents, "BYTES_MAX", 10)
    monkeypatch.setattr(documents, "DOCUMENT_BYTES_MAX", 6)
    return MemoryBlobs()


async def put(blobs: MemoryBlobs, data: bytes) -> BlobRef:
    digest = sha256(data).hexdigest()
    return await blobs.put(digest, data, sha256=digest, content_type="application/json")


async def twice(kept: Documents, ref: BlobRef) -> bytes | None:
    await kept.get(ref)
    return await kept.get(ref)


async def test_it_is_kept_from_the_second_time_on(blobs: MemoryBlobs) -> None:
    """A document that is wanted once costs no memory; one that is too large never does."""
    kept, one, large = Documents(blobs), await put(blobs, b"one"), await put(blobs, b"too large")
    assert await kept.get(one) is None
    assert await kept.get(one) == b"one"
    assert await twice(kept, large) is None


async def test_the_oldest_makes_room_unless_it_is_being_sent(blobs: MemoryBlobs) -> None:
    """What is lent counts until the last byte of it is gone."""
    kept = Documents(blobs)
    one, two, three = [await put(blobs, text) for text in (b"11111", b"22222", b"33333")]
    assert [await twice(kept, ref) for ref in (one, two)] == [b"11111", b"22222"]
    sending = [kept.sent(ref, memoryview(b"x")) for ref in (one, two)]
    assert [bytes(await anext(body)) for body in sending] == [b"x", b"x"]
    assert await twice(kept, three) is None, "there is no room for it"
    assert [bytes(piece) async for piece in sending[1]] == [b""]
    assert await kept.get(three) == b"33333"
    blobs.objects.clear()
    assert await kept.get(one) == b"11111", "it is still on its way to somebody"
    assert await kept.get(two) is None


async def test_what_is_damaged_is_not_kept(blobs: MemoryBlobs) -> None:
    """Its digest is compared when it is read."""
    kept, ref = Documents(blobs), await put(blobs, b"good")
    blobs.objects[ref.key] = b"baad"
    assert await twice(kept, ref) is None
