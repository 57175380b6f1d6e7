"""Spain's Facturae 3.1 to 3.2.2; one file may carry a batch of invoices."""

from collections.abc import Iterator

from services.worker.processors.dialects.reading import (
    LINES_MAX,
    PROSE_CHARS_MAX,
    amount_at,
    at,
    date_at,
    every,
    every_document,
    first,
    text,
    total_of,
    unique,
)
from services.worker.processors.schema import Document, Kind, Line, Party, Reference, Tax
from services.worker.processors.xml_tree import Element

ROOTS = ("Facturae",)

#: InvoiceClass: O is an original and C a copy; the second letter says what it is.
_KINDS: dict[str, Kind] = {"OR": "corrective_invoice", "CR": "corrective_invoice"}


def read(root: Element) -> list[Document]:
    """Read every invoice of the batch."""
    version = text(root, "FileHeader/SchemaVersion")
    seller, buyer = _party(at(root, "Parties/SellerParty")), _party(at(root, "Parties/BuyerParty"))
    fallback = text(root, "FileHeader/Batch/InvoiceCurrencyCode")
    return [_invoice(e, version, seller, buyer, fallback) for e in every_document(root, "Invoices/Invoice")]


def _invoice(
    invoice: Element, version: str | None, seller: Party, buyer: Party, currency: str | None
) -> Document:
    header, totals = at(invoice, "InvoiceHeader"), at(invoice, "InvoiceTotals")
    code = text(header, "InvoiceClass")
    series, folio = text(header, "InvoiceSeriesCode"), text(header, "InvoiceNumber")
    lines = list(every(invoice, "Items/InvoiceLine"))
    return Document(
        dialect="facturae",
        dialect_version=version,
        profile=text(header, "InvoiceDocumentType"),
        type=code,
        document_kind=_KINDS.get(code or "", "invoice"),
        number="".join(part for part in (series, folio) if part) or None,
        series=series,
        issue_date=date_at(invoice, "InvoiceIssueData/IssueDate"),
        due_date=date_at(invoice, "PaymentDetails/Installment/InstallmentDueDate"),
        seller=seller,
        buyer=buyer,
        currency=first((text(invoice, "InvoiceIssueData/InvoiceCurrencyCode"), currency)),
        net=amount_at(totals, "TotalGrossAmountBeforeTaxes"),
        tax=amount_at(totals, "TotalTaxOutputs"),
        total=amount_at(totals, "InvoiceTotal"),
        payable=amount_at(totals, "TotalExecutableAmount"),
        prepaid=amount_at(totals, "TotalPaymentsOnAccount"),
        withheld=amount_at(totals, "TotalTaxesWithheld"),
        taxes=list(_taxes(invoice)),
        line_count=len(lines),
        lines=[_line(line) for line in lines[:LINES_MAX]],
        references=list(_references(header, lines)),
        note=text(invoice, "AdditionalData/InvoiceAdditionalInformation", PROSE_CHARS_MAX),
    )


def _party(party: Element | None) -> Party:
    legal, person = at(party, "LegalEntity"), at(party, "Individual")
    tax_id = text(party, "TaxIdentification/TaxIdentificationNumber")
    return Party(
        name=first((text(legal, "CorporateName"), _person(person))),
        trade_name=text(legal, "TradeName"),
        tax_id=tax_id,
        ids=unique([tax_id, text(party, "PartyIdentification")]),
        country=first(text(e, "AddressInSpain|OverseasAddress/CountryCode") for e in (legal, person)),
    )


def _person(person: Element | None) -> str | None:
    parts = (text(person, name) for name in ("Name", "FirstSurname", "SecondSurname"))
    return " ".join(part for part in parts if part) or None


def _taxes(invoice: Element) -> Iterator[Tax]:
    for path, withheld in (("TaxesOutputs/Tax", False), ("TaxesWithheld/Tax", True)):
        for row in every(invoice, path):
            yield Tax(
                code=text(row, "TaxTypeCode"),
                rate=amount_at(row, "TaxRate"),
                base=amount_at(row, "TaxableBase/TotalAmount"),
                amount=amount_at(row, "TaxAmount/TotalAmount"),
                withheld=withheld,
            )


def _line(line: Element) -> Line:
    return Line(
        id=first((text(line, "SequenceNumber"), text(line, "ArticleCode"))),
        description=text(line, "ItemDescription", PROSE_CHARS_MAX),
        quantity=amount_at(line, "Quantity"),
        unit=text(line, "UnitOfMeasure"),
        unit_price=amount_at(line, "UnitPriceWithoutTax"),
        net=amount_at(line, "GrossAmount"),
        discount=total_of(
            amount_at(d, "DiscountAmount") for d in every(line, "DiscountsAndRebates/Discount")
        ),
        tax_rate=amount_at(line, "TaxesOutputs/Tax/TaxRate"),
        tax=total_of(amount_at(tax, "TaxAmount/TotalAmount") for tax in every(line, "TaxesOutputs/Tax")),
    )


def _references(header: Element | None, lines: list[Element]) -> Iterator[Reference]:
    corrected = at(header, "Corrective")
    if corrected is not None:
        series, number = text(corrected, "InvoiceSeriesCode"), text(corrected, "InvoiceNumber")
        yield Reference(
            role="preceding",
            number="".join(part for part in (series, number) if part) or None,
            date=date_at(corrected, "InvoiceIssueDate"),
            code=text(corrected, "ReasonCode"),
        )
    for role, name in (("contract", "ReceiverContractReference"), ("order", "ReceiverTransactionReference")):
        for number in unique(text(line, name) for line in lines):
            yield Reference(role=role, number=number)
