"""004 again, which lost files to a provider that asked for a pause."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.worker.outcomes import Outcomes
from services.worker.outside import Http
from services.worker.runner import Runner
from services.worker.sandbox.sandbox import Sandbox
from services.worker.scheduler import Fold, Scheduler
from tanda.adapters.memory import MemoryBoard, MemoryLease, MemoryLog, MemoryTimers, MemoryWork
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import events as e
from tanda.contracts.times import epoch_ms
from tanda.contracts.work import provider_lane
from tanda.settings import Settings, http_endpoints
from tests.batch_story import START_MS, BatchStory
from tests.e2e.legacy.conftest import SOON_S, Older, parts
from tests.provider import Answer, Seen, provider

SLOW_DOWN: Answer = (429, {"Retry-After": "1"}, b'{"error": {"message": "slow down"}}')
DONE: Answer = (200, {}, b"{}")
FILES = 9


async def test_three_at_a_time_against_a_rate_limited_provider(older: Older, tenant: str) -> None:
    """Never a fourth call; a 429 stops one file for 10 s at least, and takes no other with it."""
    names = [f"{tenant}-{n}.csv" for n in range(FILES)]
    older.script |= dict.fromkeys(names, lambda _: DONE)
    older.script[names[3]] = lambda _: SLOW_DOWN
    older.provider.work_s, older.provider.at_once_most = 0.1, 0
    session = "/universal-invoice/sessions"
    form = {"processor": "http", "options": '{"endpoint": "limited"}'}
    async with older.stack.http() as http:
        answer = await http.post(
            f"{session}/batch-upload/?company_id={tenant}",
            files=parts(*((name, b"a;b\n") for name in names)), data=form,
        )  # fmt: skip
        batch = answer.json()["batch_id"]

        async def all_but_one() -> bool:
            body = (await http.get(f"{session}/batch-status/{batch}?company_id={tenant}")).json()
            return (body["completed"], body["failed"], body["pending"]) == (FILES - 1, 0, 1)

        await older.stack.until(all_but_one, SOON_S)
        older.provider.work_s = 0.0
        assert older.provider.at_once_most <= 3
        (failed,) = await older.events(batch, "FileAttemptFailed")
        delay_ms = epoch_ms(failed["data"]["retry_at"]) - epoch_ms(failed["time"])
        assert 10_000 <= delay_ms <= 20_000, "10 s, and as much again by chance"
        logged(older, batch, delay_ms / 1000)
        after = await http.post(f"{session}/batch-cancel/{batch}?company_id={tenant}")
        assert after.status_code == 200 and after.json()["completed"] == FILES - 1


def logged(older: Older, batch: str, delay_s: float) -> None:
    """The lines that an operator looks for: slot n of m, attempt n of m with its delay."""
    started = [one for one in older.logged("worker", "processing started") if one["batch"] == batch]
    assert len(started) == FILES and all(" of " in one["slot"] for one in started)
    (failed,) = [one for one in older.logged("worker", "attempt failed") if one["batch"] == batch]
    assert (failed["attempt"], failed["attempts_max"], failed["code"]) == (1, 4, "rate_limited")
    assert abs(failed["delay_s"] - delay_s) <= 0.1
    done = [one for one in older.logged("worker", "completed") if one["batch"] == batch]
    assert len(done) == FILES - 1


class Worker:
    """A scheduler and a runner whose clock a test turns, with a real provider; steps instead of loops.

    The queue is the one in memory: JetStream's own pauses go by its server's clock.
    """

    def __init__(self, url: str, spool: Path) -> None:
        self.now_s = START_MS / 1000
        settings = Settings(http_endpoints=f"default={url}")
        self.log, self.blobs = MemoryLog(), MemoryBlobs()
        self._work = MemoryWork(wall_clock=self.clock)
        self._http = Http(http_endpoints(settings), settings)
        self._lane = provider_lane("http-default")
        self._fold = Fold({}, ["http-default"], settings.provider_limit)
        self._seq = 0
        shared: dict[str, Any] = {"log": self.log, "work": self._work, "settings": settings}
        shared |= {"name": "a", "clock": self.clock}
        outcomes = Outcomes(
            blobs=self.blobs, sandbox=Sandbox(settings), settings=settings, spool=spool,
            entropy=lambda: 0.0, clock=self.clock, outside=MappingProxyType({"http": self._http}),
            queue=self._work,
        )  # fmt: skip
        self._scheduler = Scheduler(
            timers=MemoryTimers(self.clock), lease=MemoryLease(), board=MemoryBoard(), blobs=self.blobs,
            lanes={}, **shared,
        )  # fmt: skip
        self._runner = Runner(outcomes=outcomes, lane=self._lane, limit=3, **shared)

    def clock(self) -> float:
        return self.now_s

    async def advance(self, seconds: float) -> None:
        """Turns the clock, and does all that is due then, until that makes no more events."""
        self.now_s = round(self.now_s + seconds, 3)
        await self._step()
        while await self.log.position() > self._seq:
            await self._step()

    async def _step(self) -> None:
        news = [record async for records in self.log.read(after=self._seq) for record in records]
        self._seq = news[-1].seq if news else self._seq
        self._fold.apply(news)
        await self._scheduler.release(self._fold.fair)
        await self._runner.handle(await self._work.take(self._lane, 3, 0.0))

    async def close(self) -> None:
        await self._http.close()


async def test_the_retries_of_a_429_come_after_10_30_and_60_s(tmp_path: Path) -> None:
    """Not a millisecond before; the fourth attempt is the last, and here it succeeds."""
    answers = [SLOW_DOWN, SLOW_DOWN, SLOW_DOWN, DONE]

    def answer(_: Seen) -> Answer:
        return answers[len(provided.calls) - 1]

    async with provider(answer) as provided:
        worker = Worker(provided.url, tmp_path)
        story = BatchStory(worker.log, worker.blobs)
        await story.create()
        await story.queue_with("http", b"a;b\n", "a.csv")
        await story.seal()
        await worker.advance(0)
        for called, delay_s in enumerate((10, 30, 60), 1):
            assert len(provided.calls) == called
            await worker.advance(delay_s - 0.001)
            assert len(provided.calls) == called, f"called again before {delay_s} s were over"
            await worker.advance(0.001)
        assert len(provided.calls) == 4
        events = [one.event async for records in worker.log.read() for one in records]
        await worker.close()
    assert isinstance(events[-1], e.FileCompleted)
    assert sum(isinstance(one, e.FileAttemptFailed) for one in events) == 3
