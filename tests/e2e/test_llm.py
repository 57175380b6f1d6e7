"""Documents to models through everything: two APIs, a worker killed in mid-call, a key that is nowhere."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.provider import Answer, Seen, provider
from tests.running import Running, running

pytestmark = pytest.mark.timeout(120)

KEY = "sk-canary-93c1f0a7d2"
FILES = 12
SCHEMA = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}


async def upload(stack: Running, provider_name: str) -> dict[str, Any]:
    """Texts that a model is to find a number in."""
    names = [f"{provider_name} {n}.txt" for n in range(FILES)]
    files = [("files", (name, f"number: {name}".encode(), "text/plain")) for name in names]
    options = {"provider": provider_name, "model": "test-1", "schema": SCHEMA}
    async with stack.http() as http:
        form = {"processor": "llm", "options": json.dumps(options)}
        answer = await http.post("/v1/batches", files=files, data=form)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_models_are_asked_once_for_each_file_and_paid_for(tmp_path: Path) -> None:
    """Results with their cost, a bad answer asked for again, a lost call repeated under its own name."""
    tmp_path.chmod(0o711)
    killed = asyncio.Event()
    is_held = asyncio.Event()
    spoiled: list[str] = []

    def answer(seen: Seen) -> Answer:
        """The document's own number; nonsense once, and one answer that waits for its worker's end."""
        write = models.anthropic if seen.path == "/v1/messages" else models.openai
        name = seen.body.decode().partition("number: ")[2].partition(".txt")[0]
        whole = models.stream(write(json.dumps({"number": name}), model="test-1"))
        if name == "openai 3" and not killed.is_set():
            return 200, models.STREAM, held(whole)  # or the bad answer is lost with the worker
        if name == "openai 3" and not spoiled:
            spoiled.append(name)
            return models.stream(models.openai('{"numero": 3'))
        if name == "anthropic 5" and not is_held.is_set():
            is_held.set()
            return 200, models.STREAM, held(whole)
        return whole

    async def held(whole: Answer) -> AsyncIterator[bytes]:
        await killed.wait()
        assert not isinstance(whole[2], bytes)
        async for piece in whole[2]:
            yield piece

    async with provider(answer) as provided:
        env = {
            "TANDA_ANTHROPIC_API_KEY": KEY, "TANDA_ANTHROPIC_URL": provided.base,
            "TANDA_OPENAI_API_KEY": KEY, "TANDA_OPENAI_URL": f"{provided.base}/v1",
            "TANDA_LLM_PRICES": "test-1=3/15", "TANDA_LEASE_S": "2",
        }  # fmt: skip
        async with running(tmp_path / "data", env=env) as stack:
            batches = [await upload(stack, name) for name in ("anthropic", "openai")]
            await asyncio.wait_for(is_held.wait(), 60)
            stack.kill("worker")
            killed.set()
            for batch in batches:
                finished = await stack.finished(batch["id"], 60)
                assert finished["counts"]["completed"] == FILES, finished["counts"]
            expect_what_was_asked_for(stack, batches)
            asked = list(provided.calls)
            copy = await upload(stack, "anthropic")
            await stack.finished(copy["id"], 60)
            expect_nothing_paid_twice(stack, copy["id"], len(provided.calls) - len(asked))
    keys = Counter(seen.headers["idempotency-key"] for seen in asked)
    assert len(keys) == 2 * FILES + 1, "an attempt each, and one more for the bad answer"
    held_calls = [seen for seen in asked if b"number: anthropic 5.txt" in seen.body]
    assert len(held_calls) == 2 and len({seen.headers["idempotency-key"] for seen in held_calls}) == 1
    assert provided.at_once_most <= 6, "three calls at once for each provider"
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()], "the key was written"


def expect_what_was_asked_for(stack: Running, batches: list[dict[str, Any]]) -> None:
    """Each file has its own number, its provider and its price."""
    usd = (3 * models.READ + 15 * models.WRITTEN) / 1e6
    with stack.client() as client:
        for batch, name in zip(batches, ("anthropic", "openai"), strict=True):
            for document in client.results(batch["id"])["archivos_procesados"]:
                assert f"{document['resultado']['number']}.txt" == document["nombre"]
            for file in client.files(batch["id"]):
                assert file["provider"] == f"llm-{name}"
                assert file["cost"]["usd"] == pytest.approx(usd, abs=1e-6)
                assert file["attempt"] == (2 if file["name"] == "openai 3.txt" else 1)


def expect_nothing_paid_twice(stack: Running, batch_id: str, calls: int) -> None:
    """A copy of the batch has the answers from before, but for those that were not kept in time.

    Those are at most the three in the hands of the worker that was killed, and the last three.
    """
    with stack.client() as client:
        files = client.files(batch_id)
        reused = [file for file in files if file["reused"]]
        assert len(reused) == FILES - calls >= FILES - 6
        assert all(file["cost"] is None and file["attempt"] == 1 for file in reused)
        for document in client.results(batch_id)["archivos_procesados"]:
            assert f"{document['resultado']['number']}.txt" == document["nombre"]
