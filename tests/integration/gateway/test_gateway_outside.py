"""Work for outside providers at the gateway: what could not be done is refused at the upload."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tanda.contracts import events as e
from tests.integration.gateway.stand import Stand, settings_in

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}}
LLM = {"model": "claude-test-1", "schema": SCHEMA}
ONE = [("files", ("a.txt", b"x", "text/plain"))]


@asynccontextmanager
async def gateway(folder: Path, **settings: Any) -> AsyncIterator[tuple[Stand, httpx2.AsyncClient]]:
    async with (
        Stand(settings_in(folder, **settings)).running() as stand,
        httpx2.AsyncClient(base_url=stand.url, timeout=20) as http,
    ):
        yield stand, http


async def refused(http: httpx2.AsyncClient, processor: str, options: dict[str, Any]) -> dict[str, str]:
    """The fields that are wrong, with what is said of each."""
    form = {"processor": processor, "options": json.dumps(options)}
    answer = await http.post("/v1/batches", files=ONE, data=form)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields"), answer.text
    return {one["field"]: one["detail"] for one in answer.json()["errors"]}


async def test_without_a_provider_there_is_no_such_processor(tmp_path: Path) -> None:
    """Never on by default; the refusal names the setting that would turn it on."""
    async with gateway(tmp_path) as (stand, http):
        llm = await refused(http, "llm", LLM)
        assert "no such processor" in llm["processor"]
        assert "TANDA_ANTHROPIC_API_KEY or TANDA_OPENAI_URL" in llm["options"]
        assert "TANDA_HTTP_ENDPOINTS" in (await refused(http, "http", {}))["options"]
        assert await stand.log.position() == 0 and not stand.blobs.objects


async def test_a_provider_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    """By the names that the option takes."""
    endpoints = "publisher=http://127.0.0.1:9/,images=http://127.0.0.1:9/"
    async with gateway(tmp_path, openai_url="http://127.0.0.1:9/v1", http_endpoints=endpoints) as (_, http):
        assert (await refused(http, "llm", LLM))["options"].endswith("choose openai")
        assert (await refused(http, "http", {"endpoint": "x y"}))["options"].endswith(
            "their endpoint is none that is configured; choose images, publisher"
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "m"}, "schema"),
        ({"schema": SCHEMA}, "model"),
        (LLM | {"schema": {"type": "array"}}, 'the schema must be that of an object: "type": "object"'),
        (LLM | {"schema": SCHEMA | {"required": "all"}}, "required"),
        (LLM | {"api_key": "sk-mine"}, "api_key"),
        (LLM | {"url": "http://169.254.169.254/"}, "url"),
        (LLM | {"schema": SCHEMA | {"description": "x" * 9_000}}, "at most 8,192 bytes of JSON"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
async def test_options_that_make_no_call_are_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    """Nothing of a user's decides where a call goes, and nothing unknown is passed over."""
    async with gateway(tmp_path, anthropic_api_key="sk-test") as (stand, http):
        assert words in (await refused(http, "llm", options))["options"]
        assert await stand.log.position() == 0


async def test_a_document_for_a_model_is_queued_as_what_it_is(tmp_path: Path) -> None:
    """Any type is taken; what content and name agree on stands in the event."""
    async with gateway(tmp_path, anthropic_api_key="sk-test") as (stand, http):
        files = [("files", ("a.pdf", b"%PDF-1.7\n", "application/pdf")), *ONE]
        form = {"processor": "llm", "options": json.dumps(LLM)}
        answer = await http.post("/v1/batches", files=files, data=form)
        assert answer.status_code == 201, answer.text
        records = [record async for chunk in stand.log.read() for record in chunk]
        queued = [record.event for record in records if isinstance(record.event, e.FileQueued)]
    assert [(one.content_type, one.processor, one.options) for one in queued] == [
        ("application/pdf", "llm", LLM), ("text/csv", "llm", LLM),
    ]  # fmt: skip


async def test_bytes_that_are_no_text_are_a_bad_body(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (_, http):
        headers = {"Content-Type": "application/json"}
        answer = await http.post("/v1/batches", content=b'{"name": "\xff"}', headers=headers)
        assert answer.status_code == 400, answer.text
