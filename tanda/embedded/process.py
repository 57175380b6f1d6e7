"""One child process: it dies with us, writes to its own log, and ends within the time given."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tanda.settings import TOLD_LATER

#: Marks every process of a stack with its data folder: what a killed supervisor leaves behind is known by
#: it. Without the prefix ``TANDA_``, which belongs to settings.
MARK = "EMBEDDED_IN"

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Account(NamedTuple):
    """A user of this machine under whom a server runs."""

    name: str
    uid: int
    gid: int


class Process:
    """A running child. Its exit code is awaited, never asked for."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.returncode is None

    async def exited(self) -> int:
        return await self._child.wait()

    def tell(self, env: Mapping[str, str]) -> None:
        """The environment that a child waits for; one that has ended meanwhile is met by ``exited``."""
        assert self._child.stdin, "it was spawned to be told later"
        self._child.stdin.write(json.dumps(dict(env)).encode())
        self._child.stdin.close()

    def send(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    async def stop(self, number: signal.Signals, within_s: float) -> bool:
        """Asks it to end; kills it and its whole group when it has not. False when it had to be killed."""
        self.send(number)
        try:
            async with asyncio.timeout(within_s):
                await self.exited()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self.exited()
            return False
        return True


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
    account: Account | None = None,
    on_our_death: signal.Signals = signal.SIGTERM,
    told_later: bool = False,
) -> Process:
    """Starts a child in a session of its own, so that Ctrl-C reaches the supervisor alone.

    Call it from the main thread: the kernel sends ``on_our_death`` when the *thread* that started the
    child ends. With ``told_later`` it waits for ``tell``.
    """
    with _appending(log) as out:
        child = await asyncio.create_subprocess_exec(
            *argv,
            env={**env, TOLD_LATER: "1"} if told_later else env,
            cwd=cwd,
            stdin=asyncio.subprocess.PIPE if told_later else asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=_become(account, os.getpid(), on_our_death),
        )
    return Process(child)


def _appending(log: Path) -> BinaryIO:
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _become(account: Account | None, parent: int, number: signal.Signals) -> Callable[[], None]:
    """What the child does to itself: the user first, because a change of user clears the signal.

    The loop could change the user as well, but only asyncio's own, not uvloop.
    """

    def become() -> None:
        if account:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))
            if os.getppid() != parent:
                os._exit(1)

    return become
