"""What comes out: views with their positions, bytes with their ranges, results in four notations."""

import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from services.gateway.batches import bodies
from tanda.contracts import events as e
from tanda.contracts.envelope import Origin, new_event
from tanda.contracts.results import BlobRef, StoredArtifact
from tanda.contracts.subjects import batch_subject, file_subject
from tests.integration.gateway.stand import Stand, parts, settings_in, xml

NAME = "señal «1»; ñ.xml"
ORIGIN = Origin(source="/test")


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand(settings_in(tmp_path, min_seq_wait_s=0.2)).running() as stand:
        yield stand


@pytest.fixture
async def http(stand: Stand) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=stand.url, timeout=10) as client:
        yield client


@pytest.fixture
async def batch(http: httpx2.AsyncClient) -> dict[str, Any]:
    files = parts((NAME, xml(1)), ("b.xml", xml(2)))
    return (await http.post("/v1/batches", files=files)).json()


async def put(stand: Stand, data: bytes) -> BlobRef:
    digest = sha256(data).hexdigest()
    return await stand.blobs.put(f"x/{digest}", data, sha256=digest, content_type="application/json")


async def finish(stand: Stand, http: httpx2.AsyncClient, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """As worker and storage would: one inline result, one by reference with an artifact, the JSON."""
    files = (await http.get(batch["urls"]["files"])).json()["data"]
    large = await put(stand, b'{"texto":"=1+1"}')
    thumbnail = StoredArtifact(name="thumb.webp", content_type="image/webp", blob=await put(stand, b"RIFF"))
    results = [
        {"result": msgspec.Raw(b'{"n":1}'), "result_sha256": sha256(b'{"n":1}').hexdigest()},
        {"result_ref": large, "result_sha256": large.sha256, "artifacts": [thumbnail]},
    ]
    for file, result in zip(files, results, strict=True):
        subject = file_subject("default", batch["id"], file["id"])
        started = e.FileStarted(
            attempt=1, delivery=1, worker="w", processor="invoice", processor_version="1", previous="queued"
        )
        completed = e.FileCompleted(
            attempt=1, processor="invoice", processor_version="1", duration_ms=3, result_bytes=7, **result
        )
        seq = file["seq"]
        for event in (started, completed):
            new = new_event(subject, event, expected_seq=seq, time_ms=1_800_000_000_000, origin=ORIGIN)
            (seq,) = await stand.log.append([new])
    built = await stand.deps.results.store("default", batch["id"], 1, seq)
    done = e.BatchCompleted(
        version=1, through_seq=seq, counts={"completed": 2},
        results=BlobRef(key=await _key(stand, built.sha256), bytes=built.bytes, sha256=built.sha256),
    )  # fmt: skip
    last = await stand.log.last(batch_subject("default", batch["id"]))
    assert last is not None
    new = new_event(
        last.subject, done, expected_seq=last.seq, time_ms=1_800_000_000_001, origin=ORIGIN
    )  # fmt: skip
    await stand.log.append([new])
    return files


async def _key(stand: Stand, digest: str) -> str:
    return next(key for key, data in stand.blobs.objects.items() if sha256(data).hexdigest() == digest)


async def test_a_read_tells_its_position_and_may_be_not_modified(
    http: httpx2.AsyncClient, batch: dict[str, Any]
) -> None:
    """ETag and 304 on every read; a change changes the tag."""
    for path in (
        batch["urls"]["self"],
        batch["urls"]["files"],
        batch["urls"]["events"],
        "/v1/batches",
        "/v1/stats",
    ):
        first = await http.get(path)
        assert first.headers["tanda-seq"] == "4" and first.headers["cache-control"] == "private, no-cache"
        again = await http.get(path, headers={"If-None-Match": f"W/{first.headers['etag']}"})
        assert (again.status_code, again.content) == (304, b""), path
    await http.post(f"{batch['urls']['self']}/pause")
    tag = first.headers["etag"]
    changed = await http.get(batch["urls"]["self"], headers={"If-None-Match": tag})
    assert changed.status_code == 200 and changed.json()["status"] == "paused"


async def test_a_read_waits_for_what_was_written(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Up to its time; then 503 ``view_behind``, never an old answer and never a 404."""
    stand.views.held = True
    made = await http.post("/v1/batches", files=parts(("a.xml", xml())))
    url, seq = made.json()["urls"]["self"], made.headers["tanda-seq"]
    for path in (f"{url}?min_seq={seq}&wait=0.05", url, f"{url}/files"):
        late = await http.get(path)
        assert (late.status_code, late.json()["code"]) == (503, "view_behind"), path
        assert late.headers["retry-after"] == "1"
    stand.views.held = False
    assert (await http.get(f"{url}?min_seq={seq}")).status_code == 200


async def test_a_source_comes_back_safely(
    stand: Stand, http: httpx2.AsyncClient, batch: dict[str, Any]
) -> None:
    """Whole or by range, as an attachment under its own name, and never as a page."""
    file = (await http.get(batch["urls"]["files"])).json()["data"][0]
    url, data = file["source"]["url"], xml(1)
    whole = await http.get(url)
    assert whole.content == data and whole.headers["etag"] == f'"{sha256(data).hexdigest()}"'
    assert whole.headers["content-security-policy"].startswith("sandbox")
    assert whole.headers["x-content-type-options"] == "nosniff"
    disposition = whole.headers["content-disposition"]
    assert disposition.startswith("attachment; filename=\"se_al _1__ _.xml\"; filename*=UTF-8''se%C3%B1al")
    ranges = {"bytes=0-4": data[:5], "bytes=5-": data[5:], "bytes=-3": data[-3:], "bytes=3-99999": data[3:]}
    for asked, expected in ranges.items():
        part = await http.get(url, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, expected), asked
        assert part.headers["content-range"].endswith(f"/{len(data)}")
    for ignored in ("bytes=0-1,3-4", "lines=1-2", "bytes=5-2"):
        assert (await http.get(url, headers={"Range": ignored})).status_code == 200
    beyond = await http.get(url, headers={"Range": "bytes=99999-"})
    assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{len(data)}"
    old = await http.get(url, headers={"Range": "bytes=0-4", "If-Range": '"other"'})
    assert (old.status_code, old.content) == (200, data)
    head = await http.head(url)
    assert head.headers["content-length"] == str(len(data)) and head.content == b""
    assert (await http.get(url, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304
    stand.blobs.objects.clear()
    lost = await http.get(url)
    assert (lost.status_code, lost.json()["code"]) == (410, "bytes_gone")


async def test_results_of_a_file(stand: Stand, http: httpx2.AsyncClient, batch: dict[str, Any]) -> None:
    """From the event or from the object that it names; its artifacts and its whole history beside it."""
    files = (await http.get(batch["urls"]["files"])).json()["data"]
    base = f"{batch['urls']['files']}/{files[0]['id']}"
    early = await http.get(f"{base}/result")
    assert (early.status_code, early.json()["code"]) == (404, "result_not_ready")
    await finish(stand, http, batch)
    inline = await http.get(f"{base}/result")
    assert inline.json() == {"n": 1} and inline.headers["content-type"] == "application/json"
    other = f"{batch['urls']['files']}/{files[1]['id']}"
    assert (await http.get(f"{other}/result")).json() == {"texto": "=1+1"}
    artifact = await http.get(f"{other}/artifacts/thumb.webp")
    assert (artifact.content, artifact.headers["content-type"]) == (b"RIFF", "image/webp")
    assert (await http.get(f"{other}/artifacts/nope")).json()["code"] == "artifact_not_found"
    history = (await http.get(f"{base}/history")).json()["data"]
    assert [one["type"] for one in history] == [
        "tanda.FileQueued.v1", "tanda.FileStarted.v1", "tanda.FileCompleted.v1",
    ]  # fmt: skip
    completed = history[-1]
    assert (completed["fileid"], completed["data"]["result_bytes"]) == (files[0]["id"], len(inline.content))
    assert "result" not in completed["data"], "it has an address of its own"


async def test_results_of_a_batch(stand: Stand, http: httpx2.AsyncClient, batch: dict[str, Any]) -> None:
    """Not before their time, unless partial; then from the cache, or rebuilt to the same bytes."""
    url = batch["urls"]["results"]
    early = await http.get(url)
    assert (early.status_code, early.json()["code"]) == (409, "results_not_ready")
    partial = await http.get(url, params={"partial": "true"})
    assert [one["estado"] for one in partial.json()["archivos_procesados"]] == ["queued", "queued"]
    await finish(stand, http, batch)
    hit = await http.get(url)
    assert hit.headers["tanda-cache"] == "hit"
    assert hit.headers["content-disposition"] == f'attachment; filename="{batch["id"]}_resultados.json"'
    assert hit.headers["etag"] == f'"{sha256(hit.content).hexdigest()}"'
    del stand.blobs.objects[await _key(stand, sha256(hit.content).hexdigest())]
    miss = await http.get(url)
    assert (miss.headers["tanda-cache"], miss.content) == ("miss", hit.content)
    assert (await http.get(url, headers={"If-None-Match": hit.headers["etag"]})).status_code == 304
    assert (await http.get(url, params={"version": 1})).content == hit.content
    assert (await http.get(url, params={"version": 2})).json()["code"] == "version_not_found"


async def test_results_that_are_asked_for_again_are_at_hand(
    stand: Stand, http: httpx2.AsyncClient, batch: dict[str, Any]
) -> None:
    """From the second time on the store is not needed; ranges and validators are as before."""
    url = batch["urls"]["results"]
    await finish(stand, http, batch)
    first, second = await http.get(url), await http.get(url)
    stand.blobs.objects.clear()
    third = await http.get(url)
    assert third.headers["tanda-cache"] == "hit" and first.content == second.content == third.content
    assert third.headers["etag"] == first.headers["etag"]
    assert third.headers["content-length"] == str(len(first.content))
    part = await http.get(url, headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, first.content[3:10])
    assert (await http.get(url, headers={"If-None-Match": first.headers["etag"]})).status_code == 304


async def test_results_in_other_notations(
    stand: Stand, http: httpx2.AsyncClient, batch: dict[str, Any]
) -> None:
    """The same entries line by line, as a table without formulas, and as an archive."""
    await finish(stand, http, batch)
    url = batch["urls"]["results"]
    entries = (await http.get(url)).json()["archivos_procesados"]
    lines = await http.get(url, params={"format": "ndjson"})
    assert [json.loads(line) for line in lines.text.splitlines()] == entries
    table = await http.get(url, params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"))))
    assert [row["nombre"] for row in rows] == [NAME, "b.xml"] and rows[0]["resultado"] == '{"n":1}'
    archive = await http.get(url, params={"format": "zip"})
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        assert names[0] == f"{batch['id']}/metadata.json" and len(names) == 3
        assert [json.loads(opened.read(name)) for name in names[1:]] == entries
    for kind, response in (("ndjson", lines), ("csv", table), ("zip", archive)):
        assert response.headers["content-disposition"].endswith(f'_resultados.{kind}"')


async def test_a_table_never_begins_a_formula(stand: Stand, http: httpx2.AsyncClient) -> None:
    """A file called like one is shown as text."""
    made = await http.post("/v1/batches", files=parts(("=HYPERLINK(1).xml", xml())))
    url = made.json()["urls"]["results"]
    table = await http.get(url, params={"format": "csv", "partial": "true"})
    (row,) = csv.DictReader(io.StringIO(table.content.decode("utf-8-sig")))
    assert row["nombre"] == "'=HYPERLINK(1).xml"


async def test_the_api_describes_itself(http: httpx2.AsyncClient) -> None:
    """Every reference leads somewhere, and the bodies are those of the contract."""
    document = (await http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas, reference
    created = document["paths"]["/v1/batches"]["post"]["responses"]["201"]
    assert created["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Batch"}
    assert {"Batch", "File", "Problem", "OpenBatch", "Stats"} <= set(schemas)
    assert "HTTPValidationError" not in text


async def test_what_a_write_answers_is_what_the_view_will_say(
    stand: Stand, http: httpx2.AsyncClient, batch: dict[str, Any]
) -> None:
    """The body folded from the events equals the view's, from the first one to the completion."""
    url = batch["urls"]["self"]
    assert (await http.get(url)).json() == batch
    records = [one async for chunk in stand.log.read() for one in chunk]
    assert bodies.batch_of(batch["id"], records) == (await stand.views.batch(None, batch["id"])).found
    for verb in ("pause", "resume"):
        await http.post(f"{url}/{verb}")
    await finish(stand, http, batch)
    records = [one async for chunk in stand.log.read() for one in chunk]
    assert bodies.batch_of(batch["id"], records) == (await stand.views.batch(None, batch["id"])).found
