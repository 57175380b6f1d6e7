"""The bundled processors, in the sandbox, say of the bundled samples what the truth says."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.worker.sandbox import Job, Sandbox, installed_processors
from tanda.contracts.results import Failure, Result, SourceFile
from tanda.domain.filetypes import HEAD_BYTES, FileType, check
from tanda.samples import sample_truth, write_samples

_TRUTH = sample_truth()
_TAKEN = [name for name, truth in _TRUTH.items() if truth["status"] != "rejected"]


@pytest.fixture(scope="module")
async def outcomes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Result | Failure]]:
    """What came of every file that the gate lets in, by name."""
    sandbox = Sandbox()
    await sandbox.start(installed_processors())
    paths = write_samples(tmp_path_factory.mktemp("samples"))
    jobs = [a_job(path) for path in paths if path.name in _TAKEN]
    yield dict(zip(_TAKEN, await sandbox.run_many(jobs), strict=True))
    await sandbox.close()


def a_job(path: Path) -> Job:
    data = path.read_bytes()
    seen = check(path.name, None, data[:HEAD_BYTES], len(data))
    assert isinstance(seen, FileType)
    digest = hashlib.sha256(data).hexdigest()
    source = SourceFile(
        path=path, name=path.name, content_type=seen.content_type, bytes=len(data), sha256=digest
    )
    return Job(processor=seen.processor, source=source)


@pytest.mark.parametrize("name", _TAKEN)
async def test_a_samples_result_is_the_truth(outcomes: dict[str, Result | Failure], name: str) -> None:
    """Every field that the truth names; guesses from a printed page name no tax number."""
    truth, outcome = _TRUTH[name], outcomes[name]
    if isinstance(outcome, Failure):
        assert {"status": "failed", "code": outcome.code} == truth, outcome
        return
    told = {**_facts(outcome.data), "status": "completed", "kind": outcome.data["kind"]}
    skipped = {"text"} if truth.get("attachment", name) else {"text", "seller_tax_id"}
    assert {key: told.get(key) for key in truth.keys() - skipped} == {
        key: truth[key] for key in truth.keys() - skipped
    }
    assert truth.get("text", "") in outcome.data.get("text", "")


def _facts(data: dict[str, Any]) -> dict[str, Any]:
    match data["kind"]:
        case "invoice":
            return _invoice(data)
        case "pdf":
            found = data["invoice"]
            more = _invoice(found) if found else data["guesses"] or {}
            return {"attachment": data["invoice_attachment"], "pages": data["pages"], **more}
        case "image":
            return {**data, "barcodes": [code["text"] for code in data["barcodes"]]}
        case _:
            return {"rows": data["rows"], "columns": data["column_count"], "delimiter": data["delimiter"]}


def _invoice(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "seller": data["seller"]["name"], "seller_tax_id": data["seller"]["tax_id"]}
