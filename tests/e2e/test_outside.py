"""Outside work through everything: four workers, one provider with its limit, its 429s and its callbacks."""

import asyncio
import json
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.provider import Answer, Seen, provider
from tests.running import Running, running

pytestmark = pytest.mark.timeout(180)

FILES = 120
PAUSE_S = 2


async def upload(stack: Running, names: list[str], options: dict[str, Any]) -> dict[str, Any]:
    files = [("files", (name, f"content of {name}".encode(), "text/plain")) for name in names]
    form = {"processor": "http", "options": json.dumps(options)}
    async with stack.http() as http:
        answer = await http.post("/v1/batches", files=files, data=form)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_outside_work_keeps_to_its_limits_and_its_word(tmp_path: Path) -> None:
    """Never a fourth call at once over four workers, none before the time a 429 named, each file once."""
    tmp_path.chmod(0o711)
    told: list[float] = []
    waiting: dict[str, str] = {}

    def answer(seen: Seen) -> Answer | None:
        if len(told) < 2 and len(provided.calls) >= (20, 60)[len(told)]:
            told.append(time.time())
            return 429, {"Retry-After": str(PAUSE_S)}, b'{"error": {"message": "slow down"}}'
        if seen.headers["tanda-file-name"].startswith("later"):
            waiting[seen.headers["tanda-file"]] = seen.headers["tanda-callback"]
            return 202, {}, b""
        if seen.headers["tanda-file-name"].startswith("never"):
            return 400, {}, b'{"error": {"message": "this picture shows nothing"}}'
        return 200, {}, json.dumps({"sha256": sha256(seen.body).hexdigest()}).encode()

    async with provider(answer, work_s=0.02) as provided:
        env = {"TANDA_HTTP_ENDPOINTS": f"publisher={provided.url}"}
        async with running(tmp_path / "data", workers=4, env=env) as stack:
            names = [f"now {n}" for n in range(FILES - 2)] + ["later", "never"]
            batch = await upload(stack, names, {"endpoint": "publisher"})

            async def all_but_one() -> bool:
                counts = (await stack.batch(batch["id"]) or batch)["counts"]
                return counts["completed"] + counts["failed"] + counts["waiting"] == FILES

            await stack.until(all_but_one, 120)
            assert provided.at_once_most <= 3
            for moment in told:
                early = [
                    seen.at - moment for seen in provided.calls if 0.3 < seen.at - moment < PAUSE_S - 0.1
                ]
                assert not early, f"calls {early} s after a 429 that asked for {PAUSE_S} s"
            await confirm(stack, batch["id"], waiting)
            finished = await stack.finished(batch["id"], 60)
            assert finished["counts"] | {} == {
                "total": FILES, "queued": 0, "processing": 0, "waiting": 0, "completed": FILES - 1,
                "failed": 1, "rejected": 0, "cancelled": 0,
            }  # fmt: skip
            with stack.client() as client:
                documents = client.results(batch["id"])["archivos_procesados"]
                limits = client.limits()
            for one in documents:
                if one["nombre"].startswith("now"):
                    assert one["resultado"]["sha256"] == one["sha256"]
            by_name = {one["nombre"]: one for one in documents}
            assert by_name["later"]["resultado"] == {"url": "https://example/post/1"}
            assert "this picture shows nothing" in by_name["never"]["error"]["message"]
            assert len(told) == 2 and limits["providers"][0]["allowed_now"] == 3, "the brake lets go again"
            keys = Counter(seen.headers["idempotency-key"] for seen in provided.calls)
            assert max(keys.values()) == 1, "an attempt was called twice"


async def confirm(stack: Running, batch_id: str, waiting: dict[str, str]) -> None:
    """One file waits; its token is good for one outcome, and nobody else's is for any."""
    ((file_id, url),) = waiting.items()
    async with stack.http() as http:
        assert (await stack.batch(batch_id) or {})["counts"]["waiting"] == 1
        forged = url[:-4] + ("AAAA" if not url.endswith("AAAA") else "BBBB")
        done = {"status": "completed", "result": {"url": "https://example/post/1"}}
        assert (await http.post(forged, json=done)).status_code == 404
        assert (await http.post("/v1/callbacks/nonsense", json=done)).status_code == 404
        assert (await http.post(url, json={"status": "failed"})).status_code == 422
        answers = await asyncio.gather(*(http.post(url, json=done) for _ in range(5)))
        # Those of one millisecond are the same event, which the log takes once: each of them may be told so.
        codes = {one.status_code for one in answers}
        assert 202 in codes and codes <= {200, 202}
        assert (await http.post(url, json=done)).status_code == 200
        other = await http.post(url, json={"status": "failed", "error": {"code": "x", "message": "no"}})
        assert (other.status_code, other.json()["state"]) == (409, "completed")
        await until_completed(http, batch_id, file_id)


async def until_completed(http: httpx2.AsyncClient, batch_id: str, file_id: str) -> None:
    deadline = time.monotonic() + 30
    while (await http.get(f"/v1/batches/{batch_id}/files/{file_id}")).json()["status"] != "completed":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_work_for_nobody_is_refused_before_it_is_kept(tanda: Running) -> None:
    """Without a configured endpoint there is no http processor at all."""
    async with tanda.http() as http:
        answer = await http.post(
            "/v1/batches", files=[("files", ("a.txt", b"x", "text/plain"))], data={"processor": "http"}
        )
    assert answer.status_code == 422
    assert {one["field"] for one in answer.json()["errors"]} == {"processor", "options"}
