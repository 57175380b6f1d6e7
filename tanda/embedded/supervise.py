"""Keeping one child alive: it is started again when it dies, ever more patiently when it dies young."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tanda.embedded.child import EXIT_LOG_DAMAGED, ServiceChild
from tanda.embedded.servers.binaries import BinaryMissing
from tanda.embedded.servers.server import ServerFailed

BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 5.0
#: A child that lived this long starts again at once, as after its first death: what cannot start dies sooner.
LIFE_S = 5.0


class LogDamaged(Exception):
    """The event log lacks what it once had; nothing may go on before it is mended."""


class Child(Protocol):
    """A server or a service, seen by its supervisor."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path: ...
    @property
    def pids(self) -> list[int]: ...
    async def spawn(self) -> None: ...
    async def until_ready(self) -> None: ...
    async def exited(self) -> int: ...
    async def stop(self, within_s: float | None = None) -> bool: ...


class Backoff:
    """How long to wait after each death: doubling, reset by a long life."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_S_MIN

    def after(self, lived_s: float) -> float:
        if lived_s >= LIFE_S:
            self._next_s = BACKOFF_S_MIN
        delay_s, self._next_s = self._next_s, min(self._next_s * 2, BACKOFF_S_MAX)
        return delay_s


async def keep(child: Child, *, say: Callable[[str], None], changed: Callable[[], None]) -> None:
    """Watches a running child for ever; ``changed`` is called whenever its process has become another.

    Raises LogDamaged where the child says so by its exit code: to start it again would change nothing.
    """
    backoff = Backoff()
    born = time.monotonic()
    while True:
        code = await child.exited()
        changed()
        if code == EXIT_LOG_DAMAGED and isinstance(child, ServiceChild):
            raise LogDamaged(f"{child.name} says so: see {child.log}")
        delay_s = backoff.after(time.monotonic() - born)
        say(f"{child.name} ended ({_how(code)}) and starts again in {delay_s:.1f} s; its log is {child.log}")
        await asyncio.sleep(delay_s)
        born = time.monotonic()
        await _start(child, say=say, changed=changed)


async def _start(child: Child, *, say: Callable[[str], None], changed: Callable[[], None]) -> None:
    """A start that fails leaves an ended process, which ``keep`` meets next."""
    try:
        await child.spawn()
        changed()
        await child.until_ready()
    except (ServerFailed, BinaryMissing, OSError) as error:
        say(str(error))
        await child.stop()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
