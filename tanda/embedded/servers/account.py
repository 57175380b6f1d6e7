"""Under which user PostgreSQL runs, and where that user can reach: it refuses to run as root."""

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

from tanda.embedded.process import Account

#: The first that exists. ``nobody`` last: others run as it too.
ACCOUNTS = ("tanda", "postgres", "nobody")

#: Where root keeps what that user must reach and cannot in our own folders (a home with 0700).
OUTSIDE = (Path("/var/lib/tanda"), Path("/var/tmp/tanda"))  # noqa: S108 - its owner is checked


class NoPlace(Exception):
    """As root there is no user or no folder to run PostgreSQL with."""


def unprivileged(owned: Path) -> Account | None:
    """None when we are not root; else whoever owns what is there already, or the first suitable user."""
    if os.geteuid() != 0:
        return None
    if owned.exists() and (owner := owned.stat()).st_uid != 0:
        return Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NoPlace(f"PostgreSQL refuses to run as root, and there is no user named {', '.join(ACCOUNTS)}.")


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether every folder on the way, and the last one, lets that user through."""
    if account is None:
        return True
    return all(_passes(account, place.stat()) for place in [path.resolve(), *path.resolve().parents])


def _passes(account: Account, place: os.stat_result) -> bool:
    if place.st_uid == account.uid:
        return bool(place.st_mode & stat.S_IXUSR)
    if place.st_gid == account.gid:
        return bool(place.st_mode & stat.S_IXGRP)
    return bool(place.st_mode & stat.S_IXOTH)


def outside() -> Path:
    """A folder of root's own that anyone may pass through and nobody else may write to."""
    for place in OUTSIDE:
        try:
            place.mkdir(mode=0o711, exist_ok=True)
        except OSError:
            continue
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022:
            return place
    raise NoPlace(f"None of {', '.join(map(str, OUTSIDE))} can be used for PostgreSQL as root.")


def outside_data() -> Path:
    """A new one each time: what a removed data folder left behind is never taken for its successor's."""
    return Path(tempfile.mkdtemp(prefix="postgres-", dir=outside()))


def _open_to_all(tree: Path) -> None:
    """An installation made under a strict umask is closed to others, and so is its copy."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def outside_programs(programs: Path) -> Path:
    """A copy of the wheel's PostgreSQL where that user can reach it, made once for each installation."""
    package, mark = programs.parents[1], programs.joinpath("postgres").stat()
    key = hashlib.sha256(f"{programs} {mark.st_size} {mark.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = outside() / f"programs-{key}"
    if not copy.exists():
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=outside()))
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(programs.parent, draft / package.name / programs.parent.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        _open_to_all(draft)
        draft.rename(copy)
    return copy / package.name / programs.parent.name / programs.name
