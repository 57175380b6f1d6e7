"""The ``llm`` processor: a model extracts from a document what a schema asks for.

Offered only where a provider is configured. The answer is streamed, bounded in bytes and time, and
counts only where it is an object of the schema; tokens and cost stand beside the result.
"""

import asyncio
import base64
import codecs
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx2
import msgspec
import structlog

from services.worker.outside.calling import (
    CONNECT_S,
    AnswerTooLarge,
    Call,
    bounded,
    clean,
    refusal,
    too_large,
    unreachable,
    within,
)
from services.worker.outside.llm_anthropic import Anthropic
from services.worker.outside.llm_openai import OpenAI
from services.worker.outside.llm_talk import Dialect, Document, Said
from services.worker.outside.sse import event_data
from tanda.contracts.codec import encode
from tanda.contracts.results import Failure, Pending, Result, Usage
from tanda.domain.extraction import Extraction, extraction, mismatch
from tanda.settings import Settings, llm_prices, providers

#: Held in memory some three times over (bytes, base64, JSON), for each call at once. Anthropic takes 32 MB
#: of JSON, in which this is 14.
SOURCE_BYTES_MAX: Final = 10 * 1024**2
IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TEXTS: Final = frozenset({"application/xml", "application/json"})
PDF: Final = "application/pdf"
TOKENS_PER_PRICE: Final = 1_000_000

_log = structlog.get_logger("tanda.runner")


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
            return Failure(code="bad_options", message=f"The options do not fit: {error}.")
        dialect = self._dialects.get(f"llm-{asked.provider}")
        if dialect is None:
            return Failure(code="unknown_provider", message=f"There is no provider {asked.provider!r} here.")
        outcome = await self._read_and_ask(dialect, asked, call)
        if isinstance(outcome, Failure) and dialect.api_key:
            message = outcome.message.replace(
                dialect.api_key, "***"
            )  # a provider may repeat what it was told
            return msgspec.structs.replace(outcome, message=message)
        return outcome

    async def _read_and_ask(self, dialect: Dialect, asked: Extraction, call: Call) -> Result | Failure:
        kind = call.item.content_type
        if call.item.bytes > SOURCE_BYTES_MAX:
            message = f"A model is given files of {SOURCE_BYTES_MAX:,} bytes at most."
            return Failure(code="too_large", message=message)
        if not _is_readable(kind):
            message = f"A model is given PDF, JPEG, PNG, GIF, WebP and text, not {kind}."
            return Failure(code="unsupported_type", message=message)
        content = b"".join([piece async for piece in call.source()])
        document, warnings = _document(call.item.name, kind, content)
        try:
            async with asyncio.timeout(self._settings.provider_wall_s):
                said = await self._ask(dialect, asked, document, call)
        except AnswerTooLarge:
            return too_large(self._settings.provider_answer_bytes_max)
        except msgspec.DecodeError:
            message = "The provider's stream is not what its API promises."
            return Failure(code="malformed_answer", message=message, retryable=True)
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            return unreachable(error)
        return said if isinstance(said, Failure) else self._outcome(dialect, asked, said, call, warnings)

    async def _ask(
        self, dialect: Dialect, asked: Extraction, document: Document, call: Call
    ) -> Said | Failure:
        headers = {
            **dialect.headers,
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Idempotency-Key": call.idempotency_key,
        }
        content = encode(dialect.body(asked, document))
        bytes_max = self._settings.provider_answer_bytes_max
        async with self._client.stream("POST", dialect.url, content=content, headers=headers) as response:
            if response.status_code != 200:
                body = await bounded(response, bytes_max)
                return refusal(response.status_code, response.headers, body, datetime.now(UTC))
            said = Said()
            async for data in event_data(within(response, bytes_max)):
                failure = dialect.take(said, data)
                if failure is not None:
                    return failure
        return said

    def _outcome(
        self, dialect: Dialect, asked: Extraction, said: Said, call: Call, warnings: list[str]
    ) -> Result | Failure:
        usage = self._usage(dialect.provider, asked.model, said)
        outcome = _judged(asked, said)
        if isinstance(outcome, Result):
            return msgspec.structs.replace(outcome, usage=usage, warnings=warnings)
        _log.info(
            "an answer is of no use", file=call.item.file_id, attempt=call.item.attempt, code=outcome.code,
            provider=usage.provider, model=usage.model, input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens, usd=usage.usd,
        )  # fmt: skip
        return outcome

    def _usage(self, provider: str, asked_model: str, said: Said) -> Usage:
        """The price of the model that answered, else of the one that was asked: an alias may have either."""
        model = said.model or asked_model
        price = self._prices.get(model) or self._prices.get(asked_model)
        usd = None
        if price is not None:
            usd = (said.input_tokens * price[0] + said.output_tokens * price[1]) / TOKENS_PER_PRICE
        return Usage(
            provider=provider, model=model, input_tokens=said.input_tokens,
            output_tokens=said.output_tokens, usd=None if usd is None else round(usd, 6),
        )  # fmt: skip


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


def _is_readable(content_type: str) -> bool:
    is_text = content_type.startswith("text/") or content_type in TEXTS
    return is_text or content_type == PDF or content_type in IMAGES


def _document(name: str, content_type: str, content: bytes) -> tuple[Document, list[str]]:
    """A file for a model, and what had to be guessed."""
    if content_type == PDF or content_type in IMAGES:
        data = base64.b64encode(content).decode()
        kind = "pdf" if content_type == PDF else "image"
        return Document(name=name, content_type=content_type, kind=kind, data=data), []
    text, warnings = _text(content)
    return Document(name=name, content_type=content_type, kind="text", data=text), warnings


def _text(content: bytes) -> tuple[str, list[str]]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), ["The text is no UTF-8; it was read as Windows-1252."]
