"""UN/CEFACT Cross Industry Invoice: Factur-X, ZUGFeRD 1 and 2, XRechnung, EN 16931."""

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
from services.worker.processors.schema import Document, Line, Party, Reference, Tax
from services.worker.processors.xml_tree import Element

#: The second is ZUGFeRD 1's.
ROOTS = ("CrossIndustryInvoice", "CrossIndustryDocument")

_CONTEXT = "ExchangedDocumentContext|SpecifiedExchangedDocumentContext"
_HEADER = "ExchangedDocument|HeaderExchangedDocument"
_DEAL = "SupplyChainTradeTransaction|SpecifiedSupplyChainTradeTransaction"
_AGREEMENT = "ApplicableHeaderTradeAgreement|ApplicableSupplyChainTradeAgreement"
_SETTLEMENT = "ApplicableHeaderTradeSettlement|ApplicableSupplyChainTradeSettlement"
_SUMMATION = "SpecifiedTradeSettlementHeaderMonetarySummation|SpecifiedTradeSettlementMonetarySummation"
_LINE_AGREEMENT = "SpecifiedLineTradeAgreement|SpecifiedSupplyChainTradeAgreement"
_LINE_DELIVERY = "SpecifiedLineTradeDelivery|SpecifiedSupplyChainTradeDelivery"
_LINE_SETTLEMENT = "SpecifiedLineTradeSettlement|SpecifiedSupplyChainTradeSettlement"
_LINE_SUMMATION = "SpecifiedTradeSettlementLineMonetarySummation|SpecifiedTradeSettlementMonetarySummation"
_RATE = "RateApplicablePercent|ApplicablePercent"
_REFERENCES = (
    ("order", _AGREEMENT + "/BuyerOrderReferencedDocument"),
    ("contract", _AGREEMENT + "/ContractReferencedDocument"),
    ("project", _AGREEMENT + "/SpecifiedProcuringProject"),
    ("preceding", _SETTLEMENT + "/InvoiceReferencedDocument"),
)


def read(root: Element) -> list[Document]:
    """Read one CII document."""
    header, deal = at(root, _HEADER), at(root, _DEAL)
    settlement = at(deal, _SETTLEMENT)
    sums = at(settlement, _SUMMATION)
    code = text(header, "TypeCode")
    currency = text(settlement, "InvoiceCurrencyCode")
    lines = list(every(deal, "IncludedSupplyChainTradeLineItem"))
    return [
        Document(
            dialect="cii",
            dialect_version="ZUGFeRD 1" if local(root) == "CrossIndustryDocument" else "D16B",
            profile=text(root, _CONTEXT + "/GuidelineSpecifiedDocumentContextParameter/ID"),
            type=code,
            document_kind=kind_of(code),
            number=text(header, "ID"),
            issue_date=date_at(header, "IssueDateTime/DateTimeString|DateTime"),
            due_date=date_at(
                settlement, "SpecifiedTradePaymentTerms/DueDateDateTime/DateTimeString|DateTime"
            ),
            seller=_party(at(deal, _AGREEMENT + "/SellerTradeParty")),
            buyer=_party(at(deal, _AGREEMENT + "/BuyerTradeParty")),
            currency=currency,
            net=amount_at(sums, "TaxBasisTotalAmount"),
            tax=_tax_total(sums, currency),
            total=amount_at(sums, "GrandTotalAmount"),
            payable=amount_at(sums, "DuePayableAmount"),
            prepaid=amount_at(sums, "TotalPrepaidAmount"),
            taxes=list(_taxes(settlement)),
            line_count=len(lines),
            lines=[_line(line) for line in lines[:LINES_MAX]],
            references=list(_references(deal)),
            note=text(header, "IncludedNote/Content", PROSE_CHARS_MAX),
        )
    ]


def _party(party: Element | None) -> Party:
    numbers = list(every(party, "SpecifiedTaxRegistration/ID"))
    vat = [n for n in numbers if attribute(n, "schemeID") in ("VA", "VAT")]
    tax_id = first(tidy(n.text) for n in vat + numbers)
    own = ("GlobalID", "ID", "SpecifiedLegalOrganization/ID")
    return Party(
        name=text(party, "Name"),
        trade_name=text(party, "SpecifiedLegalOrganization/TradingBusinessName"),
        tax_id=tax_id,
        ids=unique(
            [
                tax_id,
                *(tidy(n.text) for n in numbers),
                *(tidy(e.text) for path in own for e in every(party, path)),
            ]
        ),
        country=text(party, "PostalTradeAddress/CountryID"),
    )


def _tax_total(sums: Element | None, currency: str | None) -> str | None:
    """Return the tax in the invoice's currency; a second total may be in the tax currency."""
    found = list(every(sums, "TaxTotalAmount"))
    ours = [e for e in found if attribute(e, "currencyID") in (currency, None)]
    return first(amount(e.text) for e in ours or found)


def _taxes(settlement: Element | None) -> Iterator[Tax]:
    for row in every(settlement, "ApplicableTradeTax"):
        yield Tax(
            code=first((text(row, "TypeCode"), text(row, "CategoryCode"))),
            rate=amount_at(row, _RATE),
            base=amount_at(row, "BasisAmount"),
            amount=amount_at(row, "CalculatedAmount"),
        )


def _line(line: Element) -> Line:
    settlement = at(line, _LINE_SETTLEMENT)
    quantity = at(line, _LINE_DELIVERY + "/BilledQuantity")
    return Line(
        id=text(line, "AssociatedDocumentLineDocument/LineID"),
        description=first(
            (
                text(line, "SpecifiedTradeProduct/Name", PROSE_CHARS_MAX),
                text(line, "SpecifiedTradeProduct/Description", PROSE_CHARS_MAX),
                text(line, "AssociatedDocumentLineDocument/IncludedNote/Content", PROSE_CHARS_MAX),
            )
        ),
        quantity=None if quantity is None else amount(quantity.text),
        unit=attribute(quantity, "unitCode"),
        unit_price=amount_at(line, _LINE_AGREEMENT + "/NetPriceProductTradePrice/ChargeAmount"),
        net=amount_at(settlement, _LINE_SUMMATION + "/LineTotalAmount"),
        discount=_discount(settlement),
        tax_rate=amount_at(settlement, "ApplicableTradeTax/" + _RATE),
        tax=amount_at(settlement, "ApplicableTradeTax/CalculatedAmount"),
    )


def _discount(settlement: Element | None) -> str | None:
    found = every(settlement, "SpecifiedTradeAllowanceCharge")
    allowances = (a for a in found if text(a, "ChargeIndicator/Indicator") == "false")
    return total_of(amount_at(allowance, "ActualAmount") for allowance in allowances)


def _references(deal: Element | None) -> Iterator[Reference]:
    for role, path in _REFERENCES:
        for found in every(deal, path):
            yield Reference(
                role=role,
                number=text(found, "IssuerAssignedID|ID"),
                date=date_at(found, "FormattedIssueDateTime/DateTimeString"),
                code=text(found, "TypeCode"),
            )
