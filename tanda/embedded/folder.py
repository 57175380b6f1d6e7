"""The data folder: its lock, its secrets, its remembered ports, its logs."""

import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
from collections.abc import Generator
from pathlib import Path

LOOPBACK = "127.0.0.1"

#: Ports are taken below the range from which the kernel gives ports to outgoing connections (32768 on
#: Linux): a client that retries a dead server on a port of that range can be given that very port, connect
#: to itself and keep the server from ever coming back.
PORTS = range(10_240, 32_000)

#: One finished log is kept beside the running one, each up to this size.
LOG_BYTES_MAX = 32 * 1024**2


class FolderInUse(Exception):
    """Another process holds this data folder."""


class Folder:
    """Where everything of one embedded stack is kept; made on first use, for its owner only.

    As root the folder can be passed through by others (0711), because PostgreSQL refuses to run as root
    and its files are inside; whatever is in it is closed one level below.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        #: Nothing has run here yet.
        self.is_new = not (self.path / "secrets").exists()
        if not self.path.exists():
            self.path.mkdir(parents=True)
            self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def room(self, name: str) -> Path:
        """A folder of its own for one server, closed to others."""
        room = self.path / name
        room.mkdir(mode=0o700, exist_ok=True)
        return room

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Holds the folder for this process; FolderInUse names the one that has it. A kill frees it."""
        with (self.path / "lock").open("a+", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise FolderInUse(f"{self.path} is already in use by process {holder}.") from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def secret(self, name: str) -> str:
        """The secret of that name, made at its first use and kept."""
        file = self.room("secrets") / name
        with contextlib.suppress(FileNotFoundError):
            return file.read_text(encoding="ascii")
        write_private(file, value := secrets.token_hex(24))
        return value

    def ports(self, name: str, count: int, *, apart: int = 0) -> list[int]:
        """The ports this server had before where they are still free, else new ones, remembered.

        With ``apart`` each follows on the one before at that distance.
        """
        remembered = self._remembered()
        before = remembered.get(name, [])
        if len(before) == count and all(map(is_free, before)):
            return before
        others = {port for key, ports in remembered.items() if key != name for port in ports}
        remembered[name] = free_ports(count, others, apart)
        self.remember(name, remembered[name])
        return remembered[name]

    def remember(self, name: str, ports: list[int]) -> None:
        text = json.dumps(self._remembered() | {name: ports}, indent=1)
        write_private(self.path / "ports.json", text)

    def remembered(self, name: str) -> list[int]:
        return self._remembered().get(name, [])

    def _remembered(self) -> dict[str, list[int]]:
        try:
            return json.loads((self.path / "ports.json").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return {}

    def log(self, name: str) -> Path:
        return self.room("logs") / f"{name}.log"

    def logs(self) -> list[Path]:
        return sorted(self.room("logs").glob("*.log"))

    def erase(self) -> None:
        """Removes the folder and what PostgreSQL had to keep outside of it."""
        outside = self.path / "postgres"
        if outside.is_symlink():
            shutil.rmtree(outside.resolve(), ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)


def write_private(file: Path, text: str) -> None:
    """Replaces a file in one step; only its owner can read it, at no moment anyone else.

    One that says the same already is left alone, so that a server can start again on a full disk.
    """
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with open(draft, "w", encoding="utf-8", opener=_open_private) as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_TRUNC, 0o600)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_ports(count: int, taken: set[int], apart: int = 0) -> list[int]:
    """Random, so that two stacks that start at the same time do not pick the same ones."""
    found: list[int] = []
    for first in random.sample(PORTS, len(PORTS)):
        ports = [first + apart * number for number in range(count)] if apart else [first]
        if all(port in PORTS and port not in taken and is_free(port) for port in ports):
            found += ports
        if len(found) >= count:
            return found
    raise OSError("No free port on loopback.")


def turn_over(log: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Keeps a log within its bound: what it holds becomes ``….log.1``, and it starts again, empty.

    It is copied and cut rather than renamed because its writer holds it open, for appending.
    """
    if log.exists() and log.stat().st_size > bytes_max:
        shutil.copy(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
