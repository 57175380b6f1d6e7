"""The 51 files of the sample batch: name, how it is made, and what a right result says of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from tanda.samples import cfdi, cii, faults, pdf, pictures, sales, southern, tables, ubl
from tanda.samples.sales import Company, Sale, make_sale


@dataclass(frozen=True)
class Sample:
    """One file; ``make`` gives its bytes."""

    name: str
    truth: dict[str, Any]
    make: Callable[[], bytes]


def samples(seed: int) -> Iterator[Sample]:
    """All 51, in the order of an ordinary folder: by kind, then by number."""
    yield from _peppol(seed)
    yield from _cii(seed)
    yield from _mexican(seed)
    yield from _southern(seed)
    yield from _colombian(seed)
    yield from _pdfs(seed)
    yield from _pictures(seed)
    yield from _tables(seed)
    yield from _faults(seed)


def _entropy(seed: int, name: str) -> Random:
    return Random(f"{seed}/{name}")  # noqa: S311


def _invoice(name: str, dialect: str, sale: Sale, make: Callable[[Sale], bytes]) -> Sample:
    kind = "credit_note" if sale.corrects else "invoice"
    truth = _told(sale, kind="invoice", dialect=dialect, document_kind=kind)
    if dialect in ("ubl", "cii"):
        truth["seller_tax_id"] = sale.seller.vat
    return Sample(name, truth, partial(make, sale))


def _told(sale: Sale, **more: Any) -> dict[str, Any]:
    return {
        "status": "completed",
        **more,
        "number": sale.number,
        "total": str(sale.total),
        "currency": sale.currency,
        "seller": sale.seller.name,
        "seller_tax_id": sale.seller.tax_id,
    }


#: number, seller, buyer, currency, rates, language, the number that it corrects
_PEPPOL: tuple[tuple[str, Company, Company, str, tuple[str, ...], str, str | None], ...] = (
    ("LC-2026-0411", sales.LUNA, sales.NANDU, "EUR", ("21",), "es", None),
    ("LC-2026-0412", sales.LUNA, sales.ONDARRA, "EUR", ("21", "10"), "es", None),
    ("TB-1187", sales.BRUJULAS, sales.LUNA, "EUR", ("4", "21"), "es", None),
    ("HF-20931", sales.FINCH, sales.PHARE, "GBP", ("20",), "en", None),
    ("HF-20932", sales.FINCH, sales.MOND, "GBP", ("20", "0"), "en", None),
    ("PC-26-118", sales.PHARE, sales.FINCH, "EUR", ("20", "10"), "en", None),
    ("RE-4470", sales.MOND, sales.PHARE, "EUR", ("19", "7"), "en", None),
    ("ÑA-2026/31", sales.NANDU, sales.BRUJULAS, "EUR", ("21",), "es", None),
    ("LC-R-2026-009", sales.LUNA, sales.NANDU, "EUR", ("21",), "es", "LC-2026-0411"),
    ("HF-CN-0112", sales.FINCH, sales.PHARE, "GBP", ("20",), "en", "HF-20931"),
)


def _peppol(seed: int) -> Iterator[Sample]:
    for number, seller, buyer, currency, rates, language, corrects in _PEPPOL:
        sale = make_sale(
            _entropy(seed, number), number, seller, buyer,
            currency=currency, rates=rates, language=language, corrects=corrects,
        )  # fmt: skip
        kind = "abono" if corrects and language == "es" else "credit-note" if corrects else "factura"
        start = kind if language == "es" or corrects else "invoice"
        yield _invoice(f"{start} {number.replace('/', '-')}.xml", "ubl", sale, ubl.peppol)


def _cii(seed: int) -> Iterator[Sample]:
    for number, seller, buyer, corrects in (
        ("RE-4471", sales.MOND, sales.FINCH, None),
        ("RE-4472", sales.MOND, sales.LUNA, None),
        ("PC-26-119", sales.PHARE, sales.MOND, None),
        ("RE-G-088", sales.MOND, sales.PHARE, "RE-4470"),
    ):
        sale = make_sale(
            _entropy(seed, number), number, seller, buyer,
            rates=("19", "7") if seller is sales.MOND else ("20",), language="en", corrects=corrects,
        )  # fmt: skip
        yield _invoice(f"cii_{number}.xml", "cii", sale, cii.cii)


def _mexican(seed: int) -> Iterator[Sample]:
    first = ""
    for folio, version in ((811, "4.0"), (812, "4.0"), (813, "4.0"), (814, "4.0"), (207, "3.3"), (31, "4.0")):
        number = f"{'NC' if folio == 31 else 'A'}{folio}"
        buyer = sales.AJOLOTE
        corrects = first if folio == 31 else None
        sale = make_sale(
            _entropy(seed, number), number, sales.NUBE, buyer,
            currency="USD" if folio == 814 else "MXN", rates=("16",), corrects=corrects, scale=20,
        )  # fmt: skip
        first = first or cfdi.fiscal_id(sale)
        sample = _invoice(f"{cfdi.fiscal_id(sale)}.xml", "cfdi", sale, partial(cfdi.cfdi, version=version))
        sample.truth["uuid"] = cfdi.fiscal_id(sale)
        yield sample


def _southern(seed: int) -> Iterator[Sample]:
    for number, seller, buyer, withheld in (
        ("2026-F-0077", sales.ONDARRA, sales.LUNA, "0"),
        ("2026-F-0078", sales.ONDARRA, sales.BRUJULAS, "0"),
        ("NA-118", sales.NANDU, sales.ONDARRA, "15"),
    ):
        sale = make_sale(_entropy(seed, number), number, seller, buyer, withheld_rate=withheld)
        yield _invoice(f"facturae_{number}.xsig.xml", "facturae", sale, southern.facturae)
    for number, seller, buyer in (
        ("118-2026", sales.COBALTO, sales.GRILLO),
        ("FT-77", sales.GRILLO, sales.COBALTO),
    ):
        sale = make_sale(_entropy(seed, number), number, seller, buyer, rates=("22", "10"), language="it")
        name = f"{seller.tax_id}_{number.replace('-', '')[:5]}.xml"
        yield _invoice(name, "fatturapa", sale, southern.fatturapa)
    for number, corrects in (("001-002-000000431", None), ("001-002-000000019", "001-002-000000431")):
        sale = make_sale(
            _entropy(seed, number), number, sales.VOLCAN, sales.TORTUGA,
            currency="USD", rates=("15",), corrects=corrects,
        )  # fmt: skip
        start = "notaCredito" if corrects else "factura"
        yield _invoice(f"{start}_{number}.xml", "sri", sale, southern.sri)


def _colombian(seed: int) -> Iterator[Sample]:
    for number in ("FVE5012", "FVE5013"):
        sale = make_sale(
            _entropy(seed, number), number, sales.FARO, sales.CUMBIA,
            currency="COP", rates=("19",), scale=4_000,
        )  # fmt: skip
        yield _invoice(f"fv{number.lower()}.xml", "dian", sale, ubl.dian)


def _facturx(sale: Sale) -> bytes:
    embedded = pdf.Embedded("factur-x.xml", cii.cii(sale))
    return pdf.write_pdf([pdf.invoice_page(sale, "en")], f"Invoice {sale.number}", embedded)


def _printed(sale: Sale, language: str) -> bytes:
    return pdf.write_pdf([pdf.invoice_page(sale, language)], f"{sale.number} - {sale.seller.name}")


def _pdfs(seed: int) -> Iterator[Sample]:
    for number, seller, buyer in (
        ("PC-26-120", sales.PHARE, sales.LUNA),
        ("PC-26-121", sales.PHARE, sales.FINCH),
        ("RE-4473", sales.MOND, sales.NANDU),
    ):
        rates = ("20",) if seller is sales.PHARE else ("19",)
        sale = make_sale(_entropy(seed, number), number, seller, buyer, rates=rates, language="en")
        truth = _told(sale, kind="pdf", attachment="factur-x.xml", dialect="cii")
        yield Sample(f"factur-x {number}.pdf", truth, partial(_facturx, sale))
    for number, seller, language in (
        ("LC-2026-0413", sales.LUNA, "es"),
        ("TB-1188", sales.BRUJULAS, "es"),
        ("HF-20933", sales.FINCH, "en"),
    ):
        currency, rates = ("EUR", ("21", "10")) if language == "es" else ("GBP", ("20",))
        sale = make_sale(
            _entropy(seed, number), number, seller, sales.ONDARRA,
            currency=currency, rates=rates, language=language,
        )  # fmt: skip
        truth = {**_told(sale, kind="pdf", attachment=None), "text": number}
        start = "Factura" if language == "es" else "Invoice"
        yield Sample(f"{start} {number}.pdf", truth, partial(_printed, sale, language))
    yield Sample(
        "Albarán Peñíscola nº 7.pdf",
        {"status": "completed", "kind": "pdf", "attachment": None, "text": "ALBARÁN 7", "pages": 2},
        _delivery_note,
    )


def _delivery_note() -> bytes:
    """Two pages that are no invoice."""
    first = [
        pdf.Text(50, 780, "ALBARÁN 7", 16, bold=True),
        pdf.Text(50, 750, f"{sales.BRUJULAS.name} entrega a {sales.LUNA.name}:"),
        *(pdf.Text(70, 720 - 16 * n, f"Bulto {n}: {12 + n} kg, sin daños visibles") for n in range(1, 25)),
    ]
    second = [
        pdf.Text(50, 780, "Recibí conforme, 12/11/2026", 12),
        pdf.Text(50, 700, "Firma: ____________________"),
    ]
    return pdf.write_pdf([first, second], "Albarán 7")


def _photo(sale: Sale, qr: str | None, entropy: Random, *, turned: bool) -> bytes:
    return pictures.jpeg(pictures.receipt(sale, qr, entropy), turned=turned)


def _screenshot(sale: Sale, qr: str, entropy: Random) -> bytes:
    return pictures.png(pictures.receipt(sale, qr, entropy))


def _pictures(seed: int) -> Iterator[Sample]:
    size = {"status": "completed", "kind": "image", "width": 720, "height": 1_000}
    for name, number, turned in (
        ("IMG_20261105_104233.jpg", "T-5512", False),
        ("IMG_2290.JPG", "T-5513", True),
    ):
        sale = make_sale(_entropy(seed, number), number, sales.LUNA, sales.NANDU)
        qr = pictures.spanish_check_url(sale)
        truth = {**size, "orientation": 6 if turned else 1, "barcodes": [qr]}
        yield Sample(name, truth, partial(_photo, sale, qr, _entropy(seed, name), turned=turned))
    sale = make_sale(
        _entropy(seed, "T-92"), "T-92", sales.NUBE, sales.AJOLOTE, currency="MXN", rates=("16",), scale=20
    )
    qr = pictures.mexican_check_url(sale)
    name = "captura CFDI T-92.png"
    yield Sample(
        name,
        {**size, "orientation": 1, "barcodes": [qr]},
        partial(_screenshot, sale, qr, _entropy(seed, name)),
    )
    name = "mesa sin ticket.jpg"
    truth = {**size, "orientation": 1, "barcodes": []}
    yield Sample(name, truth, lambda: pictures.jpeg(pictures.table_top(_entropy(seed, name))))


def _tables(seed: int) -> Iterator[Sample]:
    for name, rows, language, delimiter, encoding in (
        ("ledger-2026-11.csv", 240, "en", ",", "utf-8"),
        ("libro_facturas_noviembre.csv", 180, "es", ";", "utf-8-sig"),
        ("exportación contable.csv", 320, "es", ";", "cp1252"),
        ("bank-export.tsv", 60, "en", "\t", "utf-8"),
    ):
        truth = {"status": "completed", "kind": "table", "rows": rows, "columns": 6, "delimiter": delimiter}
        make = partial(
            tables.ledger, rows=rows, language=language, delimiter=delimiter, encoding=encoding
        )  # fmt: skip
        yield Sample(name, truth, lambda make=make, name=name: make(_entropy(seed, name)))


def _faults(seed: int) -> Iterator[Sample]:
    sale = make_sale(_entropy(seed, "cut"), "LC-2026-0414", sales.LUNA, sales.NANDU)

    def failed(code: str) -> dict[str, Any]:
        return {"status": "failed", "code": code}

    def rejected(code: str) -> dict[str, Any]:
        return {"status": "rejected", "code": code}

    yield Sample(
        "descarga incompleta.pdf", failed("malformed_pdf"), lambda: faults.cut(_printed(sale, "es"), 0.5)
    )
    yield Sample("catalogo.xml", failed("not_an_invoice"), faults.no_invoice)
    yield Sample("jajaja.xml", failed("dtd_refused"), faults.billion_laughs)
    yield Sample(
        "foto a medias.png",
        failed("truncated_image"),
        lambda: faults.cut(pictures.png(pictures.table_top(_entropy(seed, "cut"))), 0.4),
    )
    yield Sample("factura reenviada.pdf", rejected("type_mismatch"), faults.lying_pdf)
    yield Sample("presupuesto.docx", rejected("unsupported_type"), faults.office_document)
    yield Sample("vacio.csv", rejected("empty_file"), bytes)
