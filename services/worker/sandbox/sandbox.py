"""Runs processor calls in confined child processes.

    sandbox = Sandbox(settings)
    await sandbox.start({"invoice": "services.worker.processors.invoice:Invoice"})
    outcome = await sandbox.run(Job(processor="invoice", source=source))   # Result | Failure, never raises
    await sandbox.close()

A zygote (``zygote.py``) has imported the parsers and forks a child for each job. The child sees its one
file, no environment, no network and no other process; what it may use is in :class:`Limits`. When the
zygote dies it is started again and the jobs that it had end as ``worker_lost``.

``run_shared`` lets several jobs follow one another in one child, which saves most of the forks: for small
files that belong together, of processors that say ``shares_child = True``. They share one job's limits.
Where the child does not come to a good end, each of its jobs is run again alone: a poisonous file fails
alone.

Failures that are made here: ``processor_error``, ``memory``, ``cpu_time``, ``timeout``, ``worker_lost``,
``result_too_large``, ``source_missing``, ``sandbox_failed`` and ``unknown_processor``.
"""

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points

import msgspec
import structlog

from services.worker.sandbox import child, zygote
from services.worker.sandbox.confine import LAYERS
from services.worker.sandbox.link import Call, ZygoteDied, ZygoteLink
from services.worker.sandbox.verdict import LOST, Outcome, judge, read_answer, read_answers
from services.worker.sandbox.wire import Begin, Given, Job, Known, Limits
from tanda.contracts.results import Failure, Processor, Result
from tanda.settings import Settings

__all__ = ["Job", "Limits", "Outcome", "Sandbox", "SandboxFailed", "installed_processors"]

#: Children at once, whatever the callers ask for: each may use ``Limits.memory_bytes``.
CHILDREN_MAX = 64
#: What files that share a child should take together, and how many they are at most.
SHARED_CPU_S = 0.1
SHARED_FILES_MAX = 32
#: What takes far longer is run again alone.
SHARED_WALL_S = 5.0
#: The weight of the last child in what is known of a kind of files; kinds that are known at once.
_LEARNED = 0.3
_KINDS_MAX = 1_000
#: A zygote imports its parsers in well under a second; a loaded machine may take ten times that.
START_S = 30.0
#: Pauses between starts of a zygote that keeps dying.
_RESTART_S = (0.0, 0.1, 0.5, 1.0, 5.0)

_raw = msgspec.json.Decoder(msgspec.Raw)

_log = structlog.get_logger("tanda.sandbox")


class SandboxFailed(RuntimeError):
    """The sandbox could not be started; the text says why."""


def installed_processors() -> dict[str, EntryPoint]:
    """Every processor that is installed, by the name of its entry point."""
    return {point.name: point for point in entry_points(group="tanda.processors")}


def _limits(settings: Settings) -> Limits:
    return Limits(
        wall_s=settings.process_wall_s,
        cpu_s=settings.process_cpu_s,
        memory_bytes=settings.process_memory_bytes,
    )


class Sandbox:
    """A zygote, kept alive, and the jobs in its children."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        limits: Limits | None = None,
        children_max: int = CHILDREN_MAX,
        sys_path: Sequence[str] = (),
        layers: Iterable[str] = LAYERS,
    ) -> None:
        """``limits`` replace those in the settings; ``sys_path`` finds processors that are not installed.

        ``layers`` is all of them but in tests, which look at each layer alone.
        """
        self._limits = limits or _limits(settings or Settings())
        self._room = asyncio.Semaphore(children_max)
        self._sys_path = list(sys_path)
        self._layers = list(layers)
        self._trusted: dict[str, Processor] = {}
        #: CPU of a file by processor and content type, its share of the fork included.
        self._cpu_s: dict[tuple[str, str], float] = {}
        self._link: ZygoteLink | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, processors: Mapping[str, EntryPoint | str]) -> None:
        """Starts the zygote and waits for its imports; SandboxFailed where it cannot.

        ``processors`` gives each name an entry point or ``package.module:Class``. One that cannot be imported
        is logged, listed in :attr:`unknown`, and fails its jobs only.
        """
        paths = {name: point if isinstance(point, str) else point.value for name, point in processors.items()}
        self._begin = Begin(processors=paths, sys_path=self._sys_path, layers=self._layers)
        try:
            await self._open()
        except (ZygoteDied, TimeoutError, OSError) as error:
            raise SandboxFailed(f"The sandbox did not start: {error or 'it took too long'}") from error
        self._load_trusted()
        self._keeper = asyncio.create_task(self._keep(), name="sandbox-keeper")

    async def close(self) -> None:
        """Ends the zygote and every child; jobs that still run end as ``worker_lost``."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        self._keeper = None
        if self._link is not None:
            await self._link.close()
        self._link = None
        # Jobs that wait for a zygote need not wait any longer.
        self._up.set()

    @property
    def level(self) -> str:
        """What confines a child on this kernel: ``rlimits+nnp+landlock7+seccomp``; ``none`` at worst."""
        layers = self._link.ready.layers if self._link is not None else []
        return "+".join(layers) or "none"

    @property
    def known(self) -> Mapping[str, Known]:
        """Every processor that could be imported, with its version and accepted types."""
        return self._link.ready.known if self._link is not None else {}

    @property
    def unknown(self) -> Mapping[str, str]:
        """Every processor that could not be imported, with the reason."""
        return self._link.ready.unknown if self._link is not None else {}

    @property
    def zygote_pid(self) -> int | None:
        """The zygote's process id while there is one."""
        return self._link.pid if self._link is not None and self._up.is_set() else None

    async def run(self, job: Job) -> Outcome:
        """Runs one job to its end."""
        if job.processor in self._trusted:
            return self.run_trusted(job)
        async with self._room:
            return await self._run_in_child(job, job.limits or self._limits)

    def run_trusted(self, job: Job) -> Outcome:
        """The same for a processor whose class says ``trusted = True``: called right here, without a child.

        That is for processors which never look into the content (``noop``), and saves the fork.
        """
        limits = job.limits or self._limits
        answer = child.call(self._trusted[job.processor], job, limits)
        if isinstance(answer, Given) and not (answer.artifacts or answer.warnings):
            # It is within its limits. Its JSON is looked through and not taken apart.
            with suppress(msgspec.DecodeError, RecursionError, ValueError):
                return Result(data=_raw.decode(answer.data.decode()))
        return judge(answer, limits)

    async def run_many(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Runs all jobs, each in its own child, and gives their outcomes in the same order."""
        return list(await asyncio.gather(*(self.run(job) for job in jobs)))

    async def run_shared(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The same in one child, one after the other; see the module's docstring."""
        if len(jobs) > 1 and (outcomes := await self._run_in_one_child(jobs)) is not None:
            return outcomes
        return [await self.run(job) for job in jobs]

    def together(self, processor: str, content_type: str) -> int:
        """How many small files of a kind may follow one another in one child.

        As many as take ``SHARED_CPU_S``, judged by those before them. What nobody has seen yet goes alone.
        """
        known = self.known.get(processor)
        cpu_s = self._cpu_s.get((processor, content_type))
        if known is not None and known.trusted:
            return SHARED_FILES_MAX
        if known is None or not known.shares_child or cpu_s is None:
            return 1
        return max(1, min(SHARED_FILES_MAX, int(SHARED_CPU_S / max(cpu_s, 0.0001))))

    def _learn(self, jobs: Sequence[Job], cpu_s: float) -> None:
        kind = (jobs[0].processor, jobs[0].source.content_type)
        each_s = cpu_s / len(jobs)
        known_s = self._cpu_s.pop(kind, each_s)
        self._cpu_s[kind] = known_s + _LEARNED * (each_s - known_s)
        if len(self._cpu_s) > _KINDS_MAX:
            del self._cpu_s[next(iter(self._cpu_s))]

    async def _run_in_one_child(self, jobs: Sequence[Job]) -> list[Outcome] | None:
        limits = jobs[0].limits or self._limits
        limits = msgspec.structs.replace(limits, wall_s=min(limits.wall_s, SHARED_WALL_S))
        async with self._room:
            link = await self._ready_link()
            if link is None:
                return None
            call = await self._call(link, jobs, limits)
            outcomes = await read_answers(call, len(jobs), limits)
        if outcomes is None:
            _log.info("files that shared a child are run again alone", files=len(jobs))
        return outcomes

    async def _ready_link(self) -> ZygoteLink | None:
        try:
            async with asyncio.timeout(START_S):
                await self._up.wait()
        except TimeoutError:
            return None
        return self._link

    async def _run_in_child(self, job: Job, limits: Limits) -> Outcome:
        link = await self._ready_link()
        if link is None:
            return LOST
        if job.processor in link.ready.unknown:
            reason = link.ready.unknown[job.processor]
            return Failure(code="unknown_processor", message=f"{job.processor} could not be loaded: {reason}")
        if job.processor not in link.ready.known:
            return Failure(code="unknown_processor", message=f"There is no processor {job.processor!r}.")
        return await read_answer(await self._call(link, [job], limits), limits)

    async def _call(self, link: ZygoteLink, jobs: Sequence[Job], limits: Limits) -> Call:
        call = await link.call(jobs, limits)
        if call.ended is not None and not jobs[0].drawing:
            self._learn(jobs, call.ended.cpu_s)
        return call

    async def _open(self) -> None:
        async with asyncio.timeout(START_S):
            command = [sys.executable, "-I", "-m", zygote.__name__]
            self._link = await ZygoteLink.open(command, self._begin, self._up.clear)
        self._up.set()
        ready = self._link.ready
        _log.info("the sandbox is ready", confinement=self.level, processors=sorted(ready.known))
        for name, reason in ready.unknown.items():
            _log.error("a processor could not be loaded", processor=name, reason=reason)

    async def _keep(self) -> None:
        """Starts another zygote whenever this one ends."""
        while True:
            if self._link is not None:
                await self._link.died.wait()
                await self._link.close()
            _log.warning("the sandbox's zygote ended; another is started")
            await self._reopen()

    async def _reopen(self) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(_RESTART_S[min(attempt, len(_RESTART_S) - 1)])
            try:
                return await self._open()
            except (ZygoteDied, TimeoutError, OSError) as error:
                attempt += 1
                _log.error("the sandbox's zygote did not start", reason=str(error))

    def _load_trusted(self) -> None:
        sys.path.extend(path for path in self._sys_path if path not in sys.path)
        for name, known in self.known.items():
            if known.trusted:
                self._trusted[name] = zygote.load(known.path)
