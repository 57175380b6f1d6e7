"""The ``http`` processor: posts a file, or a reference to it, to a configured endpoint.

The answer is the result (200 with JSON), or the work goes on elsewhere (202) and is confirmed by a
callback. Only endpoints of the settings are called: nothing of a user's decides where a request goes.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from services.worker.outside.calling import (
    CONNECT_S,
    AnswerTooLarge,
    Call,
    bounded,
    refusal,
    too_large,
    unreachable,
)
from tanda.contracts.codec import encode
from tanda.contracts.results import Failure, Pending, Result
from tanda.contracts.work import WorkItem
from tanda.settings import Settings

#: A confirmation may be weeks away, not for ever.
WAIT_S_MAX = 90 * 86_400.0


class Http:
    """Endpoints by name; ``options.endpoint`` chooses, ``options.send`` is ``file`` or ``reference``.

    Failure codes: ``rate_limited``, ``unavailable``, ``provider_error``, ``provider_refused``,
    ``provider_timeout``, ``provider_unreachable``, ``bad_answer``, ``unknown_endpoint``.
    """

    version = "1"

    def __init__(self, endpoints: Mapping[str, str], settings: Settings) -> None:
        self._endpoints = dict(endpoints)
        self._settings = settings
        timeout = httpx2.Timeout(settings.provider_wall_s, connect=CONNECT_S)
        self._client = httpx2.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, call: Call) -> Result | Failure | Pending:
        """See ``Outside``."""
        name = str(call.item.options.get("endpoint", "default"))
        url = self._endpoints.get(name)
        if url is None:
            return Failure(code="unknown_endpoint", message=f"There is no endpoint {name!r} here.")
        try:
            async with asyncio.timeout(self._settings.provider_wall_s):
                return await self._post(url, call)
        except AnswerTooLarge:
            return too_large(self._settings.provider_answer_bytes_max)
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            return unreachable(error)

    def question(self, item: WorkItem) -> bytes | None:
        """See ``Outside``: a post is an effect, and each file has its own."""
        return None

    async def _post(self, url: str, call: Call) -> Result | Failure | Pending:
        content, kind = self._content(call)
        headers = self._headers(call) | {"Content-Type": kind}
        async with self._client.stream("POST", url, content=content, headers=headers) as response:
            body = await bounded(response, self._settings.provider_answer_bytes_max)
        if response.status_code == 202:
            return Pending(deadline_s=self._wait_s(call.item.options))
        if response.status_code in (200, 201):
            return _result(body)
        return refusal(response.status_code, response.headers, body, datetime.now(UTC))

    def _content(self, call: Call) -> tuple[AsyncIterator[bytes] | bytes, str]:
        item = call.item
        if item.options.get("send") != "reference":
            return call.source(), item.content_type
        base = call.callback_url.partition("/v1/")[0]
        reference = {
            "batch_id": item.batch_id,
            "file_id": item.file_id,
            "name": item.name,
            "content_type": item.content_type,
            "bytes": item.bytes,
            "sha256": item.sha256,
            "attempt": item.attempt,
            "source_url": f"{base}/v1/batches/{item.batch_id}/files/{item.file_id}/source",
            "callback_url": call.callback_url,
        }
        return encode(reference), "application/json"

    def _headers(self, call: Call) -> dict[str, str]:
        item = call.item
        return {
            "Idempotency-Key": call.idempotency_key,
            "Tanda-Batch": item.batch_id,
            "Tanda-File": item.file_id,
            "Tanda-File-Name": quote(item.name),
            "Tanda-Attempt": str(item.attempt),
            "Tanda-Sha256": item.sha256,
            "Tanda-Callback": call.callback_url,
        }

    def _wait_s(self, options: Mapping[str, Any]) -> float:
        wait_s = options.get("wait_s", self._settings.callback_wait_s)
        if not isinstance(wait_s, int | float) or not 0 < wait_s <= WAIT_S_MAX:
            return self._settings.callback_wait_s
        return float(wait_s)


def _result(body: bytes) -> Result | Failure:
    try:
        return Result(data=msgspec.json.decode(body))
    except (ValueError, RecursionError):  # also bytes that are no UTF-8 within a string
        return Failure(code="bad_answer", message="The provider's answer is not JSON.")
