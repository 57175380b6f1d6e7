"""Uploads that survive: an open batch, its files PUT one by one, sealed when all are there.

What was to be uploaded is remembered in a small file until the seal, so that the same call after a
lost connection or a killed process sends only what is missing.
"""

import json
import mimetypes
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2

from tanda.client.errors import TandaProblem, raise_for_problem

CONCURRENT_MAX = 8
PIECE_BYTES = 256 * 1024
#: How long an upload outlasts a gateway that is away: longer than any restart takes.
PATIENCE_S = 60.0
#: The problem's code while an earlier request with the same key is not decided.
STILL_RUNNING = "idempotency_running"

#: Told after every piece: the file's name and how many more of its bytes were sent.
OnBytes = Callable[[str, int], None]
T = TypeVar("T")


def collect_files(paths: Iterable[str | Path]) -> list[Path]:
    """Files of files and folders (recursively, by name); FileNotFoundError where there is none."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"There is no file or folder {path}.")
    return found


def unique_names(files: Sequence[Path]) -> dict[str, Path]:
    """A name for each file; a second ``a.xml`` of another folder becomes ``a (2).xml``."""
    names: dict[str, Path] = {}
    for file in files:
        name, number = file.name, 1
        while name in names:
            number += 1
            name = f"{file.stem} ({number}){file.suffix}"
        names[name] = file
    return names


class Upload:
    """One upload of some files, begun now or in an earlier call."""

    def __init__(
        self, http: httpx2.Client, files: Sequence[Path], fields: dict[str, Any], memory: Path | None
    ) -> None:
        self._http = http
        self._names = unique_names(files)
        self._places = {name: place for place, name in enumerate(self._names)}
        self._fields = fields
        self._memory = memory / f"{self._key()}.json" if memory else None

    def run(self, on_bytes: OnBytes = lambda _name, _bytes: None) -> dict[str, Any]:
        """Sends what is missing and seals; the batch as it then is."""
        batch = self._earlier() or self._open()
        if batch["status"] == "open":
            batch = self._fill(batch["id"], on_bytes)
        if self._memory:
            self._memory.unlink(missing_ok=True)
        return batch

    def _fill(self, batch_id: str, on_bytes: OnBytes) -> dict[str, Any]:
        there = self._there(batch_id)
        for name in there & self._names.keys():
            on_bytes(name, self._names[name].stat().st_size)
        missing = [name for name in self._names if name not in there]
        with ThreadPoolExecutor(CONCURRENT_MAX) as pool:
            for _ in pool.map(lambda name: self._put(batch_id, name, on_bytes), missing):
                pass
        return self._post(f"/v1/batches/{batch_id}/seal")

    def _key(self) -> str:
        """The same files (by path, size and time) with the same fields to the same place."""
        facts = [
            [name, str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
            for name, path in self._names.items()
        ]
        text = json.dumps([str(self._http.base_url), self._fields, facts], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:32]

    def _earlier(self) -> dict[str, Any] | None:
        """The batch of an earlier call that was interrupted: open still, or sealed and not told."""
        if self._memory is None or not self._memory.exists():
            return None
        batch_id = json.loads(self._memory.read_text())["batch_id"]
        try:
            return patiently(lambda: checked(self._http.get(f"/v1/batches/{batch_id}")).json())
        except TandaProblem:
            return None

    def _open(self) -> dict[str, Any]:
        batch = self._post("/v1/batches", {**self._fields, "open": True})
        if self._memory:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            self._memory.write_text(json.dumps({"batch_id": batch["id"]}))
        return batch

    def _post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A command that may be repeated: its key makes the second one an answer to the first."""
        headers = {"Idempotency-Key": token_hex(16)}
        return patiently(lambda: checked(self._http.post(path, json=body, headers=headers)).json())

    def _there(self, batch_id: str) -> set[str]:
        """Names that had arrived before."""
        files = patiently(lambda: list(pages(self._http, f"/v1/batches/{batch_id}/files")))
        return {one["name"] for one in files}

    def _put(self, batch_id: str, name: str, on_bytes: OnBytes) -> None:
        path = self._names[name]
        headers = {
            "Content-Type": mimetypes.guess_type(name)[0] or "application/octet-stream",
            "Content-Length": str(path.stat().st_size),
        }
        url = f"/v1/batches/{batch_id}/files/{quote(name, safe='')}"
        params = {"index": self._places[name]}

        def put() -> None:
            sent = 0

            def pieces() -> Iterator[bytes]:
                nonlocal sent
                with path.open("rb") as file:
                    while piece := file.read(PIECE_BYTES):
                        sent += len(piece)
                        on_bytes(name, len(piece))
                        yield piece

            try:
                checked(self._http.put(url, params=params, content=pieces(), headers=headers))
            except BaseException:
                on_bytes(name, -sent)
                raise

        patiently(put)


def checked(response: httpx2.Response) -> httpx2.Response:
    """An answer that is no problem; TandaProblem for one that is."""
    raise_for_problem(response)
    return response


def patiently(call: Callable[[], T]) -> T:
    """Repeats a call that is safe to repeat while the gateway is away, for up to ``PATIENCE_S``."""
    deadline = time.monotonic() + PATIENCE_S
    wait_s = 0.2
    while True:
        try:
            return call()
        except httpx2.TransportError:
            if time.monotonic() + wait_s > deadline:
                raise
        except TandaProblem as problem:
            passing = problem.status >= 500 or problem.code == STILL_RUNNING
            if not passing or time.monotonic() + wait_s > deadline:
                raise
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, 2.0)


def pages(http: httpx2.Client, path: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Every entry of a list, page by page."""
    query: dict[str, Any] = {"limit": 200, **(params or {})}
    while True:
        response = http.get(path, params=query)
        raise_for_problem(response)
        page = response.json()
        yield from page["data"]
        if not page["has_more"]:
            return
        query["cursor"] = page["next_cursor"]
