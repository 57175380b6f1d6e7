"""What happens to a batch: which process dies when, and what people ask meanwhile."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.chaos.reading import apart, read_log
from tests.provider import Answer, Seen
from tests.running import Running, post_batch

FINISH_S_MAX = 300.0
BACK_S_MAX = 60.0
ASK_S_MAX = 20.0
#: Refused twice, these calls' third attempt waits up to 5 s for its timer.
REFUSALS = 2

Happens = Callable[[Running, list[Path]], Awaitable[tuple[str, dict[str, Any]]]]


@dataclass(frozen=True)
class Story:
    happens: Happens
    answer: Callable[[Seen], Answer | None] = lambda _: (200, {}, b"{}")


async def upload(stack: Running, paths: list[Path], **fields: str) -> str:
    async with stack.http() as http:
        created = await post_batch(http, paths, **fields)
    assert created.status_code == 201, created.text
    return created.json()["id"]


async def reached(stack: Running, batch_id: str, part: float) -> int:
    """Files settled, once they are this part of the batch."""

    async def look() -> int:
        counts = (await stack.batch(batch_id) or {"counts": Counter[str]()})["counts"]
        settled = sum(counts[one] for one in ("completed", "failed", "rejected", "cancelled"))
        return settled if settled >= part * max(counts["total"], 1) else 0

    return await stack.until(look, FINISH_S_MAX)


async def killed(stack: Running, name: str) -> None:
    """kill -9 of every process of a service or server, until the supervisor has another one."""
    pids = set(stack.facts()["pids"][name])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await stack.until(lambda: pids.isdisjoint(now := stack.facts()["pids"][name]) and now, BACK_S_MAX)


async def lights_out(stack: Running) -> None:
    """kill -9 of the supervisor and everything; then ``tanda up`` again."""
    stack.kill_everything()
    await stack.start()


async def ask(stack: Running, batch_id: str, verb: str) -> httpx2.Response | None:
    """A command under its key; None where nobody answered."""
    try:
        async with httpx2.AsyncClient(base_url=stack.url, timeout=ASK_S_MAX) as http:
            headers = {"Idempotency-Key": f"{batch_id}-{verb}"}
            return await http.post(f"/v1/batches/{batch_id}/{verb}", headers=headers)
    except (OSError, ValueError, httpx2.TransportError):
        return None


async def done(stack: Running, batch_id: str, verb: str) -> None:
    """Asks under one key until it is accepted."""

    async def accepted() -> bool:
        answer = await ask(stack, batch_id, verb)
        return answer is not None and answer.status_code == 202

    await stack.until(accepted, BACK_S_MAX)


async def starts(stack: Running, batch_id: str) -> list[int]:
    """The positions at which files of this batch began, or began and ended at once."""
    names = ("FileStarted", "FileCompleted")
    events = apart(await read_log(stack.facts()))
    return [one.seq for one in events if one.batch_id == batch_id and one.name in names]


async def kills(stack: Running, paths: list[Path]) -> tuple[str, dict[str, Any]]:
    """The workers at 30 %, NATS at 60 %, everything at 80 %."""
    batch_id = await upload(stack, paths)
    seen = {"workers killed at": await reached(stack, batch_id, 0.3)}
    await killed(stack, "worker")
    seen["nats at"] = await reached(stack, batch_id, 0.6)
    await killed(stack, "nats")
    seen["everything at"] = await reached(stack, batch_id, 0.8)
    await lights_out(stack)
    await stack.finished(batch_id, FINISH_S_MAX)
    return batch_id, seen


async def paused(stack: Running, paths: list[Path]) -> tuple[str, dict[str, Any]]:
    """Paused at 30 %; then the workers, NATS and everything die, and it goes on when it is told to."""
    batch_id = await upload(stack, paths)
    seen: dict[str, Any] = {"paused at": await reached(stack, batch_id, 0.3)}
    await done(stack, batch_id, "pause")
    await killed(stack, "worker")
    await killed(stack, "nats")
    await lights_out(stack)
    seen["settled after it"] = await reached(stack, batch_id, 0.3)
    before = await starts(stack, batch_id)
    other = await upload(stack, paths[:20], name="another one")
    await stack.finished(other, FINISH_S_MAX)
    now = await stack.batch(batch_id) or {}
    assert now["status"] == "paused"
    assert await starts(stack, batch_id) == before, "a paused batch went on"
    await done(stack, batch_id, "resume")
    await stack.finished(batch_id, FINISH_S_MAX)
    return batch_id, seen


async def cancelled(stack: Running, paths: list[Path]) -> tuple[str, dict[str, Any]]:
    """Cancelled while NATS is away, which is refused; everything dies; asked again under its key."""
    batch_id = await upload(stack, paths)
    seen: dict[str, Any] = {"nats killed at": await reached(stack, batch_id, 0.3)}
    with stack.away("nats"):
        answer = await ask(stack, batch_id, "cancel")
        seen["answer without nats"] = answer and answer.status_code
        assert answer is None or answer.status_code == 503, answer.text
    await lights_out(stack)
    await done(stack, batch_id, "cancel")
    await stack.finished(batch_id, FINISH_S_MAX)
    return batch_id, seen


async def retrying(stack: Running, paths: list[Path]) -> tuple[str, dict[str, Any]]:
    """Everything dies while many files wait for the timer of their next attempt."""
    batch_id = await upload(stack, paths, processor="http", options='{"endpoint": "outside"}')

    async def many_wait() -> int:
        async with stack.http() as http:
            page = await http.get(f"/v1/batches/{batch_id}/files?status=retrying&limit=200")
        return len(page.json()["data"]) if len(page.json()["data"]) >= len(paths) / 10 else 0

    seen = {"waited for their timer": await stack.until(many_wait, FINISH_S_MAX)}
    await lights_out(stack)
    await reached(stack, batch_id, 0.5)
    await killed(stack, "nats")
    await stack.finished(batch_id, FINISH_S_MAX)
    return batch_id, seen


async def damaged(stack: Running, paths: list[Path]) -> tuple[str, dict[str, Any]]:
    """Everything dies at 60 %, and a bit of the log's first half flips: refused, restored, and it goes on."""
    batch_id = await upload(stack, paths)
    seen: dict[str, Any] = {"everything killed at": await reached(stack, batch_id, 0.6)}
    before = await read_log(stack.facts())
    stack.kill_everything()
    (block,) = (stack.data / "nats").rglob("streams/EVENTS/msgs/*.blk")
    content = bytearray(block.read_bytes())
    content[content.index(before[len(before) // 2].id.encode())] ^= 1
    block.write_bytes(content)
    refused = await asyncio.to_thread(stack.tanda, "up", "--port", "0")
    assert refused.returncode == 3 and "The event log is damaged" in refused.stderr, refused.stderr
    restored = stack.tanda("replay", "--from-archive")
    assert restored.returncode == 0, restored.stderr
    seen["said"] = [line for line in restored.stdout.splitlines() if "events" in line and "/s" not in line]
    await stack.start()
    await stack.finished(batch_id, FINISH_S_MAX)
    return batch_id, seen


def refuses_twice(seen: Seen) -> Answer:
    """An outside service that fails for each file's first two attempts."""
    attempt = seen.headers["idempotency-key"].rpartition("-")[2]
    if int(attempt) <= REFUSALS:
        return 500, {}, b'{"error": {"message": "not now"}}'
    return 200, {}, b"{}"


STORIES = {
    "kills": Story(kills),
    "paused": Story(paused),
    "cancelled": Story(cancelled),
    "retrying": Story(retrying, refuses_twice),
    "damaged": Story(damaged),
}
