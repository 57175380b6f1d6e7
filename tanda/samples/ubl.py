"""UBL 2.1 invoices and credit notes: Peppol BIS Billing 3, and Colombia's DIAN."""

import hashlib
from decimal import Decimal

from tanda.samples.markup import Markup, document, el
from tanda.samples.sales import Company, Item, Sale
from tanda.samples.tax_ids import nit

_SPACE = "urn:oasis:names:specification:ubl:schema:xsd:"
_PEPPOL = "urn:cen.eu:en16931:2017#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0"
_BILLING = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"


def peppol(sale: Sale) -> bytes:
    """An invoice, or a credit note where the sale corrects one."""
    kind = "CreditNote" if sale.corrects else "Invoice"
    return document(
        el(
            kind,
            el("cbc:CustomizationID", _PEPPOL),
            el("cbc:ProfileID", _BILLING),
            *_head(sale, kind, "381" if sale.corrects else "380"),
            _correction(sale),
            el("cac:AccountingSupplierParty", _party(sale.seller)),
            el("cac:AccountingCustomerParty", _party(sale.buyer)),
            _tax_total(sale, "VAT"),
            _totals(sale),
            *(_line(sale, kind, number, item) for number, item in enumerate(sale.items, 1)),
            attrs=_spaces(kind),
        )
    )


def dian(sale: Sale) -> bytes:
    """A Colombian ``Factura Electrónica de Venta`` with its CUFE."""
    cufe = hashlib.sha384(f"{sale.number}{sale.day}{sale.total}{sale.seller.tax_id}".encode()).hexdigest()
    return document(
        el(
            "Invoice",
            el("cbc:UBLVersionID", "UBL 2.1"),
            el("cbc:CustomizationID", "10"),
            el("cbc:ProfileID", "DIAN 2.1: Factura Electrónica de Venta"),
            el("cbc:ProfileExecutionID", 2),
            el("cbc:ID", sale.number),
            el("cbc:UUID", cufe, schemeID=2, schemeName="CUFE-SHA384"),
            el("cbc:IssueDate", sale.day),
            el("cbc:IssueTime", "10:30:00-05:00"),
            el("cbc:DueDate", sale.due),
            el("cbc:InvoiceTypeCode", "01"),
            el("cbc:DocumentCurrencyCode", sale.currency),
            el("cbc:LineCountNumeric", len(sale.items)),
            el("cac:AccountingSupplierParty", el("cbc:AdditionalAccountID", 1), _colombian(sale.seller)),
            el("cac:AccountingCustomerParty", el("cbc:AdditionalAccountID", 1), _colombian(sale.buyer)),
            _tax_total(sale, "01"),
            _totals(sale),
            *(_line(sale, "Invoice", number, item) for number, item in enumerate(sale.items, 1)),
            attrs={**_spaces("Invoice"), "xmlns:sts": "dian:gov:co:facturaelectronica:Structures-2-1"},
        )
    )


def _spaces(kind: str) -> dict[str, object]:
    return {
        "xmlns": f"{_SPACE}{kind}-2",
        "xmlns:cac": f"{_SPACE}CommonAggregateComponents-2",
        "xmlns:cbc": f"{_SPACE}CommonBasicComponents-2",
    }


def _head(sale: Sale, kind: str, code: str) -> list[Markup | None]:
    return [
        el("cbc:ID", sale.number),
        el("cbc:IssueDate", sale.day),
        None if sale.corrects else el("cbc:DueDate", sale.due),
        el(f"cbc:{kind}TypeCode", code),
        el("cbc:DocumentCurrencyCode", sale.currency),
        el("cbc:BuyerReference", f"PO-{sale.day:%y%m}-{len(sale.items)}"),
    ]


def _correction(sale: Sale) -> Markup | None:
    if sale.corrects is None:
        return None
    return el("cac:BillingReference", el("cac:InvoiceDocumentReference", el("cbc:ID", sale.corrects)))


def _party(company: Company) -> Markup:
    return el(
        "cac:Party",
        el("cac:PartyName", el("cbc:Name", company.name)),
        _address("cac:PostalAddress", company),
        el("cac:PartyTaxScheme", el("cbc:CompanyID", company.vat), el("cac:TaxScheme", el("cbc:ID", "VAT"))),
        el("cac:PartyLegalEntity", el("cbc:RegistrationName", company.name)),
    )


def _colombian(company: Company) -> Markup:
    scheme = {"schemeID": nit(company.tax_id), "schemeName": "31", "schemeAgencyID": "195"}
    return el(
        "cac:Party",
        el("cac:PartyName", el("cbc:Name", company.name)),
        el("cac:PhysicalLocation", _address("cac:Address", company)),
        el(
            "cac:PartyTaxScheme",
            el("cbc:RegistrationName", company.name),
            el("cbc:CompanyID", company.tax_id, attrs={**scheme}),
            el("cac:TaxScheme", el("cbc:ID", "01"), el("cbc:Name", "IVA")),
        ),
    )


def _address(name: str, company: Company) -> Markup:
    return el(
        name,
        el("cbc:StreetName", company.street),
        el("cbc:CityName", company.city),
        el("cbc:PostalZone", company.postcode),
        el("cac:Country", el("cbc:IdentificationCode", company.country)),
    )


def _money(name: str, amount: Decimal, sale: Sale) -> Markup:
    return el(f"cbc:{name}", amount, currencyID=sale.currency)


def _category(name: str, rate: Decimal, scheme: str) -> Markup:
    return el(
        name,
        el("cbc:ID", "S" if rate else "Z"),
        el("cbc:Percent", rate),
        el("cac:TaxScheme", el("cbc:ID", scheme)),
    )


def _tax_total(sale: Sale, scheme: str) -> Markup:
    return el(
        "cac:TaxTotal",
        _money("TaxAmount", sale.tax, sale),
        *(
            el(
                "cac:TaxSubtotal",
                _money("TaxableAmount", base, sale),
                _money("TaxAmount", tax, sale),
                _category("cac:TaxCategory", rate, scheme),
            )
            for rate, base, tax in sale.taxes()
        ),
    )


def _totals(sale: Sale) -> Markup:
    return el(
        "cac:LegalMonetaryTotal",
        _money("LineExtensionAmount", sale.net, sale),
        _money("TaxExclusiveAmount", sale.net, sale),
        _money("TaxInclusiveAmount", sale.total, sale),
        _money("PayableAmount", sale.total, sale),
    )


def _line(sale: Sale, kind: str, number: int, item: Item) -> Markup:
    quantity = "CreditedQuantity" if kind == "CreditNote" else "InvoicedQuantity"
    return el(
        f"cac:{kind}Line",
        el("cbc:ID", number),
        el(f"cbc:{quantity}", item.quantity, unitCode=item.unit),
        _money("LineExtensionAmount", item.net, sale),
        el(
            "cac:Item",
            el("cbc:Name", item.description),
            _category("cac:ClassifiedTaxCategory", item.rate, "VAT"),
        ),
        el("cac:Price", _money("PriceAmount", item.price, sale)),
    )
