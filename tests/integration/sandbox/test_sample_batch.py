"""The bundled processors, in the sandbox, say of the bundled samples what the truth says."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.worker.sandbox.sandbox import Job, Sandbox, installed_processors
from tanda.contracts.results import Failure, Result, SourceFile
from tanda.domain.filetypes import HEAD_BYTES, FileType, check
from tanda.samples import sample_truth, write_samples

_TRUTH = sample_truth()
_TAKEN = [name for name, truth in _TRUTH.items() if truth["status"] != "rejected"]


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    started = Sandbox()
    await started.start(installed_processors())
    yield started
    await started.close()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Every file that the gate lets in."""
    paths = write_samples(tmp_path_factory.mktemp("samples"))
    return [a_job(path) for path in paths if path.name in _TAKEN]


@pytest.fixture(scope="module")
async def outcomes(sandbox: Sandbox, jobs: list[Job]) -> dict[str, Result | Failure]:
    """What came of each, by name."""
    return dict(zip(_TAKEN, await sandbox.run_many(jobs), strict=True))


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


async def test_files_that_share_a_child_leave_nothing_behind(
    sandbox: Sandbox, jobs: list[Job], outcomes: dict[str, Result | Failure]
) -> None:
    """In one process, twice and in another order, every file gives what it gives alone."""
    for processor in sorted({job.processor for job in jobs}):
        mine = [job for job in jobs if job.processor == processor]
        alone = [outcomes[job.source.name] for job in mine]
        assert await sandbox.run_shared([*reversed(mine), *mine]) == [*reversed(alone), *alone]


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
