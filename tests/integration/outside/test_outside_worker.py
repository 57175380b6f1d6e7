"""The worker with a model behind it: what a call comes to in the log and in the queue."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from services.worker.outcomes import Outcomes
from services.worker.outside import Llm
from services.worker.runner import Runner
from services.worker.sandbox.sandbox import Sandbox
from services.worker.scheduler import Scheduler
from tanda.adapters.memory import MemoryBoard, MemoryLease, MemoryLog, MemoryTimers, MemoryWork
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.subjects import batch_all, file_subject
from tanda.contracts.times import epoch_ms
from tanda.contracts.work import provider_lane
from tanda.domain import file as file_aggregate
from tanda.settings import Settings
from tests import models
from tests.batch_story import BatchStory
from tests.provider import Answer, Seen, provider

E = TypeVar("E", bound=e.Event)
DEADLINE_S = 30
LANE = provider_lane("llm-anthropic")
KEY = "sk-test-4f8a1c"
OPTIONS = {"model": "claude-test-1", "schema": {"type": "object", "required": ["número"]}}
GOOD = json.dumps({"número": "F-7"})


@dataclass
class Office:
    """A worker over memory whose only provider answers as the test says."""

    settings: Settings
    log: MemoryLog = field(default_factory=MemoryLog)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    work: MemoryWork = field(default_factory=lambda: MemoryWork(5.0))
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    #: What the provider was asked.
    calls: list[Seen] = field(default_factory=list[Seen])

    def open(self, llm: Llm, spool: Path) -> None:
        scheduler = Scheduler(
            board=MemoryBoard(), log=self.log, work=self.work, timers=MemoryTimers(), lease=MemoryLease(),
            blobs=self.blobs, settings=self.settings, name="a", lanes={},
        )  # fmt: skip
        outcomes = Outcomes(
            blobs=self.blobs, sandbox=Sandbox(self.settings), settings=self.settings, spool=spool,
            entropy=lambda: 0.0, outside={"llm": llm}, queue=self.work,
        )  # fmt: skip
        runner = Runner(
            log=self.log, work=self.work, outcomes=outcomes, settings=self.settings, name="a", lane=LANE,
            limit=8,
        )  # fmt: skip
        self.tasks += [asyncio.create_task(one.run()) for one in (scheduler, runner)]

    async def one_file(self, number: int = 1, **options: Any) -> BatchStory:
        """A batch that asks a model for one thing."""
        story = BatchStory(self.log, self.blobs, number=number)
        await story.create()
        await story.queue_with("llm", b"<factura/>", "f.xml", **OPTIONS, **options)
        await story.seal()
        return story

    async def through(self, story: BatchStory, count: int = 1) -> e.FileCompleted:
        """The last of so many results, once the work queue is rid of its file."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = [one for one in await self.events(story) if isinstance(one, e.FileCompleted)]
            if len(found) == count and not await self.work.present():
                return found[-1]
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.01)

    async def events(self, story: BatchStory) -> list[e.Event]:
        subject = batch_all(story.tenant, story.batch_id)
        return [record.event async for chunk in self.log.read(subject) for record in chunk]

    async def again(self, story: BatchStory) -> None:
        """A person asks for its file once more."""
        (file_id,) = story.file_ids
        state = file_aggregate.initial()
        for event in await self.events(story):
            state = file_aggregate.evolve(state, event)
        last = await self.log.last(file_subject(story.tenant, story.batch_id, file_id))
        assert last is not None
        story.states[file_id], story.seqs[file_id] = state, last.seq
        await story.each({file_id: c.RequeueFile(forced=True)})

    async def first(self, story: BatchStory, kind: type[E]) -> E:
        """The first event of a kind, as soon as it is in the log; no event tells the key."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            subject = batch_all(story.tenant, story.batch_id)
            events = [record async for chunk in self.log.read(subject) for record in chunk]
            assert not any(KEY in repr(record.event) for record in events)
            if found := [record.event for record in events if isinstance(record.event, kind)]:
                return found[0]
            assert time.monotonic() < deadline, [record.name for record in events]
            assert not any(task.done() for task in self.tasks), "a task of the worker ended"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def office(
    spool: Path, answer: Answer | Callable[[Seen], Answer], **changed: Any
) -> AsyncIterator[Office]:
    async with provider(answer if callable(answer) else lambda _: answer) as provided:
        settings = Settings(
            anthropic_api_key=KEY, anthropic_url=provided.base, llm_prices="claude-test-1=3/15", **changed
        )
        llm = Llm(settings)
        opened = Office(settings, calls=provided.calls)
        opened.open(llm, spool)
        try:
            yield opened
        finally:
            for task in opened.tasks:
                task.cancel()
            await asyncio.gather(*opened.tasks, return_exceptions=True)
            await llm.close()


async def test_a_good_answer_is_told_with_what_it_cost(tmp_path: Path) -> None:
    """Provider, tokens and dollars stand in the event beside the result."""
    async with office(tmp_path, models.stream(models.anthropic(GOOD))) as house:
        story = await house.one_file()
        completed = await house.first(story, e.FileCompleted)
        started = await house.first(story, e.FileStarted)
    assert started.provider == completed.provider == "llm-anthropic"
    assert msgspec.json.decode(completed.result) == json.loads(GOOD)
    usage = completed.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (models.READ, models.WRITTEN)
    assert usage.usd == pytest.approx((3 * models.READ + 15 * models.WRITTEN) / 1e6, abs=1e-6)


async def test_the_same_document_is_paid_for_once_until_somebody_asks_again(tmp_path: Path) -> None:
    """A copy costs nothing and asks nobody; a retry is a new question, and its answer counts then."""
    answers = iter(["F-7", "F-8", "F-9"])

    def answer(_: Seen) -> Answer:
        return models.stream(models.anthropic(json.dumps({"número": next(answers)})))

    async with office(tmp_path, answer) as house:
        first = await house.through(await house.one_file(1))
        copy = await house.one_file(2)
        taken = await house.through(copy)
        assert len(house.calls) == 1
        assert [type(one) for one in await house.events(copy)][-2:] == [e.FileStarted, e.FileCompleted]
        assert (taken.reused, taken.usage, taken.provider) == (True, None, None)
        assert taken.result == first.result and taken.result_sha256 == first.result_sha256
        await house.again(copy)
        retried = await house.through(copy, 2)
        assert (retried.reused, len(house.calls)) == (False, 2)
        assert retried.usage is not None and b"F-8" in bytes(retried.result)
        assert (await house.through(await house.one_file(3))).result == retried.result
        anew = await house.through(await house.one_file(4, reuse=False))
        assert (anew.reused, len(house.calls)) == (False, 3) and b"F-9" in bytes(anew.result)


async def test_an_overload_in_mid_stream_brakes_the_whole_provider(tmp_path: Path) -> None:
    """By the first delay where the provider names none; the file comes again no sooner."""
    overloaded = models.error_event(models.anthropic_error("overloaded_error", f"Overloaded, {KEY}"))
    async with office(tmp_path, models.stream([*models.anthropic(GOOD)[:4], overloaded])) as house:
        story = await house.one_file()
        failed = await house.first(story, e.FileAttemptFailed)
        braked = await house.work.braked_until(LANE)
    assert (failed.error.code, failed.provider) == ("unavailable", "llm-anthropic")
    assert failed.braked_until is not None and braked is not None
    assert epoch_ms(braked) >= epoch_ms(failed.braked_until)
    assert epoch_ms(failed.retry_at) >= epoch_ms(failed.braked_until)


async def test_a_limit_that_lasts_ends_in_quarantine(tmp_path: Path) -> None:
    """After the last attempt the file failed, to be taken up again; Retry-After holds for the others."""
    body = json.dumps(models.anthropic_error("rate_limit_error", "Too many tokens a minute")).encode()
    answer = (429, {**models.JSON, "Retry-After": "120"}, body)
    before_ms = round(time.time() * 1000)
    async with office(tmp_path, answer, attempts_max=1) as house:
        failed = await house.first(await house.one_file(), e.FileFailed)
    assert (failed.error.code, failed.quarantined) == ("rate_limited", True)
    assert "Too many tokens a minute" in failed.error.message
    assert failed.braked_until is not None and epoch_ms(failed.braked_until) >= before_ms + 120_000


async def test_an_answer_of_no_use_is_told_with_what_it_cost(tmp_path: Path) -> None:
    """Each attempt's own event has its price, since each is paid for."""
    async with office(tmp_path, models.stream(models.anthropic("{}"))) as house:
        failed = await house.first(await house.one_file(), e.FileAttemptFailed)
    assert failed.error.code == "malformed_answer" and failed.braked_until is None
    assert failed.usage is not None and failed.usage.usd is not None and failed.usage.usd > 0


async def test_bytes_that_are_gone_are_an_error_of_their_own(tmp_path: Path) -> None:
    """A source that nobody can read is told as such, and asks nobody."""
    async with office(tmp_path, models.stream(models.anthropic(GOOD)), attempts_max=1) as house:
        story = BatchStory(house.log, house.blobs)
        await story.create()
        await story.queue_with("llm", b"<factura/>", "f.xml", **OPTIONS)
        for key in await house.blobs.keys("t/"):
            await house.blobs.delete(key)
        await story.seal()
        failed = await house.first(story, e.FileFailed)
    assert failed.error.code == "source_missing"
