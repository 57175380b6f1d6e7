"""What the three servers have in common: prepare, spawn, ready, stop."""

import abc
import asyncio
import os
import signal
import time
from typing import ClassVar

from tanda.embedded.folder import Folder, turn_over
from tanda.embedded.process import MARK, Process

POLL_S = 0.05
#: Of a server that did not start, the last lines of its log are shown.
LOG_LINES_SHOWN = 5
#: With this much free a server that met the end of the disk is worth a restart.
ROOM_BYTES_MIN = 256 * 1024**2


class ServerFailed(Exception):
    """A server ended, or was not ready in time. The message carries the end of its log."""


class Server(abc.ABC):
    """One real server on loopback. ``start`` may be called again after any end: same ports, same data."""

    name: str
    #: How long a start may take.
    ready_s: ClassVar[float]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: How long it may take to end before it is killed.
    stop_s: ClassVar[float]

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.log = folder.log(self.name)
        self.process: Process | None = None
        #: It was ready once since its last spawn. Until then its complaints are those of a recovery.
        self.settled = False

    @property
    def pid(self) -> int:
        """The process to kill in a test; 0 before the first start."""
        return self.process.pid if self.process else 0

    @property
    def pids(self) -> list[int]:
        return [self.process.pid] if self.process and self.process.running else []

    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """What a service has to know to reach it."""

    @abc.abstractmethod
    async def spawn(self) -> None:
        """Prepares its folder and starts the process; it is not ready yet."""

    @abc.abstractmethod
    async def ready(self) -> bool:
        """Whether it does its work now: one quick try."""

    async def complaint(self) -> str:
        """What is wrong with it though it runs, else nothing."""
        return ""

    def curable(self, complaint: str) -> bool:
        """Whether a restart helps."""
        del complaint
        return True

    async def start(self) -> None:
        """Spawns and waits until it does its work; ServerFailed otherwise, and nothing is left running."""
        await self.spawn()
        try:
            await self.until_ready()
        except BaseException:
            await self.stop()
            raise

    async def until_ready(self) -> None:
        self.settled = False
        deadline = time.monotonic() + self.ready_s
        while not await self.ready():
            if not self.pids:
                raise ServerFailed(f"{self.name} ended while starting. {self.last_words()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.name} is not ready after {self.ready_s:.0f} s. {self.last_words()}"
                )
            await asyncio.sleep(POLL_S)
        self.settled = True

    async def exited(self) -> int:
        assert self.process, "start it first"
        return await self.process.exited()

    async def stop(self, within_s: float | None = None) -> bool:
        """False when it had to be killed; what it had acknowledged is safe all the same."""
        if self.process is None:
            return True
        limit = self.stop_s if within_s is None else min(within_s, self.stop_s)
        return await self.process.stop(self.stop_signal, limit)

    def last_words(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return f"See {self.log}."
        return "\n".join([f"The end of {self.log}:", *lines[-LOG_LINES_SHOWN:]])

    def fresh_log(self) -> None:
        """At the first start the log of the run before becomes ``….log.1``; a restart goes on writing."""
        if self.process is None:
            turn_over(self.log, bytes_max=0)

    def own_environment(self) -> dict[str, str]:
        """As little as a server needs: nothing of the user's shell may change how it works."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", MARK: str(self.folder.path)}
