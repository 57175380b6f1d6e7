"""The llm processor against a server that answers as the two APIs do: what is sent, what an answer means."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from services.worker.outside import Call, Llm
from tanda.contracts.results import BlobRef, Failure, Pending, Result
from tanda.contracts.work import WorkItem
from tanda.settings import Settings
from tests import models
from tests.provider import Answer, Provider, Seen, provider

KEY = "sk-test-4f8a1c"
SCHEMA = {
    "type": "object",
    "properties": {"número": {"type": "string"}, "total": {"type": "number"}},
    "required": ["número"],
}
FOUND = {"número": "F-7 «ñ»", "total": 12.5}
XML = "<factura número='F-7'/>".encode()
#: Small, so that a test can exceed it.
ANSWER_BYTES_MAX = 20_000
WALL_S = 0.5

APIS = {
    "anthropic": (models.anthropic, models.anthropic_error),
    "openai": (models.openai, models.openai_error),
}
CUT = {"anthropic": "max_tokens", "openai": "length"}
DECLINED = {"anthropic": "refusal", "openai": "content_filter"}
#: Tokens that no float can hold.
ENDLESS = b'data: {"type": "message_delta", "usage": {"output_tokens": 1%s, "prompt_tokens": 1%s}}\n\n' % (
    (b"0" * 400,) * 2
)
api = pytest.mark.parametrize("api", sorted(APIS))


def settings(base: str, **changed: Any) -> Settings:
    values = {
        "anthropic_api_key": KEY, "anthropic_url": base, "openai_api_key": KEY, "openai_url": f"{base}/v1",
        "llm_prices": "claude-test-1=3/15, gpt-test-1-2026-01-01=2.5/10", "provider_wall_s": 20.0,
    }  # fmt: skip
    return Settings(**{**values, **changed})


def item(api: str, content: bytes = XML, kind: str = "application/xml", **options: Any) -> WorkItem:
    model = "claude-test-1" if api == "anthropic" else "gpt-test-1"
    digest = sha256(content).hexdigest()
    return WorkItem(
        tenant="acme", batch_id="bat_1", file_id="fil_1", seq=1, attempt=2, name="factura ñ.xml",
        content_type=kind, bytes=len(content), sha256=digest, processor="llm",
        source=BlobRef(key="k", bytes=len(content), sha256=digest),
        options={"provider": api, "model": model, "schema": SCHEMA, **options},
    )  # fmt: skip


async def ask(
    work: WorkItem, content: bytes, answer: Callable[[Seen], Answer | None], **changed: Any
) -> tuple[Result | Failure | Pending, Provider]:
    """One call of a processor of its own."""

    async def source() -> AsyncIterator[bytes]:
        yield content[:9]
        yield content[9:]

    async with provider(answer) as provided:
        llm = Llm(settings(provided.base, **changed))
        try:
            return await llm.call(Call(item=work, source=source, callback_url="")), provided
        finally:
            await llm.close()


async def failure(api: str, answer: Answer | None, **changed: Any) -> Failure:
    """What a call comes to whose answer is no good; it never holds the key."""
    outcome, _ = await ask(item(api), XML, lambda _: answer, **changed)
    assert isinstance(outcome, Failure) and outcome.message
    assert KEY not in repr(outcome)
    return outcome


def kind_of(failed: Failure) -> tuple[str, bool, float | None]:
    return failed.code, failed.retryable, failed.retry_after_s


@api
async def test_a_good_answer_is_the_result_with_its_cost(api: str) -> None:
    """Pieces cut anywhere, words beside the call, letters beyond ASCII: one object, tokens, dollars."""
    events = APIS[api][0](json.dumps(FOUND, ensure_ascii=False))
    outcome, provided = await ask(item(api), XML, lambda _: models.stream(events))
    assert isinstance(outcome, Result), outcome
    assert (outcome.data, outcome.warnings) == (FOUND, [])
    usage = outcome.usage
    assert usage is not None and usage.provider == f"llm-{api}"
    assert (usage.input_tokens, usage.output_tokens) == (models.READ, models.WRITTEN)
    # by the price of the model that was asked, or of the one that answered
    price = (3, 15) if api == "anthropic" else (2.5, 10)
    assert usage.usd == round((models.READ * price[0] + models.WRITTEN * price[1]) / 1e6, 6)
    assert len(provided.calls) == 1 and provided.calls[0].headers["idempotency-key"] == "fil_1-2"


async def test_anthropic_is_asked_in_its_own_words() -> None:
    """Address, headers and body of the Messages API; the tool is the schema, as it was given."""
    _, provided = await ask(
        item("anthropic", instructions="Amounts in euro.", max_tokens=900), XML,
        lambda _: models.stream(models.anthropic("{}")),
    )  # fmt: skip
    (seen,) = provided.calls
    sent = json.loads(seen.body)
    assert seen.path == "/v1/messages"
    assert (seen.headers["x-api-key"], seen.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert (sent["model"], sent["max_tokens"], sent["stream"]) == ("claude-test-1", 900, True)
    assert sent["tools"][0]["input_schema"] == SCHEMA and sent["tools"][0]["name"] == "extraction"
    assert sent["tool_choice"]["type"] == "auto"
    (message,) = sent["messages"]
    document, words = message["content"]
    assert document == {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": XML.decode()},
        "title": "factura ñ.xml",
    }
    assert words["text"].endswith("Amounts in euro.") and message["role"] == "user"


async def test_openai_is_asked_in_its_own_words() -> None:
    """Address, headers and body of chat completions; the schema is the response format."""
    _, provided = await ask(item("openai", max_tokens=900), XML, lambda _: models.stream(models.openai("{}")))
    (seen,) = provided.calls
    sent = json.loads(seen.body)
    assert (seen.path, seen.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (sent["model"], sent["max_completion_tokens"], sent["stream"]) == ("gpt-test-1", 900, True)
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    system, user = sent["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert XML.decode() in user["content"][0]["text"]


@api
async def test_the_same_question_is_all_that_a_model_is_told(api: str) -> None:
    """Where it is asked, in which words, and the file's name where the API is told it: nothing else."""
    llm, elsewhere = Llm(settings("https://a.example")), Llm(settings("https://b.example"))
    work = item(api)
    question = llm.question(work)
    assert question is not None and XML not in question
    assert (
        llm.question(msgspec.structs.replace(work, batch_id="bat_2", file_id="fil_2", attempt=1)) == question
    )
    assert llm.question(item(api, reuse=False)) == question
    renamed = llm.question(msgspec.structs.replace(work, name="g.xml"))
    assert (renamed == question) == (api == "openai")
    others = [
        item(api, instructions="x"),
        item(api, model="y"),
        item(api, b"<x/>"),
        item(api, kind="image/png"),
    ]
    assert question not in [elsewhere.question(work), *map(llm.question, others)]
    assert llm.question(item(api, max_tokens=0)) is None, "what cannot be asked has no stored answer"
    for one in (llm, elsewhere):
        await one.close()


@pytest.mark.parametrize("kind", ["application/pdf", "image/png"])
async def test_documents_that_are_no_text_go_as_their_bytes(kind: str) -> None:
    """In base64, each API in its own form."""
    content = bytes(range(256))
    data = base64.b64encode(content).decode()
    _, first = await ask(item("anthropic", content, kind), content, lambda _: None)
    block = json.loads(first.calls[0].body)["messages"][0]["content"][0]
    assert block["type"] == ("image" if kind == "image/png" else "document")
    assert block["source"] == {"type": "base64", "media_type": kind, "data": data}
    _, second = await ask(item("openai", content, kind), content, lambda _: None)
    part = json.loads(second.calls[0].body)["messages"][1]["content"][0]
    url = f"data:{kind};base64,{data}"
    if kind == "image/png":
        assert part == {"type": "image_url", "image_url": {"url": url}}
    else:
        assert part == {"type": "file", "file": {"filename": "factura ñ.xml", "file_data": url}}


@api
@pytest.mark.parametrize(
    ("status", "headers", "kind", "expected"),
    [
        (429, {"Retry-After": "17"}, "rate_limit_error", ("rate_limited", True, 17.0)),
        (429, {"Retry-After": "Mon, 02 Nov 2026 07:00:00 GMT"}, "x", ("rate_limited", True, 0.0)),
        (429, {}, "insufficient_quota", ("rate_limited", True, None)),
        (503, {"Retry-After": "4"}, "service_unavailable", ("unavailable", True, 4.0)),
        (529, {}, "overloaded_error", ("unavailable", True, None)),
        (500, {}, "api_error", ("provider_error", True, None)),
        (408, {}, "timeout_error", ("provider_error", True, None)),
        (401, {}, "authentication_error", ("provider_refused", False, None)),
        (400, {}, "invalid_request_error", ("provider_refused", False, None)),
        (307, {"Location": "http://127.0.0.1:9/"}, "moved", ("provider_refused", False, None)),
    ],
)  # fmt: skip
async def test_a_refusal_before_the_stream(
    api: str, status: int, headers: dict[str, str], kind: str, expected: tuple[str, bool, float | None]
) -> None:
    """The status decides, the provider's words stand beside it, and a key that it repeats does not."""
    said = f"{'y' * 280} your key {KEY} is not good"  # what is cut to 300 characters must not begin with it
    body = json.dumps(APIS[api][1](kind, said)).encode()
    failed = await failure(api, (status, {**models.JSON, **headers}, body))
    assert kind_of(failed) == expected
    assert (
        f"HTTP {status}" in failed.message and "your key" in failed.message and KEY[:6] not in failed.message
    )


@api
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", ("unavailable", True, None)),
        ("rate_limit_error", ("rate_limited", True, None)),
        ("api_error", ("provider_error", True, None)),
        ("invalid_request_error", ("provider_refused", False, None)),
    ],
)
async def test_an_error_in_the_middle_of_a_stream(
    api: str, kind: str, expected: tuple[str, bool, float | None]
) -> None:
    """It means what it would have meant as a status; what came before it counts for nothing."""
    write, error = APIS[api]
    events = [*write(json.dumps(FOUND))[:6], models.error_event(error(kind, f"Overloaded, {KEY}"))]
    failed = await failure(api, models.stream(events))
    assert kind_of(failed) == expected
    assert kind in failed.message and "Overloaded" in failed.message


async def test_an_error_that_is_told_as_a_number() -> None:
    """Servers that speak OpenAI's language put the status into the code."""
    error = {"error": {"message": "Engine is busy", "type": "ServiceUnavailableError", "code": 503}}
    failed = await failure("openai", models.stream([models.error_event(error)]))
    assert kind_of(failed) == ("unavailable", True, None)


@api
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"número": "F-7", ', "not JSON"),
        ("I could not find any.", "not JSON"),
        ('{"total": 3}', "lacks 'número'"),
        ('{"número": 7}', "the answer.número is not of the type string"),
        ("[]", "not of the type object"),
    ],
)
async def test_an_answer_that_is_not_as_the_schema_says(api: str, text: str, words: str) -> None:
    """Another attempt may bring a better one; this one was paid for all the same."""
    failed = await failure(api, models.stream(APIS[api][0](text)))
    assert kind_of(failed) == ("malformed_answer", True, None)
    assert words in failed.message
    assert failed.usage is not None and failed.usage.output_tokens == models.WRITTEN


async def test_words_instead_of_a_call_are_no_answer() -> None:
    """A model that only talks has extracted nothing, whatever its words are."""
    events = models.anthropic("", stop="end_turn")
    failed = await failure("anthropic", models.stream(events))
    assert kind_of(failed) == ("malformed_answer", True, None)


async def test_a_call_with_nothing_in_it_is_an_empty_object() -> None:
    """It has no pieces but an empty one; where the schema requires nothing, that is an answer."""
    schema = {"type": "object", "properties": {"número": {"type": "string"}}}
    events = models.anthropic("")
    outcome, _ = await ask(item("anthropic", schema=schema), XML, lambda _: models.stream(events))
    assert isinstance(outcome, Result) and outcome.data == {}


@api
async def test_an_answer_that_was_cut_or_declined_is_not_asked_for_again(api: str) -> None:
    """The same question would have the same end."""
    write = APIS[api][0]
    cut = await failure(api, models.stream(write('{"número": "F', stop=CUT[api])))
    assert kind_of(cut) == ("answer_cut", False, None) and "max_tokens" in cut.message
    declined = await failure(api, models.stream(write("", stop=DECLINED[api])))
    assert kind_of(declined) == ("provider_refused", False, None)


async def test_a_refusal_in_words_is_told() -> None:
    """OpenAI's models decline in a field of their own."""
    chunk = b'data: {"choices":[{"index":0,"delta":{"refusal":"I will not."},"finish_reason":"stop"}]}\n\n'
    failed = await failure("openai", models.stream([chunk]))
    assert failed.code == "provider_refused" and "I will not." in failed.message


@api
async def test_a_stream_that_ends_too_soon(api: str) -> None:
    """Closed in good order or broken off: either way it may go better next time."""
    events = APIS[api][0](json.dumps(FOUND))[:8]
    assert kind_of(await failure(api, models.stream(events))) == ("provider_error", True, None)

    async def broken() -> AsyncIterator[bytes]:
        yield events[0]
        raise ConnectionResetError

    failed = await failure(api, (200, models.STREAM, broken()))
    assert kind_of(failed) == ("provider_unreachable", True, None)
    assert kind_of(await failure(api, None)) == ("provider_unreachable", True, None)


@api
async def test_a_slow_stream_is_cut_by_the_clock(api: str) -> None:
    """A sign of life now and then is no answer: the time is for the whole of it."""

    async def slow() -> AsyncIterator[bytes]:
        yield APIS[api][0]("{}")[0]
        while True:
            await asyncio.sleep(0.02)
            yield b": still here\n\n"

    failed = await failure(api, (200, models.STREAM, slow()), provider_wall_s=WALL_S)
    assert kind_of(failed) == ("provider_timeout", True, None)


@api
@pytest.mark.parametrize("many", [True, False], ids=["many events", "one event"])
async def test_an_answer_without_end_is_not_read_to_it(api: str, many: bool) -> None:
    """Neither many events nor one that never ends fill the memory."""
    big = APIS[api][0]("x" * ANSWER_BYTES_MAX)[:-2] if many else [b"data: " + b"x" * (2 * ANSWER_BYTES_MAX)]
    failed = await failure(api, models.stream(big), provider_answer_bytes_max=ANSWER_BYTES_MAX)
    assert kind_of(failed) == ("bad_answer", False, None) and "20,000 bytes" in failed.message


@api
@pytest.mark.parametrize(
    "event", [b"data: {nonsense\n\n", b'data: {"type": 7, "choices": 7}\n\n', b"data: \xff\n\n", ENDLESS]
)
async def test_a_stream_that_is_none_of_the_apis(api: str, event: bytes) -> None:
    """Events in another language are another try's matter; no event at all is not."""
    failed = await failure(api, models.stream([event]))
    assert kind_of(failed) == ("malformed_answer", True, None)
    page = await failure(api, (200, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>"))
    assert kind_of(page) == ("bad_answer", False, None)


@api
async def test_names_without_end_stay_small(api: str) -> None:
    """What a server says of itself is recorded, but not at any length, and nothing of the key."""
    write, error = APIS[api]
    whole = write(json.dumps(FOUND), model="m" * 5_000)
    outcome, _ = await ask(item(api), XML, lambda _: models.stream(whole))
    assert isinstance(outcome, Result) and outcome.usage is not None and len(outcome.usage.model) == 300
    failed = await failure(api, models.stream([models.error_event(error(f"{KEY}{'k' * 5_000}", "No."))]))
    assert failed.code == "provider_error" and len(failed.message) < 700


async def test_tokens_that_were_not_told_have_no_price() -> None:
    """Many servers leave the usage out; that is no zero."""
    events = [one for one in models.openai(json.dumps(FOUND)) if b"prompt_tokens" not in one]
    outcome, _ = await ask(item("openai"), XML, lambda _: models.stream(events))
    assert isinstance(outcome, Result) and outcome.usage is not None
    assert outcome.usage.usd is None


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (item("anthropic", b"x" * (10 * 1024**2 + 1)), "too_large"),
        (item("anthropic", b"PK", "application/zip"), "unsupported_type"),
        (item("mistral"), "unknown_provider"),
        (item("anthropic", schema={"type": "array"}), "bad_options"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
async def test_what_cannot_be_asked_is_not_sent(work: WorkItem, code: str) -> None:
    outcome, provided = await ask(work, b"", lambda _: None)
    assert isinstance(outcome, Failure) and (outcome.code, outcome.retryable) == (code, False)
    assert outcome.message and provided.calls == []
