"""Delimited exports as bookkeeping programs and banks write them."""

import csv
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from random import Random

from tanda.samples.sales import BRUJULAS, FINCH, LUNA, NANDU, ONDARRA, PHARE

_HEADERS = {
    "es": ("Fecha", "Nº factura", "Cliente", "Base", "IVA", "Total"),
    "en": ("Date", "Invoice no.", "Customer", "Net", "VAT", "Total"),
}
_CUSTOMERS = (LUNA, BRUJULAS, NANDU, ONDARRA, FINCH, PHARE)


def ledger(entropy: Random, rows: int, *, language: str, delimiter: str, encoding: str) -> bytes:
    """An invoice ledger: one header and ``rows`` records, amounts with a comma in Spanish."""
    out = StringIO(newline="")
    table = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    table.writerow(_HEADERS[language])
    table.writerows(_row(entropy, number, language) for number in range(1, rows + 1))
    return out.getvalue().encode(encoding)


def _row(entropy: Random, number: int, language: str) -> list[str]:
    day = date(2026, 11, 1) + timedelta(days=entropy.randint(0, 19))
    net = Decimal(entropy.randint(10, 4_000))
    tax = net * 21 / 100
    shown = [f"{amount:.2f}" for amount in (net, tax, net + tax)]
    if language == "es":
        shown = [amount.replace(".", ",") for amount in shown]
    written = f"{day:%d/%m/%Y}" if language == "es" else day.isoformat()
    return [written, f"A-{number:04d}", entropy.choice(_CUSTOMERS).name, *shown]
