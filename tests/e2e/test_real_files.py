"""All the real files as one batch through the real services: the facts that come out at the far end."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandbox.test_real_files import ROOT, ROWS, invoice_of, stated
from tests.running import Running, post_batch

pytestmark = pytest.mark.skipif(not ROWS, reason="the real files are not here")

FACTS_SHARE_MIN = 0.95


@pytest.fixture(scope="module")
async def entries(tanda: Running) -> dict[str, dict[str, Any]]:
    """Each file's entry in the result JSON, by the file's place in the manifest."""
    files = [ROOT / row["path"] for row in ROWS]
    async with tanda.http() as http:
        created = await post_batch(http, files, name="real files")
        assert created.status_code == 201, created.text
        batch = await tanda.finished(created.json()["id"])
        results = (await http.get(f"/v1/batches/{batch['id']}/results")).json()
    found = results["archivos_procesados"]
    assert len(found) == len(ROWS)
    return {row["path"]: entry for row, entry in zip(ROWS, found, strict=True)}


async def test_the_facts_of_the_e_invoices_arrive(entries: dict[str, dict[str, Any]]) -> None:
    """XML and hybrid PDFs: at least 95 % of the stated facts, over every dialect."""
    agreed: list[bool] = []
    misses: list[str] = []
    for row in (row for row in ROWS if row["expect"] == "extract"):
        entry = entries[row["path"]]
        assert entry["estado"] == "completed", (row["path"], entry["error"])
        for name, truth, ours, agree in stated(row, invoice_of(entry["resultado"])):
            agreed.append(agree)
            if not agree:
                misses.append(f"{row['path']}: {name} is {truth!r}, not {ours!r}")
    assert len(agreed) > 400
    assert sum(agreed) >= len(agreed) * FACTS_SHARE_MIN, "\n".join(misses)


async def test_every_file_has_its_outcome_and_reason(entries: dict[str, dict[str, Any]]) -> None:
    """Sound files complete, broken ones fail with a sentence, hostile ones get either and leak nothing."""
    wanted = {"extract": {"completed"}, "accept": {"completed"}, "reject": {"failed", "rejected"}}
    for row in ROWS:
        entry = entries[row["path"]]
        assert entry["estado"] in wanted.get(row["expect"], {"completed", "failed", "rejected"}), entry
        if entry["estado"] != "completed":
            assert entry["error"]["code"] not in ("", "processor_error")
            assert len(entry["error"]["message"]) > 20
        assert "root:" not in json.dumps(entry)


async def test_their_sources_come_back_whole(tanda: Running) -> None:
    """A few by name, one of them with an ampersand, byte for byte."""
    with tanda.client() as client:
        (batch,) = client.batches(q="real files")
        files = {one["name"]: one for one in client.files(batch["id"]) if one["status"] != "rejected"}
    async with tanda.http() as http:
        for row in ROWS[::10]:
            name = Path(row["path"]).name
            if name in files:
                response = await http.get(files[name]["source"]["url"])
                assert response.content == (ROOT / row["path"]).read_bytes(), name
