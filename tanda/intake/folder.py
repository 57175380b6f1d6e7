"""One watched folder: ``source`` to ``processing`` to ``archived``, each file once, whatever is killed when.

A round is one batch. It is written down before its batch is opened, and its batch's id before the
first file is claimed; a claim is a rename into ``processing``, so that nobody writes to the name any
more. A killed watcher fills the same batch again, where a repeated file is no second one. A file leaves
``processing`` only when its result is durable; what fails stays there with its ``.error.json``, and goes
back into ``source``, to be tried anew, once a person has removed that.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec

from tanda.client import Client, TandaProblem

ERROR = ".error.json"
RESULT = ".result.json"
#: How browsers and copiers call what they have not finished.
UNFINISHED = (".part", ".tmp", ".crdownload", ERROR, RESULT)
#: Files of one batch; the next round takes the rest.
ROUND_FILES_MAX = 500

Step = Callable[[str], None]


class Entry(msgspec.Struct, omit_defaults=True):
    """A file of a round."""

    #: Its id in the batch, once it is there.
    file_id: str | None = None
    #: Its ``.error.json`` is written: when that is gone, a person wants it tried anew.
    told: bool = False


class Round(msgspec.Struct, omit_defaults=True):
    """A batch of the folder, as it is written down."""

    files: dict[str, Entry]
    batch_id: str | None = None
    #: Nothing is added any more.
    sealed: bool = False


class Folder:
    """``fields`` are those of a batch (name, processor, priority); ``say`` tells of every change.

    ``step`` is called before every effect: a test stops the watcher there. Raises TandaUnreachable, and
    TandaProblem for a 5xx: the same call later goes on where it was.
    """

    def __init__(
        self, place: Path, client: Client, fields: dict[str, Any], *, say: Step = lambda _line: None,
        step: Step = lambda _what: None,
    ) -> None:  # fmt: skip
        self._client, self._fields, self._say, self._step = client, fields, say, step
        self._source, self._processing, self._archived, self._rounds = (
            place / name for name in ("source", "processing", "archived", ".tanda")
        )
        for folder in (self._source, self._processing, self._archived, self._rounds):
            folder.mkdir(parents=True, exist_ok=True)
        #: Batches as they were when they were last looked at, by position.
        self._seen: dict[str, int] = {}

    # -- going in

    def take(self, complete: Callable[[Path], bool]) -> int:
        """Goes on with rounds that were broken off, then begins one with what is complete; its files."""
        busy: set[str] = set()
        for path, one in self._all():
            if not one.sealed:
                self._send(path, one)
            busy |= one.files.keys()
        found = sorted(path for path in self._source.rglob("*") if self._is_wanted(path))
        names = [path.relative_to(self._source).as_posix() for path in found if complete(path)]
        names = [name for name in names if name not in busy][:ROUND_FILES_MAX]
        if names:
            path = self._rounds / f"{token_hex(16)}.json"
            one = Round(files={name: Entry() for name in names})
            self._write(path, one)
            self._send(path, one)
        return len(names)

    def waiting(self) -> int:
        """Files that are in ``source`` and may become part of a round."""
        busy = {name for _, one in self._all() for name in one.files}
        found = (path for path in self._source.rglob("*") if self._is_wanted(path))
        return sum(path.relative_to(self._source).as_posix() not in busy for path in found)

    def _is_wanted(self, path: Path) -> bool:
        hidden = any(part.startswith(".") for part in path.relative_to(self._source).parts)
        return not hidden and not path.name.endswith(UNFINISHED) and path.is_file()

    def _send(self, path: Path, one: Round) -> None:
        batch_id = one.batch_id
        if batch_id is None:
            self._step("open")
            batch_id = one.batch_id = str(self._client.open_batch(path.stem, **self._fields)["id"])
            self._write(path, one)
        for name in list(one.files):
            self._send_file(one, batch_id, name)
        self._write(path, one)
        self._close(one, batch_id)
        one.sealed = True
        self._write(path, one)

    def _send_file(self, one: Round, batch_id: str, name: str) -> None:
        here, there = self._source / name, self._processing / name
        if not there.exists():
            if not here.exists():
                del one.files[name]  # it was taken away before it was ours
                return
            self._move(here, there)
        entry = one.files[name]
        self._step("put")
        try:
            entry.file_id = self._client.put_file(batch_id, name, there)["id"]
        except TandaProblem as problem:
            if problem.status >= 500 or problem.status in (408, 429):
                raise
            self._tell(name, entry, {"code": problem.code, "message": str(problem), "batch_id": batch_id})

    def _close(self, one: Round, batch_id: str) -> None:
        """Seals the batch; one in which no file was accepted is cancelled instead."""
        self._step("seal")
        if self._client.batch(batch_id)["status"] == "open":
            accepted = any(entry.file_id for entry in one.files.values())
            self._client.command(batch_id, "seal" if accepted else "cancel")
            self._say(f"batch {batch_id}: {len(one.files)} files")

    # -- coming out

    def settle(self) -> tuple[int, int]:
        """Archives what is completed, tells what failed; how many are still open, and how many failed."""
        for path, one in self._all():
            if one.sealed and one.batch_id:
                self._settle(path, one, one.batch_id)
        entries = [entry for _, one in self._all() for entry in one.files.values()]
        failed = sum(entry.told for entry in entries)
        return len(entries) - failed, failed

    def _settle(self, path: Path, one: Round, batch_id: str) -> None:
        self._try_anew(path, one)
        seq = self._client.batch(batch_id)["seq"]
        if self._seen.get(batch_id) == seq and one.files:
            return
        names = {entry.file_id: name for name, entry in one.files.items()}
        for file in self._client.files(batch_id):
            name = names.get(file["id"])
            if name is not None and name in one.files:
                self._settle_file(one, batch_id, name, file)
        self._write(path, one)
        self._seen[batch_id] = seq
        if not one.files:
            self._step("forget the round")
            path.unlink()
            _sync(path.parent)
            self._seen.pop(batch_id, None)

    def _settle_file(self, one: Round, batch_id: str, name: str, file: dict[str, Any]) -> None:
        entry = one.files[name]
        if file["status"] == "completed":
            self._archive(batch_id, name, file["id"])
            del one.files[name]
        elif file["status"] in ("failed", "rejected", "cancelled") and not entry.told:
            error = file["error"] or {"code": file["status"], "message": f"The file was {file['status']}."}
            self._tell(name, entry, {**error, "batch_id": batch_id, "file_id": file["id"]})

    def _archive(self, batch_id: str, name: str, file_id: str) -> None:
        """The result first, then the source; a source that is there already was moved before a kill."""
        here = self._processing / name
        if here.exists():
            target = self._archived / free_name(name, lambda one: (self._archived / one).exists())
            result = self._client.result(batch_id, file_id)
            self._put(target.with_name(target.name + RESULT), msgspec.json.encode(result))
            self._move(here, target)
            self._say(f"{name}: archived")
        self._step("forget the error")
        (self._processing / (name + ERROR)).unlink(missing_ok=True)

    def _tell(self, name: str, entry: Entry, facts: dict[str, Any]) -> None:
        """Beside the file; kept by the round's own next word."""
        self._put(self._processing / (name + ERROR), json.dumps(facts, ensure_ascii=False).encode())
        entry.told = True
        self._say(f"{name}: {facts['code']}: {facts['message']}")

    def _try_anew(self, path: Path, one: Round) -> None:
        """A person has removed the error: the file goes back to where it came from, and in again."""
        for name, entry in list(one.files.items()):
            if not entry.told or (self._processing / (name + ERROR)).exists():
                continue
            here, there = self._processing / name, self._source / name
            if here.exists() and not there.exists():
                self._move(here, there)
            del one.files[name]
            self._write(path, one)

    # -- the disk

    def _all(self) -> Iterator[tuple[Path, Round]]:
        for path in sorted(self._rounds.glob("*.json")):
            yield path, msgspec.json.decode(path.read_bytes(), type=Round)

    def _move(self, here: Path, there: Path) -> None:
        self._step("move")
        there.parent.mkdir(parents=True, exist_ok=True)
        here.rename(there)
        _sync(there.parent)
        _sync(here.parent)

    def _write(self, path: Path, one: Round) -> None:
        self._put(path, msgspec.json.encode(one))

    def _put(self, path: Path, data: bytes) -> None:
        """Whole or not at all, and on the disk before anything follows."""
        self._step("write")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.tmp")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._step("rename what was written")
        draft.replace(path)
        _sync(path.parent)


def free_name(name: str, taken: Callable[[str], bool]) -> str:
    """The name, or ``a (2).xml`` where it is taken."""
    whole = Path(name)
    number, free = 1, name
    while taken(free):
        number += 1
        free = whole.with_name(f"{whole.stem} ({number}){whole.suffix}").as_posix()
    return free


def _sync(folder: Path) -> None:
    with suppress(FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
