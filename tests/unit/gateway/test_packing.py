"""The objects of one upload: which files share one, and when their bytes are safe."""

import asyncio
from hashlib import sha256

from services.gateway.upload.packing import FIRST_PACK_BYTES, Received, Store
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts.results import BlobRef
from tanda.domain.filetypes import Refusal

REFUSED = Refusal(code="unsupported_type", message="It is of no type.")


class Diary(MemoryBlobs):
    """A store whose PUTs and syncs take a turn of the loop, and are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    async def put_pack(self, key: str, data: bytes | bytearray, *, content_type: str) -> None:
        await asyncio.sleep(0)
        await super().put_pack(key, data, content_type=content_type)
        self.lines.append(f"put {len(data)}")

    async def barrier(self) -> None:
        self.lines.append("sync")
        await asyncio.sleep(0)


def received(index: int, content: bytes) -> Received:
    return Received(
        index=index,
        name=f"{index}.bin",
        declared=None,
        bytes=len(content),
        sha256=sha256(content).hexdigest(),
        verdict=REFUSED,
    )


async def upload(blobs: MemoryBlobs, files: int, size: int) -> list[tuple[Received, bytes]]:
    store = Store(blobs, "t/x/", asyncio.Semaphore(2), 4 * FIRST_PACK_BYTES)
    sent: list[tuple[Received, bytes]] = []
    for index in range(files):
        content = index.to_bytes(4, "big") * (size // 4)
        sent.append((received(index, content), content))
        await store.add(*sent[-1])
    await store.flush()
    assert all(file.source for file, _ in sent)
    await store.finish()
    return sent


async def test_packs_grow_and_every_file_is_where_its_reference_says() -> None:
    """The first is small, so that the store has work early; none is larger than a pack may be."""
    blobs = Diary()
    size = FIRST_PACK_BYTES // 4
    for file, content in await upload(blobs, files=50, size=size):
        assert isinstance(file.source, BlobRef) and await blobs.read(file.source) == content
    puts = [int(line.split()[1]) // size for line in blobs.lines if line != "sync"]
    assert sorted(puts) == [4, 6, 8, 16, 16]


async def test_the_last_sync_begins_after_the_last_put() -> None:
    """Whatever was synced before while more came: what is told as durable is."""
    blobs = Diary()
    await upload(blobs, files=50, size=FIRST_PACK_BYTES // 4)
    assert blobs.lines[-1] == "sync"
    assert blobs.lines.count("sync") > 1 and blobs.lines.index("sync") < len(blobs.lines) // 2


async def test_one_pack_is_synced_once() -> None:
    """A usual batch waits for nothing more than its own bytes."""
    blobs = Diary()
    await upload(blobs, files=3, size=1000)
    assert blobs.lines == ["put 3000", "sync"]
