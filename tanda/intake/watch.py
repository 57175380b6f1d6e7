"""Watching: what is complete, one watcher at a time, and patience with a gateway that is away."""

import fcntl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from tanda.client import TandaProblem, TandaUnreachable
from tanda.intake.folder import Folder

#: Between two looks.
LOOK_EVERY_S = 0.5
#: A file whose length and time have not changed for so long is complete.
QUIET_S = 1.0
#: A gateway that is away is asked again after this long at most.
AWAY_S_MAX = 5.0


class FolderTaken(Exception):
    """Another watcher has the folder."""


class Quiet:
    """Tells a file that is still being written from one that is complete."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def __call__(self, path: Path) -> bool:
        """Whether a file has not changed for ``QUIET_S``."""
        try:
            facts = path.stat()
        except FileNotFoundError:
            self._seen.pop(path, None)
            return False
        now, looks = self._clock(), (facts.st_size, facts.st_mtime_ns)
        before, since = self._seen.get(path, (looks, now))
        if before != looks:
            since = now
        self._seen[path] = (looks, since)
        return now - since >= QUIET_S

    def forget_missing(self) -> None:
        """Drops what is not there any more."""
        self._seen = {path: seen for path, seen in self._seen.items() if path.exists()}


@contextmanager
def alone(place: Path) -> Generator[None]:
    """The folder for this watcher only; FolderTaken where another one has it."""
    (place / ".tanda").mkdir(parents=True, exist_ok=True)
    with (place / ".tanda" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderTaken(f"{place} is being watched already.") from error
        yield


def watch(folder: Folder, stop: threading.Event, say: Callable[[str], None], *, once: bool = False) -> int:
    """Until it is stopped, or with ``once`` until nothing is left to do; 1 where files have failed."""
    quiet = Quiet()
    away_s = 0.0
    while not stop.is_set():
        try:
            taken = folder.take(quiet)
            still_open, failed = folder.settle()
            away_s = 0.0
            if once and not taken and not still_open and not folder.waiting():
                return 1 if failed else 0
        except (TandaUnreachable, TandaProblem) as error:
            if not away_s:
                say(f"waiting: {error}")
            away_s = min(max(away_s * 2, LOOK_EVERY_S), AWAY_S_MAX)
        quiet.forget_missing()
        stop.wait(max(LOOK_EVERY_S, away_s))
    return 0
