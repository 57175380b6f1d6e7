"""Bytes that went wrong on the disk are found, and never served as good."""

import hashlib
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tanda.adapters.nats import connect
from tanda.adapters.s3 import S3Blobs
from tanda.contracts import events as e
from tanda.contracts.envelope import Origin, Recorded, new_event
from tanda.contracts.subjects import batch_subject
from tanda.domain.errors import TandaError
from tanda.embedded import Servers, servers
from tanda.settings import Settings, from_environment

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

EVENTS = 200


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """Servers of this module's own: they do not survive it whole."""
    folder = tmp_path_factory.mktemp("damage")
    folder.chmod(0o711)
    async with servers(folder / "data") as running:
        yield running


def settings(own: Servers, folder: Path) -> Settings:
    return from_environment({**own.env, "TANDA_DATA": str(folder)})


def flip(file: Path, needle: bytes) -> None:
    """One bit, within the only place where these bytes are."""
    data = bytearray(file.read_bytes())
    place = data.index(needle)
    data[place + len(needle) // 2] ^= 1
    file.write_bytes(data)


async def kill(own: Servers) -> None:
    os.kill(own.nats.pid, signal.SIGKILL)
    await own.nats.exited()


async def write_events(own: Servers, folder: Path) -> tuple[int, str]:
    """Named so that each can be found in the block; the last one's position and id."""
    connection = await connect(settings(own, folder), "test")
    try:
        first = await connection.log.position()
        events = [
            new_event(
                batch_subject("acme", f"bat_{first + number}"),
                e.BatchCreated(name=f"name-{first + number:05}"),
                expected_seq=0, time_ms=1, origin=Origin(source="/test"),
            )
            for number in range(EVENTS)
        ]  # fmt: skip
        return (await connection.log.append(events))[-1], events[-1].id
    finally:
        await connection.close()


async def read_all(own: Servers, folder: Path, last: tuple[int, str]) -> list[Recorded]:
    """As a reader does that had seen the end; TandaError where the log is not what it was."""
    connection = await connect(settings(own, folder), "test")
    try:
        async for _ in connection.log.follow(0):
            break
        found = [record async for chunk in connection.log.read() for record in chunk]
        at_end = await connection.log.get(last[0])
        if len(found) < last[0] or at_end is None or at_end.id != last[1]:
            # What a projector asks before it goes on from its checkpoint.
            async for _ in connection.log.follow(*last):
                break
        return found
    finally:
        await connection.close()


def block(own: Servers) -> Path:
    blocks = sorted((own.nats.folder.path / "nats").rglob("streams/EVENTS/msgs/*.blk"))
    return max(blocks, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("how", ["flipped", "torn"])
async def test_a_damaged_block_of_the_log_is_found(own: Servers, tmp_path: Path, how: str) -> None:
    """Readers refuse the log, or it is still whole: no event of it is another than was written."""
    last = await write_events(own, tmp_path)
    await kill(own)
    if how == "flipped":
        flip(block(own), f"name-{last[0] - EVENTS // 2:05}".encode())
    else:
        os.truncate(block(own), block(own).stat().st_size - 700)
    await own.nats.start()
    with pytest.raises(TandaError):
        await read_all(own, tmp_path, last)


async def test_a_damaged_object_is_not_served(own: Servers, tmp_path: Path) -> None:
    """A read of it fails; nobody gets the wrong bytes."""
    blobs = S3Blobs(settings(own, tmp_path))
    try:
        body = random.Random(1).randbytes(100_000)  # the store would compress a text
        digest = hashlib.sha256(body).hexdigest()
        ref = await blobs.put(
            "t/acme/results/x", body, sha256=digest, content_type="application/octet-stream"
        )
        assert await blobs.read(ref) == body
        os.kill(own.s3.pid, signal.SIGKILL)
        await own.s3.exited()
        volumes = [path for path in own.s3.sync_dir.rglob("*.dat") if body[:200] in path.read_bytes()]
        for volume in volumes:
            flip(volume, body[:200])
        assert volumes
        await own.s3.start()
        with pytest.raises(TandaError):
            await blobs.read(ref)
    finally:
        await blobs.close()
