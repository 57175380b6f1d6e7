"""From a released file to what is to be said of it: fetch, process in the sandbox, store, decide.

Everything that ``FileCompleted`` names is durable when this returns.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex, token_urlsafe
from types import MappingProxyType
from typing import TypeVar

import msgspec
import structlog

from services.worker.outside import Call, Outside
from services.worker.reuse import Reuse, may_take, reuse_key
from services.worker.sandbox.sandbox import Job, Limits, Sandbox
from tanda.contracts import commands as c
from tanda.contracts.codec import encode
from tanda.contracts.events import NO_RESULT
from tanda.contracts.results import (
    RESULT_INLINE_BYTES_MAX,
    Artifact,
    BlobRef,
    Failure,
    FileError,
    Pending,
    Result,
    SourceFile,
    StoredArtifact,
)
from tanda.contracts.times import epoch_ms, rfc3339
from tanda.contracts.work import WorkItem, lane_provider
from tanda.domain.callback import Named, make_token, token_sha256
from tanda.domain.errors import Unavailable
from tanda.domain.retries import PROVIDER_CODES, PROVIDER_DELAYS_S, RETRY_AFTER_S_MAX, decide_retry
from tanda.ports import Blobs, WorkQueue
from tanda.settings import Settings

_log = structlog.get_logger("tanda.runner")

_JSON = "application/json"
_MISSING = Failure(
    code="source_missing", message="The stored file is gone or damaged; upload it again.", retryable=True
)
#: Between two tries on a server that does not answer; each try has its own patience.
TROUBLE_WAIT_S = 1.0
#: What drawing a file's pages may take. A page takes some 15 ms of CPU; the worst of a collection of hostile
#: files took 1 s. A machine under load is given its time.
DRAWING_CPU_S = 3
DRAWING_WALL_S = 20.0

T = TypeVar("T")


class Outcomes:
    """Turns work items into ``CompleteFile`` or ``FailFile``."""

    def __init__(
        self, *, blobs: Blobs, sandbox: Sandbox, settings: Settings, spool: Path,
        entropy: Callable[[], float], clock: Callable[[], float] = time.time,
        outside: Mapping[str, Outside] = MappingProxyType({}), queue: WorkQueue | None = None,
    ) -> None:  # fmt: skip
        """``outside`` are the processors that call a provider, ``queue`` is where its lane is braked."""
        self._blobs = blobs
        self._reuse = Reuse(blobs)
        self._sandbox = sandbox
        self._settings = settings
        self._spool = spool
        self._entropy = entropy
        self._clock = clock
        self._outside = outside
        self._queue = queue

    def quick(self, *items: WorkItem) -> bool:
        """Whether items are so cheap that they go in groups."""
        known = self._sandbox.known
        return all(one in known and known[one].trusted for one in {item.processor for item in items})

    def version(self, processor: str) -> str:
        """A processor's version; "0" for one that this worker does not have."""
        known = self._outside.get(processor) or self._sandbox.known.get(processor)
        return known.version if known else "0"

    def versions(self) -> dict[str, str]:
        """Every processor that this worker has, with its version."""
        return {name: known.version for name, known in (*self._sandbox.known.items(), *self._outside.items())}

    async def of(self, items: Sequence[WorkItem]) -> list[c.Command]:
        """One command for each item, in their order; several that are not quick share a child."""
        if self.quick(*items):
            return [await self._quick(item) for item in items]  # a task each would cost more than the work
        if len(items) == 1:
            return [await self._one(items[0])]
        return await self._together(items)

    async def _quick(self, item: WorkItem) -> c.Command:
        """Called in this process, thousands a second: no step is taken that most of them do not need."""
        if item.processor_version is not None and item.processor_version != self.version(item.processor):
            return await self._failed(item, self._other_version(item), 0)
        begun = time.perf_counter()
        outcome = self._sandbox.run_trusted(_job(item, self._spool))
        duration_ms = round((time.perf_counter() - begun) * 1000)
        if isinstance(outcome, Result) and not outcome.artifacts:
            body = encode(outcome.data)
            if len(body) <= RESULT_INLINE_BYTES_MAX:
                return self._told(item, outcome, body, duration_ms)
        return await self._command(item, outcome, "", duration_ms)

    async def _one(self, item: WorkItem) -> c.Command:
        begun = time.perf_counter()
        if (stored := await self._stored(item)) is not None:
            return await self._taken(item, stored, round((time.perf_counter() - begun) * 1000))
        token = self._token(item) if item.processor in self._outside else ""
        outcome = await self._patiently(item, lambda: self._process(item, token))
        return await self._command(item, outcome, token, round((time.perf_counter() - begun) * 1000))

    def _token(self, item: WorkItem) -> str:
        """What a remote service confirms the file with."""
        return make_token(Named(item.tenant, item.batch_id, item.file_id, item.attempt), token_urlsafe(32))

    # -- results that are there already

    async def keep(self, item: WorkItem, command: c.Command) -> None:
        """Lets later files have an outcome that is in the log, where it is a result of reusable work."""
        if not isinstance(command, c.CompleteFile) or command.reused:
            return
        if "not_drawn" in command.warnings:
            return  # a drawing may fail for want of time, and the next one need not
        if (key := self._reuse_key(item)) is not None:
            await self._reuse.keep(key, command)

    def _reuse_key(self, item: WorkItem) -> str | None:
        """Where a result is that an item may have; None where it is always worked on."""
        known = self._sandbox.known.get(item.processor)
        if outside := self._outside.get(item.processor):
            question = outside.question(item)
        else:
            question = b"" if known is not None and known.reusable else None
        return None if question is None else reuse_key(item, self.version(item.processor), question)

    async def _stored(self, item: WorkItem) -> Result | None:
        key = self._reuse_key(item) if may_take(item) else None
        return None if key is None else await self._reuse.find(key)

    async def _taken(self, item: WorkItem, stored: Result, duration_ms: int) -> c.Command:
        """As if it had just been made, but that nobody was asked and nothing paid."""
        _log.info("a stored result is taken", batch=item.batch_id, file=item.file_id, attempt=item.attempt,
                  duration_ms=duration_ms)  # fmt: skip
        done = await self._patiently(item, lambda: self._completed(item, stored, duration_ms))
        return msgspec.structs.replace(done, reused=True, provider=None)

    # -- work

    async def _together(self, items: Sequence[WorkItem]) -> list[c.Command]:
        """Of files that share a child nobody knows how long each took: all get the same share."""
        begun = time.perf_counter()
        outcomes = await self._patiently(items[0], lambda: self._process_together(items))
        share_ms = round((time.perf_counter() - begun) * 1000 / len(items))
        return await asyncio.gather(
            *(self._command(item, one, "", share_ms) for item, one in zip(items, outcomes, strict=True))
        )

    async def _command(
        self, item: WorkItem, outcome: Result | Failure | Pending, token: str, duration_ms: int
    ) -> c.Command:
        if isinstance(outcome, Failure):
            return await self._failed(item, outcome, duration_ms)
        if isinstance(outcome, Pending):
            deadline = rfc3339(int((self._clock() + outcome.deadline_s) * 1000))
            return c.AwaitFile(token_sha256=token_sha256(token), deadline=deadline)
        if not self.quick(item):
            _log.info("completed", batch=item.batch_id, file=item.file_id, attempt=item.attempt,
                      duration_ms=duration_ms)  # fmt: skip
        return await self._patiently(item, lambda: self._completed(item, outcome, duration_ms))

    async def _patiently(self, item: WorkItem, call: Callable[[], Awaitable[T]]) -> T:
        """Waits out an object store that does not answer, for as long as it takes: the lease is kept.

        Giving the file back would start it again, and a store that is away for a minute would make
        poison of files that have nothing wrong with them.
        """
        while True:
            try:
                return await call()
            except Unavailable as error:
                _log.warning(
                    "a file waits for a server", batch=item.batch_id, file=item.file_id, error=str(error)
                )
                await asyncio.sleep(TROUBLE_WAIT_S)

    async def _process(self, item: WorkItem, token: str) -> Result | Failure | Pending:
        if item.processor_version not in (None, self.version(item.processor)):
            return self._other_version(item)
        try:
            if outside := self._outside.get(item.processor):
                await self._wait_out_brake(item.lane)
                return await outside.call(self._call(item, token))
            return await self._process_here(item)
        except KeyError:
            return _MISSING

    def _other_version(self, item: WorkItem) -> Failure:
        """Never a result of another version; a worker that has it may take the next attempt."""
        name, wanted = item.processor, item.processor_version
        message = (
            f"Version {wanted} of {name} was asked for, and this worker has {self.version(name)}. Start a "
            f"worker that has it, or retry the file without a version."
        )
        return Failure(code="unknown_processor", message=message, retryable=True)

    async def _process_here(self, item: WorkItem) -> Result | Failure:
        known = self._sandbox.known.get(item.processor)
        if known is None or known.trusted:
            return await self._sandbox.run(_job(item, self._spool))
        path = self._spool / token_hex(8)
        try:
            await self._blobs.fetch(item.source, path)
            job = _job(item, path)
            return (await self._drawn([job], [await self._sandbox.run(job)]))[0]
        finally:
            path.unlink(missing_ok=True)

    async def _process_together(self, items: Sequence[WorkItem]) -> list[Result | Failure]:
        paths = [self._spool / token_hex(8) for _ in items]
        try:
            there = await self._blobs.fetch_many([(i.source, p) for i, p in zip(items, paths, strict=True)])
            jobs = [_job(i, p) for i, p, found in zip(items, paths, there, strict=True) if found]
            outcomes = iter(await self._drawn(jobs, await self._sandbox.run_shared(jobs)))
            return [next(outcomes) if found else _MISSING for found in there]
        finally:
            for path in paths:
                path.unlink(missing_ok=True)

    async def _drawn(
        self, jobs: Sequence[Job], outcomes: Sequence[Result | Failure]
    ) -> list[Result | Failure]:  # fmt: skip
        """Results with their pictures: whatever becomes of these, they stay results."""
        memory_bytes = self._settings.process_memory_bytes
        limits = Limits(wall_s=DRAWING_WALL_S, cpu_s=DRAWING_CPU_S, memory_bytes=memory_bytes)
        known = self._sandbox.known
        wanted = [
            at
            for at, job in enumerate(jobs)
            if isinstance(outcomes[at], Result) and job.processor in known and known[job.processor].draws
            if job.options.get("pictures", True) is not False
        ]
        drawing = [msgspec.structs.replace(jobs[at], drawing=True, limits=limits) for at in wanted]
        drawn = dict(zip(wanted, await self._sandbox.run_shared(drawing), strict=True))
        return [_with_pictures(outcome, drawn.get(at)) for at, outcome in enumerate(outcomes)]

    async def _wait_out_brake(self, lane: str) -> None:
        """A file that was taken just before another's 429 keeps its place, and is not sent meanwhile."""
        while self._queue is not None and (until := await self._queue.braked_until(lane)):
            left_s = epoch_ms(until) / 1000 - self._clock()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    def _call(self, item: WorkItem, token: str) -> Call:
        base = self._settings.public_url or f"http://{self._settings.host}:{self._settings.port}"
        url = f"{base.rstrip('/')}/v1/callbacks/{token}"
        return Call(item=item, source=lambda: self._blobs.stream(item.source), callback_url=url)

    async def _failed(self, item: WorkItem, failure: Failure, duration_ms: int) -> c.Command:
        now_ms = int(self._clock() * 1000)
        error = FileError(
            code=failure.code or "processor_error",
            message=failure.message or "The processor gave no reason.",
            retryable=failure.retryable,
        )
        retry_ms = decide_retry(
            error, item.attempt, attempts_max=self._settings.attempts_max,
            now_ms=now_ms, entropy=self._entropy(), retry_after_s=failure.retry_after_s,
        )  # fmt: skip
        retry_at = None if retry_ms is None else rfc3339(retry_ms)
        _log.info(
            "attempt failed", batch=item.batch_id, file=item.file_id, attempt=item.attempt,
            attempts_max=self._settings.attempts_max, code=error.code, retry_at=retry_at,
            delay_s=None if retry_ms is None else round((retry_ms - now_ms) / 1000, 1),
        )  # fmt: skip
        return c.FailFile(
            error=error, duration_ms=duration_ms, retry_at=retry_at, provider=lane_provider(item.lane),
            braked_until=await self._braked(item, failure, now_ms),
            quarantined=error.retryable and retry_at is None, usage=failure.usage,
        )  # fmt: skip

    async def _braked(self, item: WorkItem, failure: Failure, now_ms: int) -> str | None:
        """Stops all calls of a provider that asks for a pause, at once and before the log tells of it."""
        if lane_provider(item.lane) is None or failure.code not in PROVIDER_CODES:
            return None
        wait_s = PROVIDER_DELAYS_S[0] if failure.retry_after_s is None else failure.retry_after_s
        until = rfc3339(now_ms + round(1000 * min(wait_s, RETRY_AFTER_S_MAX)))
        if self._queue is not None:
            with suppress(Unavailable):  # the scheduler brakes as soon as it reads the event
                await self._queue.brake(item.lane, until)
        _log.info("a provider asks for a pause", provider=lane_provider(item.lane), until=until)
        return until

    async def _completed(self, item: WorkItem, result: Result, duration_ms: int) -> c.CompleteFile:
        body = encode(result.data)
        artifacts = [await self._store_artifact(item, one) for one in result.artifacts]
        ref = None if len(body) <= RESULT_INLINE_BYTES_MAX else await self._store(item, body, _JSON)
        if artifacts or ref:
            await self._blobs.barrier()
        return self._told(item, result, body, duration_ms, artifacts, ref)

    def _told(
        self, item: WorkItem, result: Result, body: bytes, duration_ms: int,
        artifacts: Sequence[StoredArtifact] = (), ref: BlobRef | None = None,
    ) -> c.CompleteFile:  # fmt: skip
        """With everything that it names durable."""
        return c.CompleteFile(
            processor=item.processor,
            processor_version=self.version(item.processor),
            duration_ms=duration_ms,
            result_sha256=sha256(body).hexdigest(),
            result_bytes=len(body),
            result=NO_RESULT if ref else msgspec.Raw(body),
            result_ref=ref,
            artifacts=list(artifacts),
            warnings=result.warnings,
            provider=lane_provider(item.lane),
            usage=result.usage,
        )

    async def _store_artifact(self, item: WorkItem, artifact: Artifact) -> StoredArtifact:
        blob = await self._store(item, artifact.data, artifact.content_type)
        return StoredArtifact(name=artifact.name, content_type=artifact.content_type, blob=blob)

    async def _store(self, item: WorkItem, data: bytes, content_type: str) -> BlobRef:
        digest = sha256(data).hexdigest()
        key = f"t/{item.tenant}/{item.batch_id}/out/{digest}"
        return await self._blobs.put(key, data, sha256=digest, content_type=content_type)


def _with_pictures(outcome: Result | Failure, drawn: Result | Failure | None) -> Result | Failure:
    if isinstance(outcome, Failure) or drawn is None:
        return outcome
    if isinstance(drawn, Failure):
        _log.info("a file was not drawn", code=drawn.code, reason=drawn.message)
        return msgspec.structs.replace(outcome, warnings=[*outcome.warnings, "not_drawn"])
    return msgspec.structs.replace(outcome, artifacts=[*outcome.artifacts, *drawn.artifacts])


def _job(item: WorkItem, path: Path) -> Job:
    """What the sandbox is told; a trusted processor gets a path that it does not open."""
    source = SourceFile(
        path=path, name=item.name, content_type=item.content_type, bytes=item.bytes, sha256=item.sha256
    )
    return Job(processor=item.processor, source=source, options=item.options)
