"""Anthropic's Messages API, streamed: the schema is a tool, its input the answer."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.worker.outside.dialect import SYSTEM, Said, Tokens, Trouble, task
from services.worker.outside.document import Document
from tanda.domain.extraction import Extraction
from tanda.settings import Settings

VERSION: Final = "2023-06-01"
TOOL: Final = "extraction"
HOW: Final = f"Answer with one call of the tool {TOOL} and no other words."
#: The API's limit on a document's title.
TITLE_CHARS_MAX: Final = 255

#: The API's table of errors and their statuses; any other is a failure of the server.
_STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_CUT: Final = ("max_tokens", "model_context_window_exceeded")


class _Usage(msgspec.Struct):
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None


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
    """Any event of the stream; those that nobody here needs decode too."""

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
        self.headers: Mapping[str, str] = {"x-api-key": self.api_key, "anthropic-version": VERSION}

    def body(self, asked: Extraction, document: Document) -> dict[str, Any]:
        tool = {"name": TOOL, "description": "Takes what was extracted.", "input_schema": asked.schema}
        content = [_block(document), {"type": "text", "text": task(asked, HOW)}]
        return {
            "model": asked.model,
            "max_tokens": asked.max_tokens,
            "stream": True,
            "system": SYSTEM,
            "tools": [tool],
            # not forced: models that always think refuse a choice that forces a tool
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "messages": [{"role": "user", "content": content}],
        }

    def take(self, said: Said, data: str) -> Trouble | None:
        event = msgspec.json.decode(data, type=_Event)
        match event:
            case _Event(error=_Error() as error):
                return Trouble(_STATUS.get(error.type, 500), error.type or "error", error.message)
            case _Event(message=_Message() as message):
                said.model = message.model
                _count(said, message.usage)
            case _Event(delta=_Delta(type="input_json_delta") as delta):
                said.pieces.append(delta.partial_json)
            case _Event(type="message_delta", delta=_Delta() as delta, usage=usage):
                _count(said, usage)
                _stop(said, delta.stop_reason)
            case _Event(type="message_stop"):
                said.is_complete = True
            case _:
                pass  # ping, words and thoughts beside the call, and what the API may add
        return None


def _block(document: Document) -> dict[str, Any]:
    if document.kind == "text":
        source = {"type": "text", "media_type": "text/plain", "data": document.data}
    else:
        source = {"type": "base64", "media_type": document.content_type, "data": document.data}
    if document.kind == "image":
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, "title": document.name[:TITLE_CHARS_MAX]}


def _count(said: Said, usage: _Usage | None) -> None:
    """The counts are running totals: the last one counts."""
    if usage is None:
        return
    if usage.input_tokens is not None:
        said.input_tokens = usage.input_tokens
    if usage.output_tokens is not None:
        said.output_tokens = usage.output_tokens


def _stop(said: Said, reason: str | None) -> None:
    said.is_cut = reason in _CUT
    if reason == "refusal":
        said.declined = ""
    if reason == "tool_use" and not any(said.pieces):
        said.pieces.append("{}")  # a call with nothing in it has no pieces
