"""UBL 2.x Invoice, CreditNote and DebitNote, and Colombia's DIAN flavour of them."""

from collections.abc import Iterator

from services.worker.processors.dialects.reading import (
    LINES_MAX,
    PROSE_CHARS_MAX,
    amount,
    amount_at,
    at,
    attribute,
    date_at,
    every,
    first,
    local,
    text,
    tidy,
    total_of,
    unique,
)
from services.worker.processors.dialects.untdid import kind_of
from services.worker.processors.schema import Document, Kind, Line, Party, Reference, Tax
from services.worker.processors.xml_tree import Element

NAMESPACE = "urn:oasis:names:specification:ubl:schema:xsd:"
ROOTS = ("Invoice", "CreditNote", "DebitNote")

_LINE = "InvoiceLine|CreditNoteLine|DebitNoteLine"
_QUANTITY = "InvoicedQuantity|CreditedQuantity|DebitedQuantity"
_TOTALS = "LegalMonetaryTotal|RequestedMonetaryTotal"
_REFERENCES = (
    ("preceding", "BillingReference/InvoiceDocumentReference|CreditNoteDocumentReference"),
    ("order", "OrderReference"),
    ("contract", "ContractDocumentReference"),
    ("despatch", "DespatchDocumentReference"),
    ("project", "ProjectReference"),
)


def read(root: Element) -> list[Document]:
    """Read one UBL document."""
    currency = text(root, "DocumentCurrencyCode")
    totals = at(root, _TOTALS)
    code = _type_code(root)
    lines = list(every(root, _LINE))
    return [
        Document(
            dialect="dian" if _is_dian(root) else "ubl",
            dialect_version=text(root, "UBLVersionID"),
            profile=first((text(root, "CustomizationID"), text(root, "ProfileID"))),
            type=code,
            document_kind=kind_of(code, _kind_of_root(root)),
            number=text(root, "ID"),
            issue_date=date_at(root, "IssueDate"),
            due_date=first((date_at(root, "DueDate"), date_at(root, "PaymentMeans/PaymentDueDate"))),
            seller=_party(at(root, "AccountingSupplierParty/Party")),
            buyer=_party(at(root, "AccountingCustomerParty/Party")),
            currency=currency,
            net=amount_at(totals, "TaxExclusiveAmount"),
            tax=_tax_total(root, "TaxTotal", currency),
            total=amount_at(totals, "TaxInclusiveAmount"),
            payable=amount_at(totals, "PayableAmount"),
            prepaid=amount_at(totals, "PrepaidAmount"),
            withheld=_tax_total(root, "WithholdingTaxTotal", currency),
            uuid=text(root, "UUID"),
            taxes=list(_taxes(root)),
            line_count=len(lines),
            lines=[_line(line) for line in lines[:LINES_MAX]],
            references=list(_references(root)),
            note=text(root, "Note", PROSE_CHARS_MAX),
        )
    ]


def _type_code(root: Element) -> str | None:
    code = text(root, "InvoiceTypeCode|CreditNoteTypeCode|DebitNoteTypeCode")
    # Colombia's DebitNote has no type code of its own; the annex lists it as 92.
    return "92" if code is None and local(root) == "DebitNote" and _is_dian(root) else code


def _is_dian(root: Element) -> bool:
    names = (uri for uri in root.nsmap.values() if uri)
    return "DIAN" in (text(root, "ProfileID") or "") or any("dian" in uri and "gov" in uri for uri in names)


def _kind_of_root(root: Element) -> Kind:
    kinds: dict[str, Kind] = {"CreditNote": "credit_note", "DebitNote": "debit_note"}
    return kinds.get(local(root), "invoice")


def _party(party: Element | None) -> Party:
    legal = text(party, "PartyLegalEntity/RegistrationName")
    registered = text(party, "PartyTaxScheme/RegistrationName")
    trade = text(party, "PartyName/Name")
    tax_id = _tax_id(party)
    return Party(
        name=first((legal, registered, trade, _person(party))),
        trade_name=trade,
        tax_id=tax_id,
        ids=unique(
            [
                tax_id,
                *(tidy(e.text) for e in every(party, "PartyTaxScheme/CompanyID")),
                *(tidy(e.text) for e in every(party, "PartyIdentification/ID")),
                *(tidy(e.text) for e in every(party, "PartyLegalEntity/CompanyID")),
                # Peppol's address; an e-mail address there identifies nobody.
                *(tidy(e.text) for e in every(party, "EndpointID") if attribute(e, "schemeID") != "EM"),
            ]
        ),
        country=first(
            (
                text(party, "PostalAddress/Country/IdentificationCode"),
                text(party, "PhysicalLocation/Address/Country/IdentificationCode"),
            )
        ),
    )


def _person(party: Element | None) -> str | None:
    parts = (text(party, "Person/FirstName"), text(party, "Person/FamilyName"))
    return " ".join(part for part in parts if part) or None


def _tax_id(party: Element | None) -> str | None:
    """Prefer the VAT number to a local tax number."""
    schemes = list(every(party, "PartyTaxScheme"))
    vat = [s for s in schemes if text(s, "TaxScheme/ID") in ("VAT", "VA", "GST")]
    return first(text(scheme, "CompanyID") for scheme in vat + schemes)


def _tax_total(root: Element, name: str, currency: str | None) -> str | None:
    """Add the totals in the document's currency: DIAN has one per tax, EN 16931 one per currency."""
    found = list(every(root, f"{name}/TaxAmount"))
    ours = [e for e in found if attribute(e, "currencyID") in (currency, None)]
    return total_of(amount(e.text) for e in ours)


def _taxes(root: Element) -> Iterator[Tax]:
    for name, withheld in (("TaxTotal", False), ("WithholdingTaxTotal", True)):
        for row in every(root, f"{name}/TaxSubtotal"):
            yield Tax(
                code=first((text(row, "TaxCategory/TaxScheme/ID"), text(row, "TaxCategory/ID"))),
                rate=first((amount_at(row, "TaxCategory/Percent"), amount_at(row, "Percent"))),
                base=amount_at(row, "TaxableAmount"),
                amount=amount_at(row, "TaxAmount"),
                withheld=withheld,
            )


def _line(line: Element) -> Line:
    quantity = at(line, _QUANTITY)
    return Line(
        id=text(line, "ID"),
        description=first(
            (text(line, "Item/Name", PROSE_CHARS_MAX), text(line, "Item/Description", PROSE_CHARS_MAX))
        ),
        quantity=None if quantity is None else amount(quantity.text),
        unit=attribute(quantity, "unitCode"),
        unit_price=amount_at(line, "Price/PriceAmount"),
        net=amount_at(line, "LineExtensionAmount"),
        discount=_discount(line),
        tax_rate=first(
            (
                amount_at(line, "Item/ClassifiedTaxCategory/Percent"),
                amount_at(line, "TaxTotal/TaxSubtotal/TaxCategory/Percent"),
            )
        ),
        tax=total_of(amount(e.text) for e in every(line, "TaxTotal/TaxAmount")),
    )


def _discount(line: Element) -> str | None:
    allowances = (a for a in every(line, "AllowanceCharge") if text(a, "ChargeIndicator") == "false")
    return total_of(amount_at(allowance, "Amount") for allowance in allowances)


def _references(root: Element) -> Iterator[Reference]:
    for role, path in _REFERENCES:
        for found in every(root, path):
            yield Reference(
                role=role,
                number=text(found, "ID"),
                date=date_at(found, "IssueDate"),
                uuid=text(found, "UUID"),
                code=text(found, "DocumentTypeCode"),
            )
