"""The stored documents; what is gone is built again, once for everybody who asks."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from tanda.contracts.events import BatchCompleted
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_subject
from tanda.domain.errors import LogDamaged, NotFound
from tanda.ports import Blobs, Log
from tanda.results.document import Built, build, written
from tanda.results.fold import DocumentFold

CONTENT_TYPE = "application/json"

#: Builds that one process runs at once: each may hold a spool in memory and two on disk.
_BUILDS_MAX = 4

_log = structlog.get_logger("tanda.results")

_Flight: TypeAlias = tuple[str, str, int]


class ResultsCache:
    """The stored result JSON of every version of every batch; what is gone is built again.

    ``spool`` is a folder for temporary files. One instance per process: it is what makes a hundred
    requests for the same missing object one build.
    """

    def __init__(self, log: Log, blobs: Blobs, spool: Path) -> None:
        self._log = log
        self._blobs = blobs
        self._spool = spool
        self._flights: dict[_Flight, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_BUILDS_MAX)

    async def open(
        self, tenant: str, batch_id: str, version: int, through_seq: int, expected: BlobRef
    ) -> tuple[BlobRef, bool]:
        """Where the result JSON is, and whether it was there already (``Tanda-Cache: hit``).

        ``expected`` and ``through_seq`` are those of the ``BatchCompleted`` of this version. Raises
        LogDamaged where a rebuild gives other bytes, ResultLost where a large result is gone.
        """
        flight = (tenant, batch_id, version)
        if flight not in self._flights and await self._stored(expected):
            return expected, True
        task = self._flights.get(flight)
        if task is None:
            task = asyncio.create_task(self._restore(tenant, batch_id, version, through_seq, expected))
            self._flights[flight] = task
            task.add_done_callback(self._landed(flight))
        # A caller that goes away does not take the build from the others.
        await asyncio.shield(task)
        return expected, False

    async def recorded(self, tenant: str, batch_id: str, version: int) -> BatchCompleted:
        """The event of a version: what ``open`` wants to know. NotFound where there is none (yet)."""
        async for records in self._log.read(batch_subject(tenant, batch_id)):
            for record in records:
                if isinstance(record.event, BatchCompleted) and record.event.version == version:
                    return record.event
        raise NotFound("results_not_ready", f"There are no results of version {version}.")

    @asynccontextmanager
    async def partial(self, tenant: str, batch_id: str) -> AsyncGenerator[Built, None]:
        """The document as of now, with version 0 and each file's present status; gone on leaving."""
        async with self._room:
            document = await build(self._log, self._blobs, self._spool, tenant, batch_id, version=0)
        with _discarding(document) as built:
            yield built

    async def store(
        self, tenant: str, batch_id: str, version: int, through_seq: int, draft: DocumentFold | None = None
    ) -> Built:
        """Builds a version and puts it where its ``ref`` says, not yet durable: the barrier is the caller's.

        With a ``draft`` as of ``through_seq`` the log is not read, and no build waited for. The returned
        file itself is discarded already.
        """
        if draft is not None:
            return await self._stored_of(written(draft, self._blobs, self._spool, tenant, version))
        async with self._room:
            return await self._stored_of(self._build(tenant, batch_id, version, through_seq))

    async def _stored_of(self, making: Coroutine[Any, Any, Built]) -> Built:
        with _discarding(await making) as built:
            await self._put(built)
            return built

    async def _restore(
        self, tenant: str, batch_id: str, version: int, through_seq: int, expected: BlobRef
    ) -> None:
        async with self._room:
            if await self._stored(expected):
                return  # by a flight that landed while this one's caller was asking
            _log.info("Results that were gone are built again.", batch=batch_id, version=version)
            with _discarding(await self._build(tenant, batch_id, version, through_seq)) as built:
                if built.ref != expected:
                    _log.error(
                        "Rebuilt results differ from those that were recorded; not storing them.",
                        batch=batch_id, version=version, recorded=expected.sha256, rebuilt=built.sha256,
                    )  # fmt: skip
                    raise LogDamaged(f"{batch_id}: the results of version {version} cannot be repeated")
                await self._put(built)

    async def _stored(self, expected: BlobRef) -> bool:
        stat = await self._blobs.stat(expected.key)
        return stat is not None and stat.bytes == expected.bytes

    async def _build(self, tenant: str, batch_id: str, version: int, through_seq: int) -> Built:
        return await build(
            self._log,
            self._blobs,
            self._spool,
            tenant,
            batch_id,
            version=version,
            through_seq=through_seq,
        )

    async def _put(self, built: Built) -> None:
        await self._blobs.put(built.ref.key, built.content, sha256=built.sha256, content_type=CONTENT_TYPE)

    def _landed(self, flight: _Flight) -> Callable[[asyncio.Task[None]], Any]:
        def landed(task: asyncio.Task[None]) -> None:
            self._flights.pop(flight, None)
            if not task.cancelled():
                task.exception()  # seen here, so that a build whose callers all left says nothing

        return landed


@contextmanager
def _discarding(built: Built) -> Generator[Built, None, None]:
    """A built document for the length of a block."""
    try:
        yield built
    finally:
        built.discard()
