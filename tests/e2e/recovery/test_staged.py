"""A batch's events are sent ahead of their commit, its bytes are not durable yet, and somebody is killed."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from secrets import token_hex
from typing import Any

import httpx2
import nats
import pytest
from nats.errors import Error as NatsError

from tanda.adapters.jetstream import STAGED_MAX
from tanda.adapters.nats import connect
from tanda.contracts import events as e
from tanda.contracts.envelope import FOLLOWS, NewEvent, Origin, new_event
from tanda.contracts.subjects import batch_subject
from tanda.settings import from_environment
from tests.chaos.invariants import check
from tests.chaos.reading import read_log, read_rows
from tests.running import Running, running

#: From a kill to an accepted repeat: a start, and the 10 s for which a key belongs to its dead holder.
REPEAT_S_MAX = 60
SOON_S_MAX = 30
#: Few enough for an event each, with the batch's own two around them.
FILES = 12
#: With the server's own bound of 50 open batches seven were enough to hold everybody up.
DEAD_GATEWAYS = 20


class Wire:
    """What is sent to the log, committed or not, heard by a subscriber of its own."""

    def __init__(self) -> None:
        self.batch_id = ""
        self.commits = 0
        self._files = 0
        self._all_files = asyncio.Event()

    async def take(self, message: Any) -> None:
        self.batch_id = message.subject.split(".")[2]
        self.commits += "Nats-Batch-Commit" in message.headers
        self._files += message.headers["ce-type"].startswith("tanda.FileQueued")
        if self._files == FILES:
            self._all_files.set()

    async def staged(self) -> None:
        """Everything is there but the message that commits it."""
        async with asyncio.timeout(SOON_S_MAX):
            await self._all_files.wait()
        assert self.commits == 0


class Upload:
    """One upload and its repeats, as a client makes them."""

    def __init__(self, stack: Running) -> None:
        self._stack = stack
        self._key = token_hex(8)
        self._parts = [("files", (name, f"a;b\n{name};{self._key}\n".encode())) for name in names()]
        self.wire = Wire()
        self.answer = asyncio.Future[httpx2.Response]()

    async def post(self) -> httpx2.Response:
        async with self._stack.http() as http:
            fields, headers = {"processor": "table"}, {"Idempotency-Key": self._key}
            return await http.post("/v1/batches", files=self._parts, data=fields, headers=headers)

    async def repeated(self) -> str:
        """The batch's id, once it is accepted; every answer before that says that one may come back."""

        async def accepted() -> str | None:
            try:
                response = await self.post()
            except httpx2.TransportError:
                return None
            if response.status_code == 201:
                return response.json()["id"]
            expect_repeatable(response)
            return None

        return await self._stack.until(accepted, REPEAT_S_MAX)


def names() -> list[str]:
    return [f"{number:02d}.csv" for number in range(FILES)]


def orphaned() -> list[NewEvent]:
    """Two events of a batch that nobody is going to commit."""
    subject, origin = batch_subject("acme", f"bat_{token_hex(8)}"), Origin(source="/dead")
    created = new_event(subject, e.BatchCreated(name="x"), expected_seq=0, time_ms=1, origin=origin)
    return [created, new_event(subject, e.BatchPaused(), expected_seq=FOLLOWS, time_ms=1, origin=origin)]


def expect_repeatable(response: httpx2.Response) -> None:
    """Nothing is wrong with the request, and when to come back is told."""
    answer = response.status_code, response.json()["code"]
    assert answer in ((503, "unavailable"), (409, "idempotency_running")), response.text
    assert int(response.headers["retry-after"]) > 0


@contextlib.contextmanager
def standing_still(stack: Running, name: str) -> Generator[None]:
    """A server that does nothing for the length of the block."""
    (pid,) = stack.facts()["pids"][name]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def staged(stack: Running) -> AsyncGenerator[Upload]:
    """An upload that stays between its staging and its commit: the store takes its bytes after the block."""
    upload = Upload(stack)

    async def on_error(_: Exception) -> None:
        """Its server may be killed."""

    wire = await nats.connect(stack.facts()["nats_url"], allow_reconnect=False, error_cb=on_error)
    try:
        await wire.subscribe("ev.>", cb=upload.wire.take)
        await wire.flush()
        with standing_still(stack, "s3"):
            upload.answer = asyncio.ensure_future(upload.post())
            await upload.wire.staged()
            yield upload
            assert upload.wire.commits == 0
    finally:
        await wire.close()


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("staged")
    folder.chmod(0o711)
    async with running(folder / "data", env={"TANDA_PATIENCE_S": "6", "TANDA_APPEND_TIMEOUT_S": "2"}) as one:
        yield one


async def expect_nothing_of(stack: Running, batch_id: str) -> None:
    """Neither the log nor a view knows of the batch."""
    assert batch_id not in {one.batch_id for one in await read_log(stack.facts())}
    for view in ("view_batches.batches", "view_files.files"):
        assert await read_rows(stack.facts(), f"select from {view} where batch_id = '{batch_id}'") == []


async def expect_whole(stack: Running, batch_id: str) -> None:
    """The log has every file once, each is completed, and all holds that must hold after a disaster."""
    assert (await stack.finished(batch_id))["counts"]["completed"] == FILES
    of_batch = [one for one in await read_log(stack.facts()) if one.batch_id == batch_id]
    assert Counter(one.data["name"] for one in of_batch if one.name == "FileQueued") == Counter(names())
    await check(stack, [batch_id], verify_views=False)


async def nats_answers(stack: Running, before: int) -> bool:
    """Another process is the log's server, and it has read its log."""
    if stack.facts()["pids"]["nats"] in ([], [before]):
        return False
    with contextlib.suppress(OSError, NatsError):
        await read_log(stack.facts())
        return True
    return False


def staged_on_disk(stack: Running) -> int:
    """How many batches the log's server keeps for a commit."""
    return len(list((stack.data / "nats").glob("jetstream/*/streams/EVENTS/batches/*")))


async def test_a_gateway_is_killed_before_the_commit(stack: Running) -> None:
    """The batch is in no log and no view; the next gateway takes the same upload as if it were the first."""
    async with staged(stack) as upload:
        stack.kill("gateway")
        with pytest.raises(httpx2.TransportError):
            await upload.answer
    await expect_nothing_of(stack, upload.wire.batch_id)
    assert await upload.repeated() == upload.wire.batch_id
    await expect_whole(stack, upload.wire.batch_id)


async def test_the_log_forgets_what_was_staged(stack: Running) -> None:
    """Its server is another one when the commit comes: the gateway sends all of it again."""
    async with staged(stack) as upload:
        killed = stack.kill("nats")
        await stack.until(lambda: nats_answers(stack, killed), SOON_S_MAX)
        assert staged_on_disk(stack) == 0
    assert (await upload.answer).status_code == 201
    assert await upload.repeated() == upload.wire.batch_id
    await expect_whole(stack, upload.wire.batch_id)


async def test_the_commit_finds_no_server(stack: Running) -> None:
    """The client is told to come back, and what was on its way in vain makes nothing twice."""
    with contextlib.ExitStack() as until_answered:
        async with staged(stack) as upload:
            until_answered.enter_context(stack.away("nats"))
        expect_repeatable(await upload.answer)
    assert await upload.repeated() == upload.wire.batch_id
    await expect_whole(stack, upload.wire.batch_id)


async def test_many_dead_gateways_hold_nobody_up(stack: Running) -> None:
    """What they had sent ahead is still open at the log's server, and an upload is accepted at once."""
    env = {"TANDA_NATS_URL": stack.facts()["nats_url"], "TANDA_DATA": str(stack.data / "dead")}
    for _ in range(DEAD_GATEWAYS):
        gateway = await connect(from_environment(env), "dead")
        for _ in range(STAGED_MAX):
            assert await gateway.log.stage(orphaned())
        await gateway.log.position()
        await gateway.close()
    answer = await Upload(stack).post()
    assert answer.status_code == 201, answer.text
    await expect_whole(stack, answer.json()["id"])
