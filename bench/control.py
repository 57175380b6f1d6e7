"""How soon a pause holds, and how soon a small batch is done, while 30,000 files are queued."""

import asyncio
import time
from secrets import token_hex

from bench.pipeline import ORIGIN, accepted_files, append, store_source
from bench.stack import settings
from tanda.adapters.nats import Connection, connect
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import new_event, singly
from tanda.contracts.subjects import batch_all, batch_subject, file_subject, group_token
from tanda.contracts.times import epoch_ms
from tests.running import Running

#: Of 10,000 nothing is left by the time that a pause arrives.
LARGE = 30_000
SMALL = 3
POLL_S = 0.002
QUIET_S = 1.5


async def run(stack: Running, files: int) -> dict[str, float]:
    """``ours``: ms from ``BatchPaused`` to the last start after it.

    ``behind_ms``: a small batch behind a large one, from its seal to its last result, and
    ``behind_completed_ms`` to its ``BatchCompleted``; ``alone_…`` are the same in an idle system.
    """
    del files
    connection = await connect(settings(stack), "bench")
    try:
        alone = await small_batch(stack, connection)
        paused = await seal(stack, connection, LARGE)
        await pause(stack, connection, paused)
        await asyncio.sleep(QUIET_S)
        held = await starts_after_pause_ms(connection, paused)
        await cancel(stack, paused)
        large = await seal(stack, connection, LARGE)
        await under_way(stack, connection, large)
        behind = await small_batch(stack, connection)
        await cancel(stack, large)
        return {
            "ours": held, "behind_ms": behind[0], "behind_completed_ms": behind[1],
            "alone_ms": alone[0], "alone_completed_ms": alone[1],
        }  # fmt: skip
    finally:
        await connection.close()


async def cancel(stack: Running, batch: tuple[str, str]) -> None:
    """Where it is not done by itself; until all that follows from it is done too."""
    async with stack.http(batch[0]) as http:
        await http.post(f"/v1/batches/{batch[1]}/cancel")
    await stack.finished(batch[1])


async def under_way(stack: Running, connection: Connection, batch: tuple[str, str]) -> None:
    """Waits until some of its files are done, as the log has it: the views are still busy with its start."""

    async def begun() -> bool:
        first = await connection.log.last(file_subject(*batch, group_token(0)))
        return first is not None and isinstance(first.event, e.FilesCompleted)

    await stack.until(begun, 60)


async def seal(stack: Running, connection: Connection, files: int, tenant: str = "") -> tuple[str, str]:
    """A sealed batch, of a tenant of its own where none is given; its tenant and id."""
    now_ms = time.time_ns() // 1_000_000
    tenant = tenant or f"bench{token_hex(3)}"
    batch_id = ids.derived_id(ids.BATCH, now_ms, tenant)
    await store_source(stack, tenant, batch_id)
    subject = batch_subject(tenant, batch_id)
    created = new_event(subject, e.BatchCreated(name="bench"), expected_seq=0, time_ms=now_ms, origin=ORIGIN)
    (seq,) = await connection.log.append([created])
    await append(connection.log, accepted_files(tenant, batch_id, files, now_ms))
    sealed = e.BatchSealed(total=files, bytes=files)
    now_ms = time.time_ns() // 1_000_000
    await connection.log.append([new_event(subject, sealed, expected_seq=seq, time_ms=now_ms, origin=ORIGIN)])
    return tenant, batch_id


async def small_batch(stack: Running, connection: Connection) -> tuple[float, float]:
    """Milliseconds from its seal to its last result and to its ``BatchCompleted``, by the events' clocks."""
    tenant, batch_id = await seal(stack, connection, SMALL)
    while True:
        last = await connection.log.last(batch_subject(tenant, batch_id))
        if last is not None and isinstance(last.event, e.BatchCompleted):
            break
        await asyncio.sleep(POLL_S)
    moments: dict[str, int] = {}
    async for chunk in connection.log.read(batch_all(tenant, batch_id)):
        moments |= {record.name: epoch_ms(record.time) for record in singly(chunk)}
    sealed = moments["BatchSealed"]
    return float(moments["FileCompleted"] - sealed), float(moments["BatchCompleted"] - sealed)


async def pause(stack: Running, connection: Connection, large: tuple[str, str]) -> None:
    """While some of its files are done and most are not."""
    await under_way(stack, connection, large)
    async with stack.http(large[0]) as http:
        (await http.post(f"/v1/batches/{large[1]}/pause")).raise_for_status()


async def starts_after_pause_ms(connection: Connection, large: tuple[str, str]) -> float:
    """0 where no file has begun after the pause."""
    paused_ms, last_ms, left = 0, 0, LARGE
    async for chunk in connection.log.read(batch_all(*large)):
        for record in singly(chunk):
            match record.event:
                case e.BatchPaused():
                    paused_ms = epoch_ms(record.time)
                case e.FileStarted():
                    last_ms = max(last_ms, epoch_ms(record.time))
                case e.FileCompleted() as done:
                    left -= 1
                    last_ms = max(last_ms, epoch_ms(done.started_at or record.time))
                case _:
                    pass
    assert paused_ms, "the batch was never paused"
    assert left, f"the batch was done; its last file began {last_ms - paused_ms} ms after the pause"
    return float(max(0, last_ms - paused_ms))
