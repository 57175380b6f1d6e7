"""Anthropic's Messages API, streamed: the schema is a tool that the model must call, its input the answer."""

from typing import Any, Final

import msgspec

from services.worker.outside.calling import meaning
from services.worker.outside.llm_talk import SYSTEM, Document, Said, task
from tanda.contracts.results import Failure
from tanda.domain.extraction import Extraction
from tanda.settings import Settings

VERSION: Final = "2023-06-01"
TOOL: Final = "extraction"
#: The API's limit on a document's title.
TITLE_CHARS_MAX: Final = 255

#: What an error in the middle of a stream would have been as a status (the API's own table of errors).
_STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_CUT: Final = ("max_tokens", "model_context_window_exceeded")


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Message(msgspec.Struct):
    model: str = ""
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    """Any event of the stream; the ones that nobody here needs decode too."""

    type: str
    message: _Message | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class Anthropic:
    """See ``Dialect``."""

    provider = "llm-anthropic"

    def __init__(self, settings: Settings) -> None:
        self.url = f"{settings.anthropic_url.rstrip('/')}/v1/messages"
        self.api_key = settings.anthropic_api_key
        self.headers = {"x-api-key": self.api_key, "anthropic-version": VERSION}

    def body(self, asked: Extraction, document: Document) -> dict[str, Any]:
        tool = {"name": TOOL, "description": "Takes what was found.", "input_schema": asked.schema}
        content = [_block(document), {"type": "text", "text": task(asked)}]
        return {
            "model": asked.model,
            "max_tokens": asked.max_tokens,
            "stream": True,
            "system": SYSTEM,
            "tools": [tool],
            "tool_choice": {"type": "tool", "name": TOOL},
            "messages": [{"role": "user", "content": content}],
        }

    def take(self, said: Said, data: bytes) -> Failure | None:
        event = msgspec.json.decode(data, type=_Event)
        match event:
            case _Event(type="error", error=error):
                return _failure(error or _Error())
            case _Event(type="message_start", message=_Message() as message):
                said.model = message.model
                _count(said, message.usage)
            case _Event(type="content_block_delta", delta=_Delta(type="input_json_delta") as delta):
                said.pieces.append(delta.partial_json)
            case _Event(type="message_delta"):
                _count(said, event.usage)
                _stop(said, event.delta.stop_reason if event.delta else None)
            case _Event(type="message_stop"):
                said.is_complete = True
            case _:
                pass  # ping, the bounds of blocks, and what the API may add
        return None


def _block(document: Document) -> dict[str, Any]:
    if document.kind == "image":
        source = {"type": "base64", "media_type": document.content_type, "data": document.data}
        return {"type": "image", "source": source}
    source = {"type": "base64", "media_type": "application/pdf", "data": document.data}
    if document.kind == "text":
        source = {"type": "text", "media_type": "text/plain", "data": document.data}
    return {"type": "document", "source": source, "title": document.name[:TITLE_CHARS_MAX]}


def _count(said: Said, usage: _Usage | None) -> None:
    """The counts are running totals: the last one counts."""
    if usage is None:
        return
    if usage.input_tokens is not None:
        cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
        said.input_tokens = usage.input_tokens + cached
    if usage.output_tokens is not None:
        said.output_tokens = usage.output_tokens


def _stop(said: Said, reason: str | None) -> None:
    said.is_cut = reason in _CUT
    if reason == "refusal":
        said.declined = ""


def _failure(error: _Error) -> Failure:
    return meaning(_STATUS.get(error.type, 500), error.type or "error", error.message)
