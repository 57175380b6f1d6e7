"""What the two APIs of models stream, event by event, as they stream it; for ``tests.provider`` to answer."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from tests.provider import Answer

STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
JSON = {"Content-Type": "application/json"}
#: Tokens read and written.
READ, WRITTEN = 849, 47
PIECE_CHARS = 7


def anthropic(text: str, *, stop: str = "tool_use", model: str = "claude-test-1-20260101") -> list[bytes]:
    """A call of the tool ``extraction`` with this text as its input, after some words."""
    return [
        _named({"type": "message_start", "message": {
            "model": model, "id": "msg_01K2JbSUMYhez5RHoK9ZCj9U", "type": "message", "role": "assistant",
            "content": [], "stop_reason": None, "stop_sequence": None, "usage": {
                "input_tokens": READ, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 1, "service_tier": "standard"}}}),
        _named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        _named({"type": "ping"}),
        _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Well."}}),
        _named({"type": "content_block_stop", "index": 0}),
        _named({"type": "content_block_start", "index": 1, "content_block": {
            "type": "tool_use", "id": "toolu_01KFbKqPYSuAKujiL6mTfzYA", "name": "extraction", "input": {}}}),
        *(_named({"type": "content_block_delta", "index": 1, "delta": {
            "type": "input_json_delta", "partial_json": piece}}) for piece in ("", *_pieces(text))),
        _named({"type": "content_block_stop", "index": 1}),
        _named({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {
            "input_tokens": READ, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": WRITTEN}}),
        _named({"type": "message_stop"}),
    ]  # fmt: skip


def openai(text: str, *, stop: str = "stop", model: str = "gpt-test-1-2026-01-01") -> list[bytes]:
    """A completion with this text as its content, then the usage, then the end."""
    usage = {
        "prompt_tokens": READ, "completion_tokens": WRITTEN, "total_tokens": READ + WRITTEN,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }  # fmt: skip
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": piece} for piece in _pieces(text)]
    return [
        *(_chunk(model, [_choice(delta, None)]) for delta in deltas),
        _chunk(model, [_choice({}, stop)]),
        _chunk(model, [], usage),
        b"data: [DONE]\n\n",
    ]


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_011CSHoEeqs5C35K",
    }


def openai_error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def error_event(error: dict[str, Any]) -> bytes:
    """An error in the middle of a stream; only Anthropic's have a name."""
    return _named(error) if "type" in error else _data(error)


def stream(events: Iterable[bytes]) -> Answer:
    """An answer whose pieces are cut where networks cut, not between events."""
    whole = b"".join(events)
    return 200, STREAM, _cut(whole)


async def _cut(whole: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(whole), 100):
        yield whole[start : start + 100]


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS)]


def _named(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\n".encode() + _data(event)


def _data(event: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(event, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def _chunk(model: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
    return _data(
        {
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "object": "chat.completion.chunk",
            "created": 1741570283, "model": model, "service_tier": "default",
            "system_fingerprint": "fp_fc9f1d7035", "choices": choices, "usage": usage,
        }
    )  # fmt: skip


def _choice(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
