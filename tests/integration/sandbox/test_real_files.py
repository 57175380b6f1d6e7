"""The processors on 120 real files that nobody in this project wrote, against their ground truth.

The files lie beside the repository (``../shared/data/real``) or where ``TANDA_REAL_DATA`` says; without them
these tests are skipped. ``manifest.csv`` says of each file what is true of it.
"""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from services.worker.sandbox.sandbox import Job, Sandbox, installed_processors
from tanda.contracts.results import Failure, Result, SourceFile
from tanda.domain.filetypes import HEAD_BYTES, FileType, Refusal, check
from tests.processing import submit

_BESIDE = Path(__file__).parents[3].parent / "shared" / "data" / "real"
ROOT = Path(os.environ.get("TANDA_REAL_DATA", str(_BESIDE)))
MANIFEST = ROOT / "manifest.csv"

#: Of the facts that e-invoices state, and of those that text heuristics may find.
EXTRACTED_SHARE_MIN = 1.0
GUESSED_SHARE_MIN = 0.85

Row = dict[str, str]


def _rows() -> list[Row]:
    if not MANIFEST.exists():
        return []
    with MANIFEST.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ROWS = _rows()
pytestmark = pytest.mark.skipif(not ROWS, reason="the real files are not here")


def rows(**wanted: str) -> list[Any]:
    """The manifest's lines with these values, as test parameters named after the file."""
    chosen = [row for row in ROWS if all(row[key] == value for key, value in wanted.items())]
    return [pytest.param(row, id=row["path"]) for row in chosen]


def other(row: Row) -> dict[str, Any]:
    return json.loads(row["other_facts"] or "{}")


def outcome_of(row: Row) -> Result | Failure | Refusal:
    return submit(ROOT / row["path"])


def data_of(row: Row) -> dict[str, Any]:
    outcome = outcome_of(row)
    assert isinstance(outcome, Result), (row["path"], outcome)
    return json.loads(json.dumps(outcome.data))


def invoice_of(data: dict[str, Any]) -> dict[str, Any]:
    return data["invoice"] if data["kind"] == "pdf" else data


def stated(row: Row, invoice: dict[str, Any]) -> Iterator[tuple[str, str, Any, bool]]:
    """Each fact that the manifest states: name, truth, what we say, and whether they agree."""
    seller, buyer = invoice["seller"], invoice["buyer"]
    found: dict[str, Any] = {
        **{"doc_type": invoice["type"], "number": invoice["number"], "issue_date": invoice["issue_date"]},
        **{"seller": seller["name"], "seller_id": seller["ids"], "buyer": buyer["name"]},
        **{"buyer_id": buyer["ids"], "currency": invoice["currency"], "uuid": invoice["uuid"]},
        **{"total": invoice["total"], "payable": invoice["payable"], "net": invoice["net"]},
        "lines": str(invoice["line_count"]),
    }
    for name, ours in found.items():
        truth = row[name].strip()
        if truth:
            yield name, truth, ours, _agree(name, truth, ours)


def _agree(name: str, truth: str, ours: Any) -> bool:
    if name in ("total", "payable", "net"):
        return ours is not None and Decimal(ours) == Decimal(truth)
    if name.endswith("_id"):
        return truth in ours and truth == ours[0]
    return ours == truth


def test_every_fact_of_the_e_invoices_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Type, number, date, parties, currency, amounts, lines and fiscal id, over every dialect."""
    matched: Counter[str] = Counter()
    total: Counter[str] = Counter()
    misses: list[str] = []
    for row in (row for row in ROWS if row["expect"] == "extract"):
        for name, truth, ours, agree in stated(row, invoice_of(data_of(row))):
            total[row["kind"]] += 1
            matched[row["kind"]] += agree
            if not agree:
                misses.append(f"{row['path']}: {name} is {truth!r}, not {ours!r}")
    with capsys.disabled():
        figures = ", ".join(f"{kind} {matched[kind]}/{total[kind]}" for kind in total)
        print(f"\ne-invoice facts {matched.total()}/{total.total()}: {figures}")
    assert matched.total() >= total.total() * EXTRACTED_SHARE_MIN, "\n".join(misses)


@pytest.mark.parametrize("row", rows(expect="extract"))
def test_an_e_invoice_has_the_manifests_further_facts(row: Row) -> None:
    """All identifiers, the due date, the profile and the number of documents."""
    facts, invoice = other(row), invoice_of(data_of(row))
    for party in ("seller", "buyer"):
        assert set(facts.get(f"{party}_ids", [])) <= {*invoice[party]["ids"], invoice[party]["name"]}
    for name in ("due_date", "profile"):
        if name in facts:
            assert invoice[name] == facts[name]
    assert invoice["document_count"] == facts.get("bodies", facts.get("invoices", 1))
    if "numbers" in facts:
        assert ";".join(document["number"] for document in invoice["documents"]) == facts["numbers"]
    if "pagos" in facts:
        assert [f"{p['amount']} {p['currency']}" for p in invoice["payments"]] == [facts["pagos"]]


@pytest.mark.parametrize("row", rows(kind="facturx-pdf"))
def test_a_hybrid_pdf_gives_its_embedded_invoice(row: Row) -> None:
    """The attachment that carried it is named."""
    facts, data = other(row), data_of(row)
    assert data["pages"] == facts["pages"]
    assert [data["invoice_attachment"]] == facts["attachments"]


@pytest.mark.parametrize("row", rows(expect="accept"))
def test_a_sound_file_is_processed_the_same_twice(row: Row) -> None:
    """A strange file is not a broken one."""
    outcome = outcome_of(row)
    assert isinstance(outcome, Result), outcome
    assert outcome == outcome_of(row)


@pytest.mark.parametrize("row", rows(expect="reject"))
def test_a_broken_file_fails_with_a_sentence(row: Row) -> None:
    """The code is specific, the message is for people, and a retry gives the same."""
    outcome = outcome_of(row)
    assert isinstance(outcome, (Failure, Refusal)), outcome
    assert outcome.code not in ("", "processor_error", "error")
    assert outcome.message.endswith(".")
    assert len(outcome.message) > 20
    assert str(ROOT) not in outcome.message
    assert outcome == outcome_of(row)


@pytest.mark.parametrize("row", rows(expect="either"))
def test_a_hostile_file_gets_one_answer_and_reads_nothing_else(row: Row) -> None:
    """Processed or refused, the same each time, and never another file's content."""
    outcome = outcome_of(row)
    assert outcome == outcome_of(row)
    assert "root:" not in repr(outcome)
    assert isinstance(outcome, Result) or outcome.message.endswith(".")


@pytest.mark.parametrize("row", rows(kind="csv", expect="accept"))
def test_a_table_is_read_as_a_correct_reader_sees_it(row: Row) -> None:
    """Delimiter, records, widths and cells; the encoding as far as bytes can tell."""
    facts, data = other(row), data_of(row)
    seen = {
        "delimiter": data["delimiter"],
        "records_incl_header": data["records"],
        "header_cols": data["first_record_width"],
        "width_counts": data["widths"],
        "blank_records": data["blank_records"],
        "max_cell": data["cell_chars_max"],
        "multiline_cells": data["multiline_cells"],
        "first": data["preview"][0][:6],
    }
    assert seen == {name: facts[name] for name in seen}
    if facts["encoding"] == "iso-8859-7":
        assert "encoding_guessed" in outcome_of(row).warnings  # pyright: ignore[reportAttributeAccessIssue]
    else:
        assert data["encoding"] in (facts["encoding"], facts["encoding"].replace("latin-1", "cp1252"))


@pytest.mark.parametrize("row", rows(kind="barcode"))
def test_a_barcode_is_read(row: Row) -> None:
    """Every kind of code, small, dense, Japanese or out of focus."""
    codes = data_of(row)["barcodes"]
    assert [code["text"] for code in codes] == [other(row)["barcode_text"]]


@pytest.mark.parametrize("row", rows(kind="pdf-text"))
def test_a_pdfs_text_is_found(row: Row) -> None:
    """What the reader of the page sees is in the text."""
    facts, data = other(row), data_of(row)
    assert data["pages"] == facts["pages"]
    for words in facts["must_contain"].split("|"):
        assert words in data["text"]


def test_an_image_only_pdf_says_so() -> None:
    """A scan without a text layer is processed, with a warning and no text."""
    outcome = submit(ROOT / "scan-pdf" / "jbig2.pdf")
    assert isinstance(outcome, Result)
    assert (outcome.data["text"], outcome.warnings) == (None, ["no_text_layer"])


def test_guesses_from_text_are_right_or_null(capsys: pytest.CaptureFixture[str]) -> None:
    """Number, date, currency, total and seller: most are found and a wrong one is a failure of this test."""
    matched = total = 0
    wrong: list[str] = []
    for row in (row for row in ROWS if row["kind"] == "pdf-text"):
        data = data_of(row)
        invoice = data["invoice"]
        guesses = data["guesses"] or {**invoice, "seller": invoice["seller"]["name"]}
        for name in ("number", "issue_date", "seller", "currency", "total"):
            truth, ours = row[name], guesses[name]
            agree = _agree(name, truth, ours)
            total, matched = total + 1, matched + agree
            if ours is not None and not agree:
                wrong.append(f"{row['path']}: {name} is {truth!r}, not {ours!r}")
    with capsys.disabled():
        print(f"\nguessed facts {matched}/{total}, wrong {len(wrong)}")
    assert not wrong
    assert matched >= total * GUESSED_SHARE_MIN


@pytest.mark.parametrize("row", rows())
def test_a_damaged_copy_gets_an_answer(row: Row, tmp_path: Path) -> None:
    """Bytes changed, lost, doubled or cut off: a result or a failure with a sentence, never an exception."""
    chance = Random(row["sha256"])
    original = (ROOT / row["path"]).read_bytes()
    for turn in range(3):
        copy = tmp_path / f"{turn}-{Path(row['path']).name}"
        copy.write_bytes(_damaged(original, chance))
        outcome = submit(copy)
        assert isinstance(outcome, Result) or outcome.message.endswith((".", "?"))


def _damaged(original: bytes, chance: Random) -> bytes:
    data = bytearray(original)
    for _ in range(chance.choice((1, 5, 50))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[place : place + 1] = chance.randbytes(1)
            case 1:
                del data[place : place + chance.choice((1, 4, 50))]
            case 2:
                data[place:place] = data[place : place + chance.choice((1, 10, 300))]
            case _:
                data[place : place + 2] = chance.choice((b"\xff\xff", b"\0\0", b"<!", b'">'))
    return bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.2 else data)


async def test_the_sandbox_gives_the_same_answers() -> None:
    """Under the limits of the product no file is lost, and confinement changes no result."""
    sandbox = Sandbox()
    await sandbox.start(installed_processors())
    try:
        for row in ROWS:
            alone = outcome_of(row)
            if isinstance(alone, Refusal):
                continue
            assert await sandbox.run(_job(row)) == alone, row["path"]
    finally:
        await sandbox.close()


def _job(row: Row) -> Job:
    path = ROOT / row["path"]
    data = path.read_bytes()
    kind = check(path.name, None, data[:HEAD_BYTES], len(data))
    assert isinstance(kind, FileType)
    source = SourceFile(
        path=path, name=path.name, content_type=kind.content_type, bytes=len(data), sha256=row["sha256"]
    )
    return Job(processor=kind.processor, source=source, options={})
