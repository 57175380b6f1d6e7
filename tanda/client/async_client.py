"""The client for asyncio: the same things a user does, awaited.

::

    async with AsyncClient("http://127.0.0.1:8420") as tanda:
        batch = await tanda.upload(["invoices/"], name="noviembre")
        async for update in tanda.watch(batch["id"]):
            print(update["progress"]["settled_pct"])
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

from tanda.client.errors import TandaProblem, TandaUnreachable, raise_for_problem
from tanda.client.form import FormUpload, present
from tanda.client.live import RECONNECT_WAIT_S, SILENCE_S, LiveEvent, Positions
from tanda.client.tls import verify_for
from tanda.client.uploads import STILL_RUNNING, collect_files

FINISHED = frozenset({"completed", "completed_with_errors", "failed", "cancelled"})
TIMEOUT_S = 60.0
#: Tries of one upload, each waiting twice as long as the one before.
RETRIES = 5


class AsyncClient:
    """Talks to one gateway; raises TandaProblem where it refuses, TandaUnreachable where nobody answers."""

    def __init__(self, url: str, *, key: str | None = None, tenant: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= {"Tanda-Tenant": tenant} if tenant else {}
        self._http = httpx2.AsyncClient(
            base_url=url, headers=headers, timeout=TIMEOUT_S, verify=verify_for(url)
        )

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def upload(self, paths: Iterable[str | Path], **fields: Any) -> dict[str, Any]:
        """Uploads files and folders in one streamed request and returns the batch.

        It is repeated under one idempotency key where the connection breaks: never two batches.
        """
        files = await asyncio.to_thread(collect_files, paths)
        form = FormUpload(files, {name: value for name, value in fields.items() if value is not None})
        headers = {**form.headers, "Idempotency-Key": secrets.token_urlsafe(24)}
        for attempt in range(RETRIES):
            try:
                return await self._json("POST", "/v1/batches", content=form.pieces(), headers=headers)
            except (TandaUnreachable, TandaProblem) as error:
                if not _is_worth_repeating(error) or attempt == RETRIES - 1:
                    raise
            await asyncio.sleep(RECONNECT_WAIT_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    # -- control

    async def command(self, batch_id: str, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """``pause``, ``resume``, ``cancel``: the batch as it is then."""
        return await self._json("POST", f"/v1/batches/{batch_id}/{verb}", json=body)

    async def retry(
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
        return (await self.command(batch_id, "retry", body))["retried"]

    async def archive(self, batch_id: str, file_ids: Sequence[str], reason: str) -> dict[str, Any]:
        """Archives sources without waiting for their results; recorded with the reason."""
        return await self.command(batch_id, "archive", {"file_ids": list(file_ids), "reason": reason})

    async def change(self, batch_id: str, **fields: Any) -> dict[str, Any]:
        """``priority``, ``start_at``, ``expires_at``, ``limit``; None takes a schedule or a limit away."""
        return await self._json("PATCH", f"/v1/batches/{batch_id}", json=fields)

    async def bulk(self, action: str, *, dry_run: bool = False, **filter: Any) -> dict[str, Any]:
        """Pauses, resumes, cancels or retries every batch that a filter names; returns its handle."""
        body = {"action": action, "filter": present(**filter), "dry_run": dry_run}
        return await self._json("POST", "/v1/bulk-actions", json=body)

    async def bulk_action(self, bulk_id: str, *, abort: bool = False) -> dict[str, Any]:
        """How far a bulk action has come; ``abort`` ends it first."""
        if abort:
            return await self._json("POST", f"/v1/bulk-actions/{bulk_id}/abort")
        return await self._json("GET", f"/v1/bulk-actions/{bulk_id}")

    async def limits(self) -> dict[str, Any]:
        """Every limit, and what of it is used."""
        return await self._json("GET", "/v1/limits")

    async def set_limits(self, **kinds: dict[str, int | None]) -> dict[str, Any]:
        """``providers``, ``processors``, ``tenants``: names with their limits, None for the default."""
        return await self._json("PUT", "/v1/limits", json=kinds)

    def quarantine(self) -> AsyncGenerator[dict[str, Any]]:
        """Files that wait for a person to look at them, newest first."""
        return self._pages("/v1/quarantine", {})

    async def batch(self, batch_id: str) -> dict[str, Any]:
        """A batch as it is now."""
        return await self._json("GET", f"/v1/batches/{batch_id}")

    def batches(self, **query: Any) -> AsyncGenerator[dict[str, Any]]:
        """Newest first; ``status``, ``tag``, ``q`` … select."""
        return self._pages("/v1/batches", query)

    def files(self, batch_id: str, **query: Any) -> AsyncGenerator[dict[str, Any]]:
        """In upload order; ``status="failed"`` selects."""
        return self._pages(f"/v1/batches/{batch_id}/files", query)

    async def results(self, batch_id: str) -> dict[str, Any]:
        """The result JSON, whole."""
        return await self._json("GET", f"/v1/batches/{batch_id}/results")

    async def events(
        self, batch_id: str | None = None, after: int | None = None
    ) -> AsyncGenerator[LiveEvent]:
        """The live stream, for ever: a snapshot first, then each event once, whatever breaks between."""
        params = {"batch": batch_id} if batch_id else {}
        while True:
            try:
                async with aclosing(self._connection(params, after)) as events:
                    async for event in events:
                        after = event.id if event.id is not None else after
                        yield event
            except TandaProblem as problem:
                if problem.status < 500:
                    raise
            except httpx2.TransportError:
                pass
            await asyncio.sleep(RECONNECT_WAIT_S)

    async def watch(self, batch_id: str) -> AsyncGenerator[dict[str, Any]]:
        """The batch now and after each of its events, until it is finished."""
        batch = await self.batch(batch_id)
        yield batch
        if _is_finished(batch):
            return
        async with aclosing(self.events(batch_id)) as events:
            async for event in events:
                seq = event.id or 0
                if event.name != "snapshot" and seq <= batch["seq"]:
                    continue
                batch = await self._json("GET", f"/v1/batches/{batch_id}", params={"min_seq": str(seq)})
                yield batch
                if _is_finished(batch):
                    return

    async def _connection(self, params: dict[str, str], after: int | None) -> AsyncGenerator[LiveEvent]:
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        timeout = httpx2.Timeout(10, read=SILENCE_S)
        async with self._http.stream(
            "GET", "/v1/events", params=params, headers=headers, timeout=timeout
        ) as response:
            if response.is_error:
                await response.aread()
            raise_for_problem(response)
            positions = Positions()
            async for frame in httpx2.EventSource(response):
                for event in positions.take(frame.event, frame.id, frame.json()):
                    yield event

    async def _pages(self, path: str, query: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        params = {"limit": 200, **{name: value for name, value in query.items() if value is not None}}
        while True:
            page = await self._json("GET", path, params=params)
            for entry in page["data"]:
                yield entry
            if not page["has_more"]:
                return
            params["cursor"] = page["next_cursor"]

    async def _json(self, method: str, path: str, **more: Any) -> Any:
        try:
            response = await self._http.request(method, path, **more)
        except httpx2.TransportError as error:
            raise TandaUnreachable(f"No answer from {self._http.base_url}: {error}") from error
        raise_for_problem(response)
        return response.json()


def _is_worth_repeating(error: TandaUnreachable | TandaProblem) -> bool:
    if isinstance(error, TandaUnreachable):
        return True
    return error.status >= 500 or error.code == STILL_RUNNING


def _is_finished(batch: dict[str, Any]) -> bool:
    return batch["status"] in FINISHED and batch["results"]["ready"]
