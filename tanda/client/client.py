"""The client: one method for each thing a user does."""

import mimetypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx2

from tanda.client.errors import TandaUnreachable, raise_for_problem
from tanda.client.form import present
from tanda.client.live import LiveEvent, follow
from tanda.client.tls import verify_for
from tanda.client.uploads import OnBytes, Upload, collect_files, pages

FINISHED = frozenset({"completed", "completed_with_errors", "failed", "cancelled"})
TIMEOUT_S = 60.0


class Client:
    """Talks to one gateway. ``tenant`` names it in open mode; with a key the key does.

    Every method raises TandaProblem where the gateway refuses and TandaUnreachable where nobody
    answers. ``memory`` is the folder that remembers unfinished uploads; None forgets them.
    """

    def __init__(
        self, url: str, *, key: str | None = None, tenant: str | None = None, memory: Path | None = None
    ) -> None:
        headers: dict[str, str] = {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if tenant:
            headers["Tanda-Tenant"] = tenant
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, verify=verify_for(url))
        self._memory = memory

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- going in

    def upload(
        self, paths: Iterable[str | Path], *, on_bytes: OnBytes = lambda _name, _bytes: None, **fields: Any
    ) -> dict[str, Any]:
        """Uploads files and folders as one batch and returns it, sealed.

        ``fields`` are those of the HTTP contract: name, processor, options, priority, start_at,
        metadata, tags. The same call after an interruption goes on where it was.
        """
        files = collect_files(paths)
        chosen = {key: value for key, value in fields.items() if value is not None}
        return self._reached(lambda: Upload(self._http, files, chosen, self._memory).run(on_bytes))

    def open_batch(self, key: str, **fields: Any) -> dict[str, Any]:
        """An open batch, to be filled file by file; the same key within a day is the same batch."""
        return self._json(
            "POST", "/v1/batches", json={**fields, "open": True}, headers={"Idempotency-Key": key}
        )

    def put_file(self, batch_id: str, name: str, path: Path) -> dict[str, Any]:
        """One file into an open batch, streamed; the same name and bytes again are the same file."""
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Content-Type": kind, "Content-Length": str(path.stat().st_size)}
        with path.open("rb") as file:
            url = f"/v1/batches/{batch_id}/files/{quote(name, safe='')}"
            return self._json("PUT", url, content=file, headers=headers)

    def result(self, batch_id: str, file_id: str) -> Any:
        """One file's result."""
        return self._json("GET", f"/v1/batches/{batch_id}/files/{file_id}/result")

    # -- control

    def command(self, batch_id: str, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """``pause``, ``resume``, ``cancel``: the batch as it is then."""
        return self._json("POST", f"/v1/batches/{batch_id}/{verb}", json=body)

    def retry(
        self,
        batch_id: str,
        *,
        file_ids: Sequence[str] | None = None,
        status: str | None = None,
        processor: str | None = None,
        processor_version: str | None = None,
    ) -> int:
        """Starts files again, all failed ones where none are named; how many."""
        body = present(
            file_ids=file_ids, status=status, processor=processor, processor_version=processor_version
        )
        return self.command(batch_id, "retry", body)["retried"]

    def archive(self, batch_id: str, file_ids: Sequence[str], reason: str) -> dict[str, Any]:
        """Archives sources without waiting for their results; recorded with the reason."""
        return self.command(batch_id, "archive", {"file_ids": list(file_ids), "reason": reason})

    def change(self, batch_id: str, **fields: Any) -> dict[str, Any]:
        """``priority``, ``start_at``, ``expires_at``, ``limit``; None takes a schedule or a limit away."""
        return self._json("PATCH", f"/v1/batches/{batch_id}", json=fields)

    def bulk(self, action: str, *, dry_run: bool = False, **filter: Any) -> dict[str, Any]:
        """Pauses, resumes, cancels or retries every batch that a filter names; returns its handle."""
        body = {"action": action, "filter": present(**filter), "dry_run": dry_run}
        return self._json("POST", "/v1/bulk-actions", json=body)

    def bulk_action(self, bulk_id: str, *, abort: bool = False) -> dict[str, Any]:
        """How far a bulk action has come; ``abort`` ends it first."""
        if abort:
            return self._json("POST", f"/v1/bulk-actions/{bulk_id}/abort")
        return self._json("GET", f"/v1/bulk-actions/{bulk_id}")

    def limits(self) -> dict[str, Any]:
        """Every limit, and what of it is used."""
        return self._json("GET", "/v1/limits")

    def set_limits(self, **kinds: dict[str, int | None]) -> dict[str, Any]:
        """``providers``, ``processors``, ``tenants``: names with their limits, None for the default."""
        return self._json("PUT", "/v1/limits", json=kinds)

    def quarantine(self) -> Iterator[dict[str, Any]]:
        """Files that wait for a person to look at them, newest first."""
        return pages(self._http, "/v1/quarantine", {})

    # -- looking

    def batch(self, batch_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/batches/{batch_id}")

    def batches(self, **query: Any) -> Iterator[dict[str, Any]]:
        """Newest first; ``status``, ``tag``, ``q`` … select."""
        chosen = {key: value for key, value in query.items() if value is not None}
        return pages(self._http, "/v1/batches", chosen)

    def files(self, batch_id: str, **query: Any) -> Iterator[dict[str, Any]]:
        """In upload order; ``status="failed"`` selects."""
        return pages(self._http, f"/v1/batches/{batch_id}/files", query)

    def events(self, batch_id: str | None = None, after: int | None = None) -> Iterator[LiveEvent]:
        """The live stream, for ever: a snapshot first, then each event once, whatever breaks between."""
        params = {"batch": batch_id} if batch_id else {}
        return follow(self._http, "/v1/events", params, after)

    def watch(self, batch_id: str) -> Iterator[dict[str, Any]]:
        """The batch now and after each of its events, until it is finished."""
        batch = self.batch(batch_id)
        yield batch
        if batch["status"] in FINISHED and batch["results"]["ready"]:
            return
        for event in self.events(batch_id):
            seq = event.id or 0
            if event.name != "snapshot" and seq <= batch["seq"]:
                continue
            batch = self._json("GET", f"/v1/batches/{batch_id}", params={"min_seq": str(seq)})
            yield batch
            if batch["status"] in FINISHED and batch["results"]["ready"]:
                return

    # -- coming out

    def results(self, batch_id: str) -> dict[str, Any]:
        """The result JSON, whole."""
        return self._json("GET", f"/v1/batches/{batch_id}/results")

    def download_results(self, batch_id: str, target: str | Path, *, format: str = "json") -> int:
        """Writes the results into a file and returns its length in bytes."""
        params = {} if format == "json" else {"format": format}
        written = 0

        def download() -> None:
            nonlocal written
            with self._http.stream("GET", f"/v1/batches/{batch_id}/results", params=params) as response:
                raise_for_problem(response)
                with Path(target).open("wb") as file:
                    for piece in response.iter_bytes():
                        written += file.write(piece)

        self._reached(download)
        return written

    # -- inside

    def _json(self, method: str, path: str, **more: Any) -> Any:
        def call() -> Any:
            response = self._http.request(method, path, **more)
            raise_for_problem(response)
            return response.json()

        return self._reached(call)

    def _reached(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except httpx2.TransportError as error:
            raise TandaUnreachable(f"No answer from {self._http.base_url}: {error}") from error
