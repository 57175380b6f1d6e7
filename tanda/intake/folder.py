"""One watched folder: ``source`` to ``processing`` to ``archived``, each file once, whatever is killed when.

A round is one batch. It is written down before its batch is opened, and its batch's id before the
first byte goes there: a killed watcher fills the same batch again, where a repeated name is no second
file. A name of a round that is not over is not taken again until its file is archived.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

UNFINISHED = (".part", ".tmp", ".crdownload", ".error.json")
ROUND_FILES_MAX = 500


class Gateway(Protocol):
    """What the folder needs of a gateway; every call may be repeated."""

    def open(self, key: str) -> str: ...
    def put(self, batch_id: str, name: str, path: Path) -> None: ...
    def seal(self, batch_id: str) -> None: ...
    def files(self, batch_id: str) -> Iterable[dict[str, Any]]: ...


def is_wanted(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(UNFINISHED)


def free_name(name: str, taken: Callable[[str], bool]) -> str:
    """The name, or ``a (2).xml`` where it is taken."""
    stem, suffix = Path(name).stem, Path(name).suffix
    number, free = 1, name
    while taken(free):
        number += 1
        free = f"{stem} ({number}){suffix}"
    return free


class Folder:
    """``step`` is called before every effect: a test stops the watcher there."""

    def __init__(
        self, place: Path, gateway: Gateway, step: Callable[[str], None] = lambda _what: None
    ) -> None:
        self._gateway, self._step = gateway, step
        self._source, self._processing, self._archived, self._rounds = (
            place / name for name in ("source", "processing", "archived", ".tanda")
        )
        for folder in (self._source, self._processing, self._archived, self._rounds):
            folder.mkdir(parents=True, exist_ok=True)

    def take(self, complete: Callable[[Path], bool]) -> None:
        """Goes on with the rounds that were broken off, then begins one with what is complete."""
        busy: set[str] = set()
        for path in sorted(self._rounds.glob("*.json")):
            busy |= set(self._send(path)["names"])
        found = sorted(path for path in self._source.iterdir() if path.is_file() and is_wanted(path.name))
        names = [path.name for path in found if path.name not in busy and complete(path)][:ROUND_FILES_MAX]
        if names:
            path = self._rounds / f"{token_hex(16)}.json"
            self._write(path, {"batch_id": None, "sealed": False, "names": names})
            self._send(path)

    def settle(self) -> None:
        """Archives what is completed; writes down beside the rest what failed."""
        for path in sorted(self._rounds.glob("*.json")):
            one = json.loads(path.read_text())
            if one["sealed"]:
                self._settle_round(path, one)

    def _settle_round(self, path: Path, one: dict[str, Any]) -> None:
        for file in self._gateway.files(one["batch_id"]):
            name, here = file["name"], self._processing / file["name"]
            error = self._processing / f"{name}.error.json"
            if name not in one["names"]:
                continue
            if file["status"] == "completed":
                if here.exists():
                    free = free_name(name, lambda name: (self._archived / name).exists())
                    self._move(here, self._archived / free)
                self._step("forget the error")
                error.unlink(missing_ok=True)
                one["names"].remove(name)
                self._write(path, one)
            elif file["status"] in ("failed", "rejected") and here.exists():
                facts = {**(file["error"] or {}), "batch_id": one["batch_id"], "file_id": file["id"]}
                self._write(error, facts)
        if not one["names"]:
            self._step("forget the round")
            path.unlink()
            _sync(path.parent)

    def _send(self, path: Path) -> dict[str, Any]:
        one = json.loads(path.read_text())
        if one["sealed"]:
            return one
        if one["batch_id"] is None:
            self._step("open")
            one["batch_id"] = self._gateway.open(path.stem)
            self._write(path, one)
        for name in one["names"]:
            here, there = self._source / name, self._processing / name
            if there.exists() or not here.exists():
                continue
            self._step("put")
            self._gateway.put(one["batch_id"], name, here)
            self._move(here, there)
        self._step("seal")
        self._gateway.seal(one["batch_id"])
        one["sealed"] = True
        self._write(path, one)
        return one

    def _move(self, here: Path, there: Path) -> None:
        self._step("move")
        here.rename(there)
        _sync(there.parent)
        _sync(here.parent)

    def _write(self, path: Path, facts: dict[str, Any]) -> None:
        """Whole or not at all, and on the disk before anything follows."""
        self._step("write")
        draft = path.with_name(f".{path.name}.tmp")
        with draft.open("w") as file:
            json.dump(facts, file)
            file.flush()
            os.fsync(file.fileno())
        self._step("rename what was written")
        draft.replace(path)
        _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
