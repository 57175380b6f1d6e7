"""What a killed supervisor left running: found by its mark, its folder, and stopped before the next start."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tanda.embedded.process import MARK

#: How long they may take to end before they are killed, and how long the kernel may take to bury them.
GRACE_S = 4.0
BURIAL_S = 10.0
POLL_S = 0.05


def marked(data: Path) -> list[int]:
    """Processes of a stack with that data folder, whoever their parent is now."""
    mark = f"{MARK}={data}".encode()
    family = {os.getpid(), os.getppid()}
    return [pid for pid in _pids() if pid not in family and mark in _environment(pid)]


def working_in(folder: Path) -> list[int]:
    """Processes whose current folder it is; every PostgreSQL process works in its cluster's folder."""
    return [pid for pid in _pids() if pid != os.getpid() and _current_folder(pid) == str(folder)]


async def stop(find: Callable[[], list[int]], number: signal.Signals) -> None:
    """Ends all that ``find`` finds, and returns when there are none; those that stay are killed."""
    killed_at = time.monotonic() + GRACE_S
    _send(find(), number)
    while found := find():
        if time.monotonic() > killed_at:
            _send(found, signal.SIGKILL)
        if time.monotonic() > killed_at + BURIAL_S:
            raise TimeoutError(f"Processes of an earlier run cannot be stopped: {found}")
        await asyncio.sleep(POLL_S)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _pids() -> Iterator[int]:
    yield from (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))


def _environment(pid: int) -> list[bytes]:
    """Empty for a zombie and for another user's process: both are none of ours."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _current_folder(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""
