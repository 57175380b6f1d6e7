"""OpenAI's chat completions, streamed, as many servers speak them: the schema is the response format."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.worker.outside.dialect import SYSTEM, Said, Tokens, Trouble, task
from services.worker.outside.document import Document
from tanda.domain.extraction import Extraction
from tanda.settings import Settings

HOW: Final = "Answer with one JSON object and no other words."
#: What stands for the end of the stream; no JSON.
DONE: Final = "[DONE]"

#: Errors in the middle of a stream, by code or type, as statuses; any other is a failure of the server.
_STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 503,
    "service_unavailable": 503,
}


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Tokens
    completion_tokens: Tokens


class _Error(msgspec.Struct):
    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _Chunk(msgspec.Struct):
    model: str = ""
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


class OpenAI:
    """See ``Dialect``."""

    provider = "llm-openai"

    def __init__(self, settings: Settings) -> None:
        self.url = f"{settings.openai_url.rstrip('/')}/chat/completions"
        self.api_key = settings.openai_api_key
        #: A server of one's own may want no key.
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def body(self, asked: Extraction, document: Document) -> dict[str, Any]:
        content = [_part(document), {"type": "text", "text": task(asked, HOW)}]
        form = {"name": "extraction", "schema": asked.schema}
        return {
            "model": asked.model,
            "max_completion_tokens": asked.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
            "response_format": {"type": "json_schema", "json_schema": form},
        }

    def take(self, said: Said, data: str) -> Trouble | None:
        if data == DONE:
            return None
        chunk = msgspec.json.decode(data, type=_Chunk)
        if chunk.error is not None:
            return _trouble(chunk.error)
        said.model = chunk.model or said.model
        if chunk.usage is not None:
            said.input_tokens = chunk.usage.prompt_tokens
            said.output_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices[:1]:
            _add(said, choice)
        return None


def _part(document: Document) -> dict[str, Any]:
    if document.kind == "text":
        return {"type": "text", "text": f"<document>\n{document.data}\n</document>"}
    url = f"data:{document.content_type};base64,{document.data}"
    if document.kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": document.name, "file_data": url}}


def _add(said: Said, choice: _Choice) -> None:
    if choice.delta.content:
        said.pieces.append(choice.delta.content)
    if choice.delta.refusal:
        said.declined = (said.declined or "") + choice.delta.refusal
    if choice.finish_reason is not None:
        said.is_complete = True
        said.is_cut = choice.finish_reason == "length"
    if choice.finish_reason == "content_filter":
        said.declined = said.declined or ""


def _trouble(error: _Error) -> Trouble:
    """Servers tell the kind as a code, as a type, or as the number of a status."""
    kinds = [str(one) for one in (error.code, error.type) if one is not None]
    known = [_STATUS[one] for one in kinds if one in _STATUS]
    known += [int(one) for one in kinds if one.isdecimal() and 400 <= int(one) <= 599]
    return Trouble(known[0] if known else 500, kinds[0] if kinds else "error", error.message)
