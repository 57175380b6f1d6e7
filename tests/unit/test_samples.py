"""The sample batch: always the same 51 files, each of them what the truth says."""

import hashlib
import io
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pypdfium2
import pytest
import zxingcpp
from PIL import Image, ImageOps

from tanda.domain.filetypes import HEAD_BYTES, Refusal, check
from tanda.samples import sample_truth, tax_ids, write_samples
from tanda.samples.cii import cii
from tanda.samples.sales import LUNA, NANDU, make_sale
from tanda.samples.ubl import peppol

_TRUTH = sample_truth()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the batch."""
    path = tmp_path_factory.mktemp("samples")
    write_samples(path)
    return path


def named(**wanted: Any) -> list[str]:
    return [name for name, truth in _TRUTH.items() if wanted.items() <= truth.items()]


def digests(paths: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_there_are_51_and_the_truth_knows_each(folder: Path) -> None:
    """Nothing is written that is not judged, and nothing judged that is not written."""
    written = {path.name for path in folder.iterdir()}
    assert (len(written), written) == (51, set(_TRUTH))


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Two runs agree byte by byte; another seed gives other invoices."""
    first = digests(list(folder.iterdir()))
    assert digests(write_samples(tmp_path / "again")) == first
    other = digests(write_samples(tmp_path / "other", seed=2))
    assert len(other) == 51
    assert not set(other.values()) & {first[name] for name in named(kind="invoice")}


def test_the_batch_is_mixed() -> None:
    """As many kinds as a small company gets, and seven faults."""
    statuses = [truth["status"] for truth in _TRUTH.values()]
    assert (statuses.count("completed"), statuses.count("failed"), statuses.count("rejected")) == (44, 4, 3)
    dialects = {_TRUTH[name]["dialect"] for name in named(kind="invoice")}
    assert dialects == {"ubl", "dian", "cii", "cfdi", "facturae", "fatturapa", "sri"}


@pytest.mark.parametrize("name", _TRUTH)
def test_the_gate_takes_and_refuses_as_the_truth_says(folder: Path, name: str) -> None:
    """Rejected at the upload, with this code, or let in."""
    data = (folder / name).read_bytes()
    seen = check(name, None, data[:HEAD_BYTES], len(data))
    expected = _TRUTH[name]["code"] if _TRUTH[name]["status"] == "rejected" else None
    assert (seen.code if isinstance(seen, Refusal) else None) == expected


@pytest.mark.parametrize("name", named(kind="invoice"))
def test_every_invoice_is_well_formed_and_says_its_total(folder: Path, name: str) -> None:
    """The XML parses, and holds the seller, the tax number and the total."""
    text = (folder / name).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    truth = _TRUTH[name]
    said = {*(part.strip() for part in root.itertext()), *(v for e in root.iter() for v in e.attrib.values())}
    assert truth["total"] in said
    assert truth["seller"] in said
    assert truth["seller_tax_id"] in said or truth["seller_tax_id"][2:] in said


@pytest.mark.parametrize("number", range(30))
def test_a_sales_sums_are_exact(number: int) -> None:
    """No line and no tax needs rounding, so every dialect's own rule of rounding agrees."""
    from random import Random

    sale = make_sale(Random(number), "1", LUNA, NANDU, rates=("21", "10", "4"), withheld_rate="15")
    net = sum(item.quantity * item.price for item in sale.items)
    tax = sum(item.quantity * item.price * item.rate / 100 for item in sale.items)
    assert (sale.net, sale.tax) == (net, tax)
    assert sale.total == net + tax - net * Decimal("0.15")
    assert sum(amount for _, _, amount in sale.taxes()) == sale.tax


@pytest.mark.parametrize("write", [peppol, cii])
def test_the_lines_of_an_invoice_add_up_to_its_net(write: Any) -> None:
    """Read back from the XML, not from the sale."""
    from random import Random

    sale = make_sale(Random(4), "LC-1", LUNA, NANDU, rates=("21", "10"))
    text = write(sale).decode()
    lines = re.findall(r"<(?:cbc:LineExtensionAmount|ram:LineTotalAmount)[^>]*>([\d.]+)<", text)
    # The header repeats the sum: last in UBL and CII alike or first, so it is the greatest.
    amounts = sorted(map(Decimal, lines))
    assert sum(amounts[:-1]) == amounts[-1] == sale.net


@pytest.mark.parametrize("name", [name for name in named(kind="pdf") if _TRUTH[name]["attachment"]])
def test_a_facturx_pdf_opens_and_carries_its_invoice(folder: Path, name: str) -> None:
    """By another library's eyes than our writer's."""
    document = pypdfium2.PdfDocument(folder / name)
    attachment = document.get_attachment(0)
    root = ElementTree.fromstring(bytes(attachment.get_data()))
    assert (document.count_attachments(), attachment.get_name()) == (1, "factur-x.xml")
    assert _TRUTH[name]["number"] in "".join(root.itertext())


@pytest.mark.parametrize("name", [name for name in named(kind="pdf") if "text" in _TRUTH[name]])
def test_a_printed_pdf_has_its_text(folder: Path, name: str) -> None:
    """Accents included."""
    document = pypdfium2.PdfDocument(folder / name)
    text = "".join(page.get_textpage().get_text_bounded() for page in document)
    assert _TRUTH[name]["text"] in text
    assert _TRUTH[name].get("seller", "conforme") in text


def test_the_broken_pdf_does_not_open(folder: Path) -> None:
    """Not even for a library that repairs."""
    with pytest.raises(pypdfium2.PdfiumError):
        pypdfium2.PdfDocument(folder / "descarga incompleta.pdf")


@pytest.mark.parametrize("name", named(kind="image"))
def test_a_pictures_code_can_be_read(folder: Path, name: str) -> None:
    """Also on the photograph that lies on its side."""
    with Image.open(folder / name) as stored:
        picture = ImageOps.exif_transpose(stored)
        orientation = stored.getexif().get(0x0112, 1)
    truth = _TRUTH[name]
    assert (picture.width, picture.height, orientation) == (720, 1_000, truth["orientation"])
    assert [code.text for code in zxingcpp.read_barcodes(picture)] == truth["barcodes"]


@pytest.mark.parametrize("name", named(kind="table"))
def test_a_table_has_its_rows(folder: Path, name: str) -> None:
    """Under one header, in the encoding and with the delimiter that its program writes."""
    import csv

    encoding = "cp1252" if name.startswith("exportación") else "utf-8-sig"
    text = (folder / name).read_bytes().decode(encoding)
    header, *rows = csv.reader(io.StringIO(text), delimiter=_TRUTH[name]["delimiter"])
    assert (len(header), len(rows)) == (_TRUTH[name]["columns"], _TRUTH[name]["rows"])


@pytest.mark.parametrize(
    ("made", "published"),
    [
        (tax_ids.nif("A", "5881850"), "A58818501"),
        (tax_ids.french_vat(tax_ids.luhn("73282932")), "FR44732829320"),
        (tax_ids.german_vat("13669597"), "DE136695976"),
        (tax_ids.rfc("SAT970701", "NN"), "SAT970701NN3"),
        (tax_ids.nit("800197268"), "4"),
        (tax_ids.ruc("179001093"), "1790010937001"),
    ],
)
def test_check_digits_are_those_that_the_tax_offices_publish(made: str, published: str) -> None:
    """Held against the offices' own numbers and their manuals' examples."""
    assert made == published
