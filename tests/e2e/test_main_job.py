"""The main job through the real servers and services: 51 files in, one JSON out, nothing lost between."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tanda.client import Client
from tanda.samples import sample_truth
from tests.running import Running, post_batch


@pytest.fixture(scope="module")
async def batch(tanda: Running, samples: list[Path]) -> dict[str, Any]:
    """The sample batch, uploaded in one request and finished."""
    async with tanda.http() as http:
        response = await post_batch(http, samples, name="noviembre", tags='["muestra"]', metadata='{"k": 1}')
    assert response.status_code == 201, response.text
    created = response.json()
    assert created["counts"]["total"] == 51 and created["status"] in ("queued", "processing")
    return await tanda.finished(created["id"])


async def files_of(tanda: Running, batch_id: str) -> list[dict[str, Any]]:
    with tanda.client() as client:
        return list(client.files(batch_id))


async def test_every_file_comes_to_the_end_that_is_true(
    tanda: Running, batch: dict[str, Any], samples: list[Path]
) -> None:
    """Completed, failed or rejected as the samples' own truth says, the faulty ones with a reason."""
    truth = sample_truth()
    files = await files_of(tanda, batch["id"])
    assert [one["name"] for one in files] == [path.name for path in samples]
    assert {one["name"]: one["status"] for one in files} == {
        name: fact["status"] for name, fact in truth.items()
    }
    for one in files:
        assert (one["error"] is None) == (one["status"] == "completed")
        if one["error"]:
            assert one["error"]["code"] and len(one["error"]["message"]) > 10
    assert batch["status"] == "completed_with_errors" and batch["name"] == "noviembre"
    assert batch["tags"] == ["muestra"] and batch["metadata"] == {"k": 1}
    assert batch["progress"]["settled_pct"] == 100.0


async def test_the_invoices_are_read(tanda: Running, batch: dict[str, Any]) -> None:
    """Number, total, currency and seller of every invoice are those that were written into it."""
    with tanda.client() as client:
        results = client.results(batch["id"])
    by_name = {one["nombre"]: one["resultado"] for one in results["archivos_procesados"]}
    read = 0
    for name, fact in sample_truth().items():
        if "number" not in fact:
            continue
        result = by_name[name]
        invoice = result.get("invoice") if result["kind"] == "pdf" else result
        if invoice is None:
            continue
        read += 1
        assert invoice["number"] == fact["number"], name
        assert float(invoice["total"]) == float(fact["total"]), name
        assert invoice["currency"] == fact["currency"], name
        assert invoice["seller"]["name"] == fact["seller"], name
    assert read >= 20


async def test_the_result_json_is_what_the_contract_says(tanda: Running, batch: dict[str, Any]) -> None:
    """Upload order, Spanish fields, metadata, and the digest that the batch names."""
    async with tanda.http() as http:
        response = await http.get(f"/v1/batches/{batch['id']}/results")
    assert sha256(response.content).hexdigest() == batch["results"]["sha256"]
    assert response.headers["content-disposition"].count(f"{batch['id']}_resultados.json")
    body = response.json()
    assert body["metadata"]["lote_id"] == batch["id"] and body["metadata"]["version"] == 1
    assert [one["indice"] for one in body["archivos_procesados"]] == list(range(51))
    assert set(body["archivos_procesados"][0]) == {
        "lote_id", "archivo_id", "nombre", "indice", "estado", "intentos", "sha256", "resultado", "error",
    }  # fmt: skip


async def test_a_second_download_is_the_stored_file(tanda: Running, batch: dict[str, Any]) -> None:
    """Byte for byte, from the cache, and not even sent where the client has it."""
    async with tanda.http() as http:
        url = f"/v1/batches/{batch['id']}/results"
        first, second = await http.get(url), await http.get(url)
        unchanged = await http.get(url, headers={"If-None-Match": second.headers["etag"]})
    assert second.headers["tanda-cache"] == "hit" and first.content == second.content
    assert unchanged.status_code == 304 and unchanged.content == b""


async def test_sources_are_kept_and_archived_after_their_results(
    tanda: Running, batch: dict[str, Any], samples: list[Path]
) -> None:
    """A completed file's source is archived and comes back whole; a failed one's stays for a retry."""

    async def archived() -> list[dict[str, Any]] | None:
        files = await files_of(tanda, batch["id"])
        done = [one for one in files if one["status"] == "completed"]
        return files if all(one["source"]["state"] == "archived" for one in done) else None

    files = await tanda.until(archived, 30)
    by_name = {path.name: path.read_bytes() for path in samples}
    async with tanda.http() as http:
        for one in files:
            if one["status"] == "rejected":
                continue
            if one["status"] == "failed":
                assert one["source"]["state"] == "stored"
            response = await http.get(one["source"]["url"])
            assert response.content == by_name[one["name"]], one["name"]
            assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_file_tells_its_life(tanda: Running, batch: dict[str, Any]) -> None:
    """Its history is every event of it, oldest first; its result and artifacts can be had alone."""
    files = await files_of(tanda, batch["id"])
    image = next(one for one in files if one["artifacts"] and one["processor"] == "image")
    async with tanda.http() as http:
        history = (await http.get(f"/v1/batches/{batch['id']}/files/{image['id']}/history")).json()
        thumbnail = await http.get(image["artifacts"][0]["url"])
        result = await http.get(image["result_url"])
    kinds = [one["type"] for one in history["data"]]
    assert kinds[:3] == ["tanda.FileQueued.v1", "tanda.FileStarted.v1", "tanda.FileCompleted.v1"]
    assert thumbnail.status_code == 200 and thumbnail.headers["content-type"].startswith("image/")
    assert result.json()["kind"] == "image"


async def test_a_lost_connection_resumes_with_no_gap_and_no_repeat(
    tanda: Running, samples: list[Path]
) -> None:
    """The stream is cut after every few events, also within a group; the pieces are all positions."""
    async with tanda.http() as http:
        created = (await post_batch(http, samples, name="reconnect")).json()
        seen: list[int] = []
        after: int | None = None
        while True:
            headers = {"Last-Event-ID": str(after)} if after is not None else {}
            piece = await read_events(http, created["id"], headers, limit=9)
            seen += [seq for name, seq in piece if name != "snapshot"]
            after = piece[-1][1]
            if any(name == "BatchCompleted" for name, _ in piece):
                break
    finished = await tanda.finished(created["id"])
    log = [json.loads(line) for line in tanda.tanda("log", "--batch", created["id"]).stdout.splitlines()]
    first = seen[0]
    told = [one["seq"] for one in log if one["type"] != "tanda.FilesParted.v1"]
    expected = [seq for seq in told if first <= seq <= after]
    assert seen == expected
    assert finished["counts"]["total"] == 51


async def read_events(http: Any, batch_id: str, headers: dict[str, str], limit: int) -> list[tuple[str, int]]:
    """The whole positions of some events of a live stream, after which the connection is dropped."""
    import httpx2

    frames = 0
    piece: list[tuple[str, int]] = []
    async with http.stream("GET", "/v1/events", params={"batch": batch_id}, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for frame in httpx2.EventSource(response):
            frames += 1
            if frame.id:  # only the last event of a position has one
                piece.append((frame.event, int(frame.id)))
            if (piece and frames >= limit) or frame.event == "BatchCompleted":
                return piece
    return piece


async def test_the_page_may_be_closed_after_the_upload(tanda: Running, samples: list[Path]) -> None:
    """Nobody watches, nobody polls: everything is processed all the same."""
    with Client(tanda.url) as client:
        created = client.upload(samples, name="closed page")
    finished = await tanda.finished(created["id"])
    assert finished["counts"]["completed"] == sum(
        fact["status"] == "completed" for fact in sample_truth().values()
    )


async def test_replayed_views_equal_the_live_ones(tanda: Running, batch: dict[str, Any]) -> None:
    """Proved, then rebuilt and swapped, then proved again; the batch reads the same before and after."""
    verified = tanda.tanda("replay", "--all", "--verify")
    assert verified.returncode == 0, verified.stderr + verified.stdout
    rebuilt = tanda.tanda("replay", "--all")
    assert rebuilt.returncode == 0, rebuilt.stderr + rebuilt.stdout
    assert tanda.tanda("replay", "--all", "--verify").returncode == 0
    again = await tanda.batch(batch["id"])
    assert again is not None
    assert {**again, "seq": 0} == {**batch, "seq": 0} | {"results": again["results"]}


async def test_the_command_line_tells_the_same(tanda: Running, batch: dict[str, Any], tmp_path: Path) -> None:
    """batches, show, watch, results, log and doctor, as a person would call them."""
    listed = [json.loads(line) for line in tanda.tanda("batches", "--json").stdout.splitlines()]
    assert batch["id"] in [one["id"] for one in listed]
    shown = json.loads(tanda.tanda("show", batch["id"], "--json").stdout)
    assert shown["counts"] == batch["counts"]
    assert (
        json.loads(tanda.tanda("watch", batch["id"], "--json").stdout.splitlines()[-1])["id"] == batch["id"]
    )
    target = tmp_path / "r.json"
    assert tanda.tanda("results", batch["id"], "-o", str(target)).returncode == 0
    assert sha256(target.read_bytes()).hexdigest() == batch["results"]["sha256"]
    doctor = tanda.tanda("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert tanda.tanda("show", "bat_00000000000000000000000000").returncode == 1
    assert tanda.tanda("no-such-command").returncode == 2
