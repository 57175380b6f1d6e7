"""PDFs give their embedded invoice, else their text and careful guesses; nothing is rendered."""

import io
import zlib
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

from services.worker.processors.guesses.values import amount_of, date_of, date_order, number_of
from services.worker.processors.pdf_document import PAGES_MAX, TEXT_BYTES_MAX
from tanda.contracts.results import Failure, Result
from tests.processing import process

INVOICE_XML = (
    b'<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2" xmlns:c="urn:oasis:names:'
    b'specification:ubl:schema:xsd:CommonBasicComponents-2"><c:ID>F-7</c:ID>'
    b"<c:IssueDate>2024-01-02</c:IssueDate></Invoice>"
)
#: Column and height of each text, in points.
Words = list[tuple[int, int, str]]


def pdf(*contents: bytes, trailer: bytes = b"", media: str = "0 0 595 842") -> bytes:
    """A PDF with one page for each content stream."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, content in enumerate(contents):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{media}] /Contents {5 + 2 * index} 0 R "
            "/Resources << /Font << /F 3 0 R >> >> >>".encode()
        )
        packed = zlib.compress(content)
        objects.append(
            b"<< /Filter /FlateDecode /Length %d >>\nstream\n" % len(packed) + packed + b"\nendstream"
        )
    return assembled(objects, trailer)


def assembled(objects: list[bytes], trailer: bytes = b"") -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    offsets: list[int] = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R " % (len(objects) + 1) + trailer
    return bytes(out + b" >>\nstartxref\n%d\n%%%%EOF" % start)


def written(words: Words) -> bytes:
    """A content stream that shows each text at its place."""
    shown = (f"1 0 0 1 {x} {y} Tm ({text.replace('(', '').replace(')', '')}) Tj" for x, y, text in words)
    return ("BT /F 11 Tf " + " ".join(shown) + " ET").encode("cp1252")


def page(*lines: str) -> bytes:
    """A content stream of lines; a bar moves to the next column."""
    words: Words = []
    for row, line in enumerate(lines):
        words += [(40 + 150 * column, 780 - 20 * row, cell) for column, cell in enumerate(line.split("|"))]
    return written(words)


def with_attachments(data: bytes, **files: bytes) -> bytes:
    document = pypdfium2.PdfDocument(data)
    for name, content in files.items():
        document.new_attachment(name.replace("__", "-").replace("_", ".")).set_data(content)
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


def result_of(folder: Path, data: bytes) -> Result:
    outcome = process("pdf", folder, data)
    assert isinstance(outcome, Result), outcome
    return outcome


def failure_of(folder: Path, data: bytes) -> Failure:
    outcome = process("pdf", folder, data)
    assert isinstance(outcome, Failure), outcome
    assert outcome.message.endswith(".")
    return outcome


def guesses_of(folder: Path, *lines: str) -> dict[str, Any]:
    return result_of(folder, pdf(page(*lines))).data["guesses"]


def test_the_embedded_invoice_goes_first(tmp_path: Path) -> None:
    """The prescribed name wins over another XML, and nothing is guessed beside it."""
    document = with_attachments(
        pdf(page("Invoice Number: 99")), notes_xml=b"<notes/>", factur__x_xml=INVOICE_XML, a_txt=b"a"
    )
    data = result_of(tmp_path, document).data
    assert (data["invoice"]["number"], data["invoice_attachment"]) == ("F-7", "factur-x.xml")
    assert data["guesses"] is None
    assert {attachment["name"] for attachment in data["attachments"]} == {
        "notes.xml",
        "factur-x.xml",
        "a.txt",
    }


def test_any_xml_attachment_may_be_the_invoice(tmp_path: Path) -> None:
    """Generators invent names."""
    data = result_of(tmp_path, with_attachments(pdf(b""), rechnung_xml=INVOICE_XML)).data
    assert data["invoice_attachment"] == "rechnung.xml"


def test_a_hostile_attachment_costs_only_itself(tmp_path: Path) -> None:
    """The page's text is still read, and the warning says what was not."""
    bomb = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>'
    result = result_of(tmp_path, with_attachments(pdf(page("Invoice No. A-1")), factur__x_xml=bomb))
    assert (result.data["invoice"], result.data["guesses"]["number"]) == (None, "A-1")
    assert result.warnings == ["embedded_xml_unreadable"]


def test_text_is_found_and_counted(tmp_path: Path) -> None:
    """Pages in order."""
    data = result_of(tmp_path, pdf(page("one"), page("two"))).data
    assert (data["pages"], data["text"], data["text_chars"]) == (2, "one\ntwo", 6)
    assert data["page_size"] == [595.0, 842.0]


def test_no_text_is_null_with_a_warning(tmp_path: Path) -> None:
    """A scan is not an empty text."""
    result = result_of(tmp_path, pdf(b"0 0 100 100 re f"))
    assert (result.data["text"], result.data["guesses"]) == (None, None)
    assert result.warnings == ["no_text_layer"]


def test_text_is_bounded(tmp_path: Path) -> None:
    """What exceeds 200,000 bytes is counted and cut."""
    data = result_of(tmp_path, pdf(*[page(*["ñ" * 90] * 30)] * 120)).data
    assert data["text_truncated"]
    assert len(data["text"].encode()) <= TEXT_BYTES_MAX + 120
    assert data["text_chars"] > 120 * 30 * 90


def test_pages_are_bounded(tmp_path: Path) -> None:
    """The count is the document's; the rest is not read."""
    result = result_of(tmp_path, pdf(*[page("x")] * (PAGES_MAX + 5)))
    assert (result.data["pages"], result.data["pages_read"]) == (PAGES_MAX + 5, PAGES_MAX)
    assert result.warnings == ["pages_truncated"]


def test_a_page_too_complex_is_left_out(tmp_path: Path) -> None:
    """A page of a hundred thousand pieces is not read; the others are."""
    result = result_of(tmp_path, pdf(page("Invoice No. 7"), b"0 0 m 1 1 l S " * 100_001))
    assert (result.data["text"], result.warnings) == ("Invoice No. 7", ["pages_unreadable"])


def test_an_invoice_in_english(tmp_path: Path) -> None:
    """Labels to the left, amounts to the right, the issuer known by the web address."""
    assert guesses_of(
        tmp_path,
        "Bill to:|www.northwind-trading.com",
        "Contoso Ltd|Northwind Trading Inc.",
        "Invoice Number: INV-2024/07|Invoice Date: March 3, 2024",
        "Item|Qty|Total",
        "Widget|2|10.00",
        "Subtotal||$1,000.00",
        "Tax 10%||$100.00",
        "Total||$1,100.00",
        "Amount due||$600.00",
    ) == {
        **{"number": "INV-2024/07", "issue_date": "2024-03-03", "seller": "Northwind Trading Inc."},
        **{"currency": "USD", "net": "1000.00", "total": "1100.00", "payable": "600.00"},
    }


def test_an_invoice_in_spanish(tmp_path: Path) -> None:
    """Day first, decimal comma, the issuer known by its NIF."""
    found = guesses_of(
        tmp_path,
        "Talleres Gómez S.L.|Cliente:",
        "NIF B12345678|Ayuntamiento de Lugo S.A.",
        "Factura nº: 2024-0045",
        "Fecha de emisión: 05/02/2024",
        "Base imponible|1.000,00 €",
        "IVA 21%|210,00 €",
        "Total factura|1.210,00 €",
    )
    assert found == {
        **{"number": "2024-0045", "issue_date": "2024-02-05", "seller": "Talleres Gómez S.L."},
        **{"currency": "EUR", "net": "1000.00", "total": "1210.00", "payable": None},
    }


@pytest.mark.parametrize(
    ("lines", "number", "date", "total"),
    [
        (["Rechnung Nr. 4711 vom 7. Mai 2014", "Gesamtbetrag|EUR 34,73"], "4711", "2014-05-07", "34.73"),
        (["Factuurnummer:|993", "Factuurdatum:|19 april 2014", "Totaal|€ 7,97"], "993", "2014-04-19", "7.97"),
        (
            ["Facture FA-9", "Date de facture|13/11/2017", "Total TTC|-1 671,15 €"],
            "FA-9",
            "2017-11-13",
            "-1671.15",
        ),
        (["INVOICE", "# 12", "Date:|2024-01-02", "Balance Due:|$5.00"], "12", "2024-01-02", "5.00"),
    ],
    ids=["German", "Dutch", "French", "bare title"],
)
def test_invoices_in_other_languages(
    tmp_path: Path, lines: list[str], number: str, date: str, total: str
) -> None:
    """Each language's labels, dates and decimal signs."""
    found = guesses_of(tmp_path, *lines)
    assert (found["number"], found["issue_date"], found["total"]) == (number, date, total)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["Invoice No. 7", "Date: 03/04/2024"], "issue_date"),
        (["Invoice No. 7", "Total tax|$9.00"], "total"),
        (["Invoice No. 7", "Gesamtbetrag der Zuschläge|5,80 €"], "total"),
        (["Invoice No. 7", "Total|9.00", "Total|7.00"], "total"),
        (["Invoice No. 7", "Bill to:", "Contoso Ltd"], "seller"),
        (["Total|$9.00", "Prices in MXN or CAD"], "currency"),
        (["Total|$9.00", "RFC ABC010101AB1"], "currency"),
    ],
)
def test_what_is_not_clear_stays_null(tmp_path: Path, lines: list[str], name: str) -> None:
    """Day or month, a total of something else, two totals, the customer, a dollar of unknown country."""
    assert guesses_of(tmp_path, *lines)[name] is None


def test_a_letter_is_not_an_invoice(tmp_path: Path) -> None:
    """Without number, date and total there is nothing to guess."""
    assert guesses_of(tmp_path, "Dear Ana,", "the weather is fine.") is None


_JUNK_KEY = b"/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (
    b"11" * 32,
    b"22" * 32,
)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed_pdf"),
        (b"%PDF-1.7\n%%EOF", "malformed_pdf"),
        (b"potato salad", "malformed_pdf"),
        (pdf(page("x"))[:300], "malformed_pdf"),
        (pdf(), "malformed_pdf"),
        (pdf(page("x"), trailer=_JUNK_KEY), "password_protected"),
    ],
    ids=["empty", "header only", "text", "cut", "no pages", "password"],
)
def test_a_broken_pdf_gets_a_code(tmp_path: Path, data: bytes, code: str) -> None:
    """The answer does not depend on what the process opened before."""
    before = failure_of(tmp_path, data)
    failure_of(tmp_path, pdf(page("x"), trailer=_JUNK_KEY))
    assert before.code == code
    assert failure_of(tmp_path, data) == before


@pytest.mark.parametrize(
    "data",
    [
        pdf(page("x"), media="0 0 200000000 200000000"),
        pdf(b"q " * 200_000 + b"BT ET"),
        pdf(b"\0" * 50_000_000),
        assembled([b"<< /Type /Catalog /Pages 1 0 R >>"]),
        assembled(
            [
                b"<< /Type /Catalog /Pages 2 0 R >>",
                b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 9 >>",
                b"<< /Type /Page /Parent 2 0 R >>",
            ]
        ),
        assembled(
            [
                b"<< /Type /Catalog /Pages 2 0 R >>",
                b"[" * 100_000,
                b"<< /Type /Pages /Kids [] /Count 1000000 >>",
            ]
        ),
    ],
    ids=["huge page", "deep state", "flate bomb", "own tree", "cyclic tree", "deep array"],
)
def test_a_hostile_pdf_has_one_answer(tmp_path: Path, data: bytes) -> None:
    """Processed or refused, quickly and the same twice."""
    assert process("pdf", tmp_path, data) == process("pdf", tmp_path, data)


@pytest.mark.parametrize(
    ("text", "order", "date"),
    [
        ("2024-01-02", None, "2024-01-02"),
        ("August 3 , 2014", None, "2014-08-03"),
        ("1st March 2023", None, "2023-03-01"),
        ("3 de marzo de 2023", None, "2023-03-03"),
        ("1er février 2020", None, "2020-02-01"),
        ("13/01/2024", None, "2024-01-13"),
        ("01/13/2024", None, "2024-01-13"),
        ("03/04/2024", None, None),
        ("03/04/2024", "mdy", "2024-03-04"),
        ("03.04.2024", None, "2024-04-03"),
        ("04/04/2024", None, "2024-04-04"),
        ("31/02/2024", None, None),
    ],
)
def test_a_printed_date(text: str, order: Any, date: str | None) -> None:
    """A date that may be two dates is none."""
    assert date_of(text, order) == date


def test_one_date_tells_the_order_of_all() -> None:
    """Unless another contradicts it."""
    assert date_order("03/04/2024 and 03/20/2024") == "mdy"
    assert date_order("20/03/2024 and 03/20/2024") is None


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$1,234.50", ("1234.50", "$")),
        ("EUR 34,73", ("34.73", "EUR")),
        ("1 671,15 €", ("1671.15", "€")),
        ("-€ 9,32", ("-9.32", "€")),
        ("€ -9,32", ("-9.32", "€")),
        ("21% 5.00", ("5.00", None)),
        ("August 3, 2014 $4.11", ("4.11", "$")),
        ("page 3 of 12", None),
        ("19 %", None),
        ("01.05.14-31.05.14", None),
        ("EUR34,73", ("34.73", "EUR")),
        ("COP 1.500.000", ("1500000", "COP")),
    ],
)
def test_a_printed_amount(text: str, amount: tuple[str, str | None] | None) -> None:
    """The last one, with two decimals or a currency beside it."""
    assert amount_of(text) == amount


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("INV/2023/03/0008", "INV/2023/03/0008"), ("# 42 ", "42"), ("RE-1/5 issued at", "RE-1/5")),
        *(("Date", None), ("2024-01-02", None), ("12.50", None), ("", None)),
    ],
)
def test_a_printed_number(text: str, number: str | None) -> None:
    """A word with a digit that is no date and no price."""
    assert number_of(text) == number
