"""What a connection does when its server was killed and comes back without what it had in memory."""

import os
import signal
import time
from pathlib import Path

import pytest

from tanda.adapters.nats import Connection, connect
from tanda.contracts import events as e
from tanda.contracts.envelope import Origin, new_event
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_subject
from tanda.contracts.work import WorkItem
from tanda.domain.errors import Unavailable
from tests.stack import Stack

DEADLINE_S = 15


async def within_deadline(connection: Connection, lane: str, tenant: str) -> WorkItem:
    """Puts an item and takes it back, as often as it takes."""
    source = BlobRef(key="t/x", bytes=1, sha256="0")
    item = WorkItem(
        tenant=tenant, batch_id="bat_1", file_id="fil_1", seq=1, attempt=1, name="a", content_type="a/b",
        bytes=1, sha256="0", source=source, processor="noop", lane=lane,
    )  # fmt: skip
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            await connection.work.put([item])
            if taken := await connection.work.take(lane, 1, 5.0):
                await taken[0].done()
                return taken[0].item
        except Unavailable:
            continue
    raise AssertionError("the work queue did not come back")


async def test_everything_goes_on_after_a_kill(servers: Stack, tmp_path: Path, tenant: str) -> None:
    """The log has what it had; queue and lease are there again, with no process restarted."""
    if servers.embedded is None:
        pytest.skip("only the embedded server can be killed")
    connection = await connect(servers.settings(tmp_path), "test")
    try:
        subject = batch_subject(tenant, "bat_1")
        created = new_event(
            subject, e.BatchCreated(name="x"), expected_seq=0, time_ms=1, origin=Origin(source="/test")
        )
        (seq,) = await connection.log.append([created])
        reader = connection.log.follow(seq, created.id)
        await within_deadline(connection, "before", tenant)
        nats = servers.embedded.nats
        os.kill(nats.pid, signal.SIGKILL)
        await nats.exited()
        await nats.start()
        assert (await within_deadline(connection, "after", tenant)).lane == "after"
        assert await connection.lease.hold("restart", tenant)
        paused = new_event(
            subject, e.BatchPaused(), expected_seq=seq, time_ms=2, origin=Origin(source="/test")
        )
        await connection.log.append([paused])
        assert (await anext(reader))[0].id == paused.id
        await reader.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        await connection.close()
