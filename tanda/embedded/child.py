"""One service as a child: a command line, an environment, a log."""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tanda.embedded.folder import Folder, turn_over
from tanda.embedded.process import MARK, Process, spawn


@dataclass(frozen=True, kw_only=True)
class Service:
    """What to run."""

    #: The key in ``run.json``; its processes are listed together.
    name: str
    argv: Sequence[str]
    count: int = 1
    #: It may be spawned before the servers are there, to load its libraries meanwhile.
    early: bool = False


#: A service's exit code where it notices that the log is not what it was.
EXIT_LOG_DAMAGED = 3


def tanda_services(workers: int) -> tuple[Service, ...]:
    def module(name: str, count: int = 1) -> Service:
        argv = (sys.executable, "-m", f"services.{name}")
        return Service(name=name, argv=argv, count=count, early=True)

    return module("gateway"), module("worker", workers), module("storage"), module("projector")


class ServiceChild:
    """One process of a service; it is supervised like a server, except that nobody waits for it."""

    def __init__(
        self, service: Service, number: int, folder: Folder, env: Callable[[], Mapping[str, str]]
    ) -> None:
        self.name = service.name
        self._argv = service.argv
        self._early = service.early
        self._mark = {MARK: str(folder.path), "PYTHONUNBUFFERED": "1"}
        self._env = env
        self.log: Path = folder.log(self.name if service.count == 1 else f"{self.name}-{number}")
        self.process: Process | None = None

    @property
    def pids(self) -> list[int]:
        return [self.process.pid] if self.process and self.process.running else []

    async def prepare(self, env: Mapping[str, str]) -> None:
        """Lets it load its libraries, which is most of its start; it does nothing before ``begin``."""
        if self._early:
            await self._spawn(env, told_later=True)

    async def begin(self) -> None:
        """The first start, now that the servers are there."""
        if self.process is None:
            await self._spawn(self._env())
        elif self._early:
            self.process.tell(self._env())

    async def spawn(self) -> None:
        await self._spawn(self._env())

    async def _spawn(self, env: Mapping[str, str], *, told_later: bool = False) -> None:
        if self.process is None:
            turn_over(self.log, bytes_max=0)
        self.process = await spawn(self._argv, env={**env, **self._mark}, log=self.log, told_later=told_later)

    async def until_ready(self) -> None:
        """A service says itself when it is ready, on the gateway's ``/readyz``."""

    async def exited(self) -> int:
        assert self.process, "spawn it first"
        return await self.process.exited()

    async def stop(self, within_s: float | None = None) -> bool:
        return await self.process.stop(signal.SIGTERM, within_s or 0) if self.process else True
