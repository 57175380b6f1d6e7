"""What every object store promises: one body, over memory and over a real S3 server."""

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.adapters.s3 import S3Blobs
from tanda.adapters.s3.blobs import SINGLE_PUT_BYTES_MAX
from tanda.adapters.s3.group_sync import GroupSync
from tanda.adapters.s3.objects import Objects
from tanda.adapters.s3.upload import PART_BYTES
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable
from tanda.embedded.folder import Folder
from tanda.embedded.servers.s3 import S3
from tanda.settings import Settings, from_environment

AnyBlobs = MemoryBlobs | S3Blobs

#: Only a test that failed takes so long.
DEADLINE_S = 30.0
#: A patience that no test waits for.
FOR_EVER_S = 100_000.0


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncIterator[S3]:
    folder = Path(tempfile.mkdtemp(prefix="tanda-test-"))
    s3 = S3(Folder(folder))
    await s3.start()
    yield s3
    await s3.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(params=["memory", "s3"])
async def blobs(request: pytest.FixtureRequest, server: S3) -> AsyncIterator[AnyBlobs]:
    if request.param == "memory":
        yield MemoryBlobs()
        return
    store = S3Blobs(from_environment(server.environment()))
    yield store
    await store.close()


@pytest.fixture
def room() -> str:
    """A prefix of this test's own."""
    return f"test/{os.urandom(6).hex()}/"


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


async def put(blobs: AnyBlobs, key: str, data: bytes) -> BlobRef:
    return await blobs.put(key, data, sha256=digest(data), content_type="application/octet-stream")


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


async def test_many_pieces_come_at_once(blobs: AnyBlobs, room: str, tmp_path: Path) -> None:
    """Pieces of one object and of others, in any order; what is damaged or gone is told alone."""
    pack = os.urandom(400_000)
    packed = await put(blobs, room + "pack", pack)
    other = await put(blobs, room + "other", b"other")

    def piece(offset: int, length: int) -> BlobRef:
        data = pack[offset : offset + length]
        return msgspec.structs.replace(packed, offset=offset, bytes=length, sha256=digest(data))

    refs = [piece(1_000, 500), piece(0, 1_000), other, piece(390_000, 10_000), piece(1_500, 0)]
    damaged = msgspec.structs.replace(piece(2_000, 10), sha256=digest(b"else"))
    gone = BlobRef(key=room + "gone", bytes=3, sha256=digest(b"abc"))
    wanted = [(ref, tmp_path / str(n)) for n, ref in enumerate([*refs, damaged, gone])]

    assert await blobs.fetch_many(wanted) == [True] * 5 + [False] * 2
    assert [(tmp_path / str(n)).read_bytes() for n in range(5)] == [
        pack[1_000:1_500], pack[:1_000], b"other", pack[390_000:], b"",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 300_000, 9_000_000])
async def test_what_is_put_can_be_read(blobs: AnyBlobs, room: str, tmp_path: Path, size: int) -> None:
    """The bytes come back whole by every way of reading, from bytes and from a file alike."""
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)

    ref = await put(blobs, room + "a", data)
    again = await blobs.put(room + "b", source, sha256=digest(data), content_type="text/plain")
    await blobs.barrier()

    assert ref == BlobRef(key=room + "a", bytes=size, sha256=digest(data))
    assert await blobs.read(ref) == data
    assert await blobs.read(again) == data
    assert await collect(blobs.stream(ref)) == data
    await blobs.fetch(ref, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    stat = await blobs.stat(ref.key)
    assert stat is not None
    assert (stat.key, stat.bytes) == (ref.key, size)


async def test_a_range_of_a_packed_object_is_a_blob(blobs: AnyBlobs, room: str, tmp_path: Path) -> None:
    """A reference with an offset reads only its own bytes, and a stream any part of them."""
    one, two = os.urandom(1_000), os.urandom(700_000)
    await put(blobs, room + "pack", one + two + b"rest")
    ref = BlobRef(key=room + "pack", offset=1_000, bytes=700_000, sha256=digest(two))

    assert await blobs.read(ref) == two
    await blobs.fetch(ref, tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == two
    assert await collect(blobs.stream(ref)) == two
    assert await collect(blobs.stream(ref, 10)) == two[10:]
    assert await collect(blobs.stream(ref, 10, 300_000)) == two[10:300_010]
    assert await collect(blobs.stream(ref, 699_999, 50)) == two[-1:]
    assert await collect(blobs.stream(ref, 700_000)) == b""


async def test_a_stream_may_be_left(blobs: AnyBlobs, room: str) -> None:
    """A reader that stops in the middle leaves nothing behind that the next one trips over."""
    ref = await put(blobs, room + "a", os.urandom(2_000_000))
    for _ in range(40):
        stream = blobs.stream(ref)
        async for piece in stream:
            assert len(piece) <= 256 * 1024
            break
        await stream.aclose()  # type: ignore[attr-defined]
    assert await blobs.read(ref)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 77])
async def test_an_upload_is_whole_however_it_is_cut(blobs: AnyBlobs, room: str, size: int) -> None:
    """Its length need not be known; nothing is there before its end, and everything after."""
    data = os.urandom(size)
    upload = blobs.upload(room + "a", content_type="application/octet-stream")
    for start in range(0, size, 700_001):
        await upload.write(data[start : start + 700_001])
    assert await blobs.stat(room + "a") is None
    assert (upload.bytes_written, upload.sha256) == (size, digest(data))
    ref = await upload.finish()
    await upload.abort()
    await blobs.barrier()

    assert ref == BlobRef(key=room + "a", bytes=size, sha256=digest(data))
    assert await blobs.read(ref) == data
    assert await collect(blobs.stream(ref, max(0, size - 10))) == data[-10:]


async def test_an_upload_that_is_given_up_leaves_nothing(blobs: AnyBlobs, room: str) -> None:
    """Also where parts of it had arrived."""
    upload = blobs.upload(room + "a", content_type="application/octet-stream")
    for _ in range(3):
        await upload.write(bytes(PART_BYTES))
    await upload.abort()
    assert await blobs.keys(room) == []


async def test_a_pack_is_read_by_its_parts(blobs: AnyBlobs, room: str) -> None:
    """It has no digest of its own."""
    await blobs.put_pack(room + "pack", b"abcdef", content_type="application/octet-stream")
    assert await blobs.read(BlobRef(key=room + "pack", offset=2, bytes=3, sha256=digest(b"cde"))) == b"cde"


async def test_gone_is_a_key_error(blobs: AnyBlobs, room: str, tmp_path: Path) -> None:
    """Nothing that is not there can be read, copied or mistaken for something empty."""
    gone = BlobRef(key=room + "gone", bytes=3, sha256=digest(b"abc"))
    for reading in (
        lambda: blobs.read(gone),
        lambda: blobs.fetch(gone, tmp_path / "x"),
        lambda: collect(blobs.stream(gone)),
        lambda: blobs.copy(gone.key, room + "target"),
    ):
        with pytest.raises(KeyError):
            await reading()
    assert await blobs.stat(gone.key) is None
    assert await blobs.stat(room + "target") is None
    assert not (tmp_path / "x").exists()
    await blobs.delete(gone.key)


async def test_damaged_is_a_key_error(blobs: AnyBlobs, room: str, tmp_path: Path) -> None:
    """Other bytes, fewer bytes: never served as good."""
    await put(blobs, room + "a", b"abcdef")
    for ref in (
        BlobRef(key=room + "a", bytes=6, sha256=digest(b"abcdeF")),
        BlobRef(key=room + "a", bytes=9, sha256=digest(b"abcdef")),
        BlobRef(key=room + "a", offset=100, bytes=3, sha256=digest(b"abc")),
    ):
        with pytest.raises(KeyError):
            await blobs.read(ref)
        with pytest.raises(KeyError):
            await blobs.fetch(ref, tmp_path / "x")
        assert not (tmp_path / "x").exists()


async def test_bytes_of_another_digest_are_refused(blobs: AnyBlobs, room: str) -> None:
    """A caller that names the wrong digest is wrong before anything is stored."""
    with pytest.raises(ValueError, match="digest"):
        await blobs.put(room + "a", b"abc", sha256=digest(b"abd"), content_type="text/plain")
    assert await blobs.stat(room + "a") is None


async def test_keys_copies_and_deletes(blobs: AnyBlobs, room: str) -> None:
    """Keys under a prefix in order; a copy is whole and outlives its source; a delete may be repeated."""
    ref = await put(blobs, room + "src/a", b"abc")
    await put(blobs, room + "src/b", b"b")
    await put(blobs, room + "other", b"c")

    await blobs.copy(ref.key, room + "archive/a")
    await blobs.copy(ref.key, room + "archive/a")
    await blobs.delete(ref.key)
    await blobs.delete(ref.key)

    assert await blobs.keys(room + "src/") == [room + "src/b"]
    assert await blobs.keys(room) == [room + "archive/a", room + "other", room + "src/b"]
    assert await blobs.keys(room + "none/") == []
    stats = await blobs.stats(room + "src/")
    assert [(one.key, one.bytes) for one in stats] == [(room + "src/b", 1)]
    assert abs(stats[0].modified_ms - time.time() * 1000) < 60_000
    assert await blobs.stat(room + "src/b") == stats[0]
    moved = msgspec.structs.replace(ref, key=room + "archive/a")
    assert await blobs.read(moved) == b"abc"


async def test_putting_again_is_harmless(blobs: AnyBlobs, room: str) -> None:
    """Many at once, and the same key more than once."""
    data = [f"{n % 50}".encode() for n in range(200)]
    refs = await asyncio.gather(*(put(blobs, room + digest(one), one) for one in data))
    assert await asyncio.gather(*(blobs.read(ref) for ref in refs)) == data
    assert len(await blobs.keys(room)) == 50


async def test_ready(blobs: AnyBlobs) -> None:
    """A store that serves says so."""
    await blobs.ready()


# -- what only the real server can show


async def s3(server: S3, **changes: object) -> S3Blobs:
    return S3Blobs(msgspec.structs.replace(from_environment(server.environment()), **changes))


async def test_a_large_object_is_a_verified_multipart_upload(server: S3, room: str, tmp_path: Path) -> None:
    """A file of many parts comes back whole, also from a copy."""
    blobs = await s3(server)
    path = tmp_path / "large"
    piece = os.urandom(1024**2)
    with path.open("wb") as file:
        for _ in range(SINGLE_PUT_BYTES_MAX // len(piece) + 7):
            file.write(piece)
    expected = digest(path.read_bytes())

    ref = await blobs.put(room + "large", path, sha256=expected, content_type="application/octet-stream")
    await blobs.copy(ref.key, room + "copy")
    await blobs.fetch(msgspec.structs.replace(ref, key=room + "copy"), tmp_path / "back")

    assert digest((tmp_path / "back").read_bytes()) == expected
    await blobs.close()


async def test_what_a_killed_process_had_sent_is_dropped(server: S3, room: str) -> None:
    """After its time, and never where an object of that name is there."""
    blobs = await s3(server)
    finished, left = (blobs.upload(room + name, content_type="a/b") for name in ("finished", "left"))
    for upload in (finished, left):
        await upload.write(bytes(PART_BYTES + 1))
    await finished.finish()
    assert await blobs.drop_unfinished(older_than_s=60) == 0
    assert await blobs.drop_unfinished(older_than_s=-60) >= 1
    assert blobs._objects.unfinished() == []
    assert (await blobs.stat(room + "finished")) is not None
    await left.abort()
    await blobs.close()


class Altering(Objects):
    """A store that mixes up a byte of every part, and answers with an ETag that is no MD5."""

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> tuple[str, bytes]:
        etag, _ = super().put_part(key, upload_id, number, b"\xff" + data[1:])
        return etag, b""


async def test_a_store_whose_word_is_no_digest_is_read_back(server: S3, room: str) -> None:
    """What it made of an upload is not what was sent: it is never accepted."""
    blobs = await s3(server)
    blobs._objects = Altering(from_environment(server.environment()), connections=4)
    upload = blobs.upload(room + "a", content_type="application/octet-stream")
    await upload.write(bytes(PART_BYTES + 1))
    with pytest.raises(Unavailable, match="damaged"):
        await upload.finish()
    await blobs.close()


class Trusted(Objects):
    """A store that nothing is read back from."""

    def check(self, ref: BlobRef) -> None:
        raise AssertionError(f"{ref.key} was read back")


async def test_what_the_store_has_hashed_is_not_read_back(server: S3, room: str) -> None:
    """Its own MD5 of each part and of the whole tell that it has what was sent."""
    blobs = await s3(server)
    blobs._objects = Trusted(from_environment(server.environment()), connections=4)
    await put(blobs, room + "small", b"abc")
    upload = blobs.upload(room + "a", content_type="application/octet-stream")
    await upload.write(bytes(2 * PART_BYTES))
    assert (await upload.finish()).bytes == 2 * PART_BYTES
    await blobs.close()


async def test_the_bucket_is_made(server: S3) -> None:
    """A store without our bucket gets it with the first object."""
    blobs = await s3(server, s3_bucket=f"tanda-{os.urandom(4).hex()}")
    assert await blobs.keys("") == []
    ref = await put(blobs, "a/b", b"abc")
    assert await blobs.read(ref) == b"abc"
    await blobs.close()


NOBODY = Settings(s3_endpoint="127.0.0.1:9", s3_access_key="a", s3_secret_key="b", patience_s=0.2)


async def test_a_server_that_is_not_there_is_unavailable_within_patience() -> None:
    """Nobody listens: every call ends with Unavailable once its patience is over."""
    blobs = S3Blobs(NOBODY)
    async with asyncio.timeout(DEADLINE_S):
        for call in (
            lambda: put(blobs, "a", b"abc"),
            lambda: blobs.stat("a"),
            lambda: blobs.delete("a"),
            lambda: blobs.keys("a"),
            lambda: collect(blobs.stream(BlobRef(key="a", bytes=1, sha256="0"))),
        ):
            with pytest.raises(Unavailable):
                await call()
    await blobs.close()


async def test_whether_a_server_is_there_is_told_without_patience() -> None:
    """A look for readiness is not repeated, however long others would wait."""
    blobs = S3Blobs(msgspec.structs.replace(NOBODY, patience_s=FOR_EVER_S))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(Unavailable):
            await blobs.ready()
    await blobs.close()


async def test_wrong_credentials_are_unavailable_at_once(server: S3) -> None:
    """What no repetition would change is not repeated, however long one would wait."""
    blobs = await s3(server, s3_secret_key="wrong", patience_s=FOR_EVER_S)
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(Unavailable, match=r"Signature|Access"):
            await put(blobs, "a", b"abc")
    await blobs.close()


async def test_a_restart_of_the_server_is_waited_out(server: S3, room: str) -> None:
    """kill -9 in the middle: a put that was under way ends well once the server is back."""
    blobs = await s3(server, patience_s=60.0)
    ref = await put(blobs, room + "before", b"abc")
    assert server.process is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.exited()

    late = asyncio.create_task(put(blobs, room + "late", b"def"))
    await server.start()

    assert await blobs.read(await late) == b"def"
    assert await blobs.read(ref) == b"abc"
    await blobs.close()


class Syncs:
    """Syncs that begin when they are asked for and end when the test says so."""

    def __init__(self, *errors: OSError) -> None:
        self._errors = list(errors)
        self.begun = 0
        self._begins = threading.Semaphore(0)
        self._ends = threading.Semaphore(0)

    def __call__(self) -> None:
        self.begun += 1
        self._begins.release()
        assert self._ends.acquire(timeout=DEADLINE_S)
        if self._errors:
            raise self._errors.pop()

    async def begin(self) -> None:
        """Returns once one more has begun."""
        assert await asyncio.to_thread(self._begins.acquire, timeout=DEADLINE_S)

    def end(self) -> None:
        self._ends.release()


async def arrived(group: GroupSync, number: int) -> list[asyncio.Task[None]]:
    """So many who wait by now."""
    tasks = [asyncio.create_task(group.wait()) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_a_sync_covers_only_what_came_before_it() -> None:
    """Who arrives while a sync runs gets the next one; all who wait together share one."""
    group = GroupSync(syncs := Syncs())
    first = await arrived(group, 1)
    await syncs.begin()
    second = await arrived(group, 50)
    syncs.end()
    await asyncio.gather(*first)
    await syncs.begin()
    third = await arrived(group, 50)
    assert not any(one.done() for one in second), "their sync had started before they arrived"
    syncs.end()
    await asyncio.gather(*second)
    await syncs.begin()
    assert not any(one.done() for one in third), "their sync had started before they arrived"
    syncs.end()
    await asyncio.gather(*third)
    assert syncs.begun == 3


async def test_a_sync_that_fails_tells_its_own_callers_only() -> None:
    """The next group is not failed by the last one's error."""
    group = GroupSync(syncs := Syncs(OSError("disk")))
    first = await arrived(group, 1)
    await syncs.begin()
    second = await arrived(group, 1)
    syncs.end()
    with pytest.raises(OSError, match="disk"):
        await first[0]
    syncs.end()
    await second[0]


class Between(Objects):
    """What is between us and the store: it may change a byte, or take the checksum away."""

    def __init__(self, server: S3, *, changes: bool, checksum: bool) -> None:
        super().__init__(from_environment(server.environment()), connections=4)
        store: Any = self._quick
        sent = store._put_object

        def put(bucket: str, key: str, data: bytes, headers: dict[str, str]) -> Any:
            kept = headers if checksum else {"Content-Type": headers["Content-Type"]}
            return sent(bucket, key, b"\xff" + data[1:] if changes else data, kept)

        store._put_object = put


@pytest.mark.parametrize("checksum", [True, False])
async def test_a_pack_that_is_not_what_was_sent_is_never_accepted(
    server: S3, room: str, *, checksum: bool
) -> None:
    """A store that knows checksums refuses it, of any other it is read back; as it was sent it is taken."""
    blobs = await s3(server, patience_s=0.2)
    blobs._objects = Between(server, changes=True, checksum=checksum)
    with pytest.raises(Unavailable if checksum else KeyError):
        await blobs.put_pack(room + "pack", b"abcdef", content_type="a/b")
    assert (await blobs.stat(room + "pack") is None) == checksum

    blobs._objects = Between(server, changes=False, checksum=checksum)
    await blobs.put_pack(room + "pack", b"abcdef", content_type="a/b")
    assert await blobs.read(BlobRef(key=room + "pack", bytes=6, sha256=digest(b"abcdef"))) == b"abcdef"
    await blobs.close()
