"""A log and an object store with storage processes upon them, which can be killed at any step."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from services.storage.storage import Storage
from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import events as e
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable
from tanda.results import build
from tanda.settings import Settings
from tests.batch_story import BatchStory, digest


class Mortal:
    """A port over a real adapter, counted at every call before and after; it dies at one of them."""

    def __init__(self, inner: Any, life: "Life") -> None:
        self._inner = inner
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in ("read", "follow", "stream") and not asyncio.iscoroutinefunction(method):
            return method if isinstance(self._inner, MemoryBlobs) else self._stream(method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._life.step(f"before {name}")
            result = await method(*args, **kwargs)
            self._life.step(f"after {name}")
            return result

        return call

    def _stream(self, method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async for item in method(*args, **kwargs):
                self._life.step("stream")
                yield item

        return stream


class Life:
    """Of one process: it ends at its ``deadline``-th step, and then nothing it calls happens any more."""

    def __init__(self, deadline: int | None = None, watch: Callable[[], None] = lambda: None) -> None:
        self.steps = 0
        self.dead = asyncio.Event()
        self._deadline = deadline
        self._watch = watch

    def step(self, name: str) -> None:
        self._watch()
        self.steps += 1
        if self.dead.is_set() or self.steps == self._deadline:
            self.dead.set()
            raise asyncio.CancelledError(name)


class World:
    """A log and an object store, and storage processes upon them."""

    def __init__(self, spool: Path) -> None:
        self.log = MemoryLog()
        self.blobs = MemoryBlobs()
        self.spool = spool
        self._names = itertools.count()

    def story(self, number: int = 1) -> BatchStory:
        return BatchStory(self.log, self.blobs, number=number)

    def storage(self, life: Life | None = None, log: Any = None, blobs: Any = None) -> Storage:
        life = life or Life(watch=self.check_sources)
        return Storage(
            log=Mortal(log or self.log, life), blobs=Mortal(blobs or self.blobs, life), settings=Settings(),
            spool=self.spool, name=f"s{next(self._names)}",
        )  # fmt: skip

    @asynccontextmanager
    async def running(self, storage: Storage | None = None) -> AsyncIterator[Storage]:
        storage = storage or self.storage()
        task = asyncio.create_task(storage.run())
        try:
            yield storage
            assert not task.done(), task.result()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def settle(self, *stores: Storage, life: Life | None = None) -> None:
        """Waits until nothing is left to do, or until the process is dead."""
        deadline = time.monotonic() + 20
        while not (life and life.dead.is_set()):
            position = await self.log.position()
            if all(one.idle and one.position == position for one in stores):
                return
            assert time.monotonic() < deadline, "storage does not come to rest"
            await asyncio.sleep(0.001)

    async def events(self, kind: type[e.Event]) -> list[Any]:
        return [
            record.event
            async for chunk in self.log.read()
            for record in chunk
            if isinstance(record.event, kind)
        ]

    def check_sources(self) -> None:
        """I5: every source is where its event says, or in the archive, byte for byte."""
        for record in self.log._events:
            if isinstance(record.event, e.FileQueued):
                ref = record.event.source
                places = [ref, msgspec.structs.replace(ref, key=ref.key.replace("/src/", "/archive/"))]
                assert any(self._holds(place) for place in places), f"{ref.key} is lost"

    def _holds(self, ref: BlobRef) -> bool:
        data = self.blobs.objects.get(ref.key, b"")[ref.offset : ref.offset + ref.bytes]
        return len(data) == ref.bytes and digest(data) == ref.sha256

    async def check_results(self, story: BatchStory, versions: int) -> list[e.BatchCompleted]:
        """One BatchCompleted per version, and its document is stored and is what a fresh build gives."""
        completed = await self.events(e.BatchCompleted)
        assert [one.version for one in completed] == list(range(1, versions + 1))
        for one in completed:
            stored = await self.blobs.read(one.results)
            built = await build(
                self.log, self.blobs, self.spool, story.tenant, story.batch_id,
                version=one.version, through_seq=one.through_seq,
            )  # fmt: skip
            assert built.open().read() == stored
            built.discard()
        return completed


def sources(world: World, part: str) -> list[str]:
    return [key for key in world.blobs.objects if part in key]


async def mixed(story: BatchStory) -> None:
    """A pack that completes, a pack of which one file fails, one object alone and a rejected file."""
    await story.create()
    await story.upload([b"uno", b"dos"], pack=True)
    await story.upload([b"tres", b"cuatro"], pack=True)
    await story.upload([b"cinco"])
    await story.reject()
    await story.seal(rejected=1)
    await story.complete(0, 1, 2, 4)
    await story.fail(3)


@asynccontextmanager
async def running_until_dead(storage: Storage) -> AsyncIterator[None]:
    task = asyncio.create_task(storage.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Failing:
    """A port of which one call in six fails, before or after it has done its work."""

    def __init__(self, inner: Any, chance: Random) -> None:
        self._inner = inner
        self._chance = chance
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            fate = self._chance.random()
            if fate > 1 / 6:
                return await method(*args, **kwargs)
            self.failures += 1
            if fate > 1 / 12:
                await method(*args, **kwargs)  # done, and nobody was told
            raise Unavailable("s3", "no answer")

        return call


class Outrun:
    """A log that does not answer the first append, and before the second one somebody else writes."""

    def __init__(self, inner: MemoryLog, deed: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._deed = deed
        self._appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def append(self, events: Any) -> list[int]:
        self._appends += 1
        if self._appends == 1:
            raise Unavailable("nats", "no answer")
        if self._appends == 2:
            await self._deed()
        return await self._inner.append(events)
