"""The ``llm`` processor: a model extracts from a document what a schema asks for.

Offered only where a provider is configured. The answer is streamed, bounded in bytes and time, and
counts only where it fits the schema; tokens and cost stand beside the result.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx2
import msgspec

from services.worker.outside.calling import (
    CONNECT_S,
    AnswerTooLarge,
    Call,
    bounded,
    clean,
    meaning,
    refusal,
    too_large,
    unreachable,
)
from services.worker.outside.dialect import Dialect, Said
from services.worker.outside.document import Document, document, unfit
from services.worker.outside.llm_anthropic import Anthropic
from services.worker.outside.llm_openai import OpenAI
from tanda.contracts.codec import encode
from tanda.contracts.results import Failure, Pending, Result, Usage
from tanda.contracts.work import WorkItem
from tanda.domain.extraction import Extraction, extraction, mismatch
from tanda.settings import Settings, llm_prices, providers

TOKENS_PER_PRICE: Final = 1_000_000


class Llm:
    """``options``: see ``Extraction``.

    Failure codes: ``rate_limited``, ``unavailable``, ``provider_error``, ``provider_refused``,
    ``provider_timeout``, ``provider_unreachable``, ``bad_answer``, ``malformed_answer``, ``answer_cut``,
    ``bad_options``, ``unknown_provider``, ``unsupported_type``, ``too_large``.
    """

    version = "1"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prices = llm_prices(settings)
        self._dialects = _dialects(settings)
        timeout = httpx2.Timeout(settings.provider_wall_s, connect=CONNECT_S)
        self._client = httpx2.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, call: Call) -> Result | Failure | Pending:
        """See ``Outside``."""
        try:
            asked = extraction(call.item.options)
        except ValueError as error:
            return Failure(code="bad_options", message=f"The options of llm do not fit: {error}.")
        dialect = self._dialects.get(f"llm-{asked.provider}")
        if dialect is None:
            return Failure(code="unknown_provider", message=f"There is no provider {asked.provider!r} here.")
        if failure := unfit(call.item):
            return failure
        content = b"".join([piece async for piece in call.source()])
        read = document(call.item.name, call.item.content_type, content)
        said = await self._ask(dialect, asked, read, call.idempotency_key)
        if isinstance(said, Failure):
            return said
        usage = self._usage(dialect.provider, asked.model, said)
        outcome = _judged(asked, said)
        if isinstance(outcome, Failure):
            return msgspec.structs.replace(outcome, usage=usage)
        return msgspec.structs.replace(outcome, usage=usage, warnings=read.warnings)

    def question(self, item: WorkItem) -> bytes | None:
        """See ``Outside``: the whole request and where it goes, with the document's digest in its place."""
        try:
            asked = extraction(item.options)
        except ValueError:
            return None
        dialect = self._dialects.get(f"llm-{asked.provider}")
        if dialect is None or unfit(item):
            return None
        digest = document(item.name, item.content_type, item.sha256.encode())
        return dialect.url.encode() + b"\n" + encode(dialect.body(asked, digest))

    async def _ask(self, dialect: Dialect, asked: Extraction, read: Document, key: str) -> Said | Failure:
        """The whole answer, or what went wrong on the way, within the bounds of bytes and time."""
        headers = {**dialect.headers, "Content-Type": "application/json", "Idempotency-Key": key}
        content = encode(dialect.body(asked, read))
        try:
            async with (
                asyncio.timeout(self._settings.provider_wall_s),
                self._client.stream("POST", dialect.url, content=content, headers=headers) as response,
            ):
                return await self._listen(dialect, response)
        except AnswerTooLarge:
            return too_large(self._settings.provider_answer_bytes_max)
        except httpx2.SSEError:
            bytes_max = f"{self._settings.provider_answer_bytes_max:,}"
            message = f"The provider's answer is no stream of events, or one of over {bytes_max} bytes."
            return Failure(code="bad_answer", message=message)
        except (msgspec.DecodeError, RecursionError):
            message = "The provider's stream is not what its API promises."
            return Failure(code="malformed_answer", message=message, retryable=True)
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            return unreachable(error)

    async def _listen(self, dialect: Dialect, response: httpx2.Response) -> Said | Failure:
        bytes_max = self._settings.provider_answer_bytes_max
        if response.status_code != 200:
            body = await bounded(response, bytes_max)
            told = _without(dialect.api_key, body.decode("utf-8", "replace")).encode()
            return refusal(response.status_code, response.headers, told, datetime.now(UTC))
        said, chars = Said(), 0
        async for event in httpx2.EventSource(response, bytes_max):
            chars += len(event.data)
            if chars > bytes_max:
                raise AnswerTooLarge
            if event.data and (trouble := dialect.take(said, event.data)):
                kind, reason = (_without(dialect.api_key, one) for one in (trouble.kind, trouble.reason))
                return meaning(trouble.status, clean(kind), reason)
        return said

    def _usage(self, provider: str, asked_model: str, said: Said) -> Usage:
        """The price of the model that answered, else of the one that was asked: an alias may have either."""
        model = clean(said.model) or asked_model
        price = self._prices.get(model) or self._prices.get(asked_model)
        read, written = said.input_tokens, said.output_tokens
        usd = None
        if price is not None and read is not None and written is not None:
            usd = round((read * price[0] + written * price[1]) / TOKENS_PER_PRICE, 6)
        return Usage(
            provider=provider, model=model, input_tokens=read or 0, output_tokens=written or 0, usd=usd
        )


def _dialects(settings: Settings) -> Mapping[str, Dialect]:
    known: tuple[Dialect, ...] = (Anthropic(settings), OpenAI(settings))
    configured = providers(settings)
    return {one.provider: one for one in known if one.provider in configured}


def _judged(asked: Extraction, said: Said) -> Result | Failure:
    if said.declined is not None:
        reason = f": {clean(said.declined)}" if said.declined else "."
        return Failure(code="provider_refused", message=f"The model declined to answer{reason}")
    if said.is_cut:
        message = f"The answer has more than {asked.max_tokens:,} tokens; options.max_tokens allows more."
        return Failure(code="answer_cut", message=message)
    if not said.is_complete:
        message = "The provider's answer broke off."
        return Failure(code="provider_error", message=message, retryable=True)
    try:
        data = msgspec.json.decode("".join(said.pieces))
    except (msgspec.DecodeError, RecursionError):
        return _malformed("it is not JSON")
    wrong = mismatch(data, asked.shape)
    return Result(data=data) if wrong is None else _malformed(clean(wrong))


def _malformed(wrong: str) -> Failure:
    message = f"The model's answer does not fit the schema: {wrong}."
    return Failure(code="malformed_answer", message=message, retryable=True)


def _without(secret: str, text: str) -> str:
    """A provider may repeat what it was told."""
    return text.replace(secret, "***") if secret else text
