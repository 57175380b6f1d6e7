"""UN/CEFACT Cross Industry Invoices, as files and as the XML inside Factur-X."""

from datetime import date
from decimal import Decimal

from tanda.samples.markup import Markup, document, el
from tanda.samples.sales import Company, Item, Sale

_SPACE = "urn:un:unece:uncefact:data:standard:"
EN16931 = "urn:cen.eu:en16931:2017"


def cii(sale: Sale, profile: str = EN16931) -> bytes:
    """One invoice (type 380), or a credit note (381) where the sale corrects one."""
    return document(
        el(
            "rsm:CrossIndustryInvoice",
            el(
                "rsm:ExchangedDocumentContext",
                el("ram:GuidelineSpecifiedDocumentContextParameter", el("ram:ID", profile)),
            ),
            el(
                "rsm:ExchangedDocument",
                el("ram:ID", sale.number),
                el("ram:TypeCode", "381" if sale.corrects else "380"),
                el("ram:IssueDateTime", _day(sale.day)),
            ),
            el(
                "rsm:SupplyChainTradeTransaction",
                *(_line(number, item) for number, item in enumerate(sale.items, 1)),
                el(
                    "ram:ApplicableHeaderTradeAgreement",
                    _party("ram:SellerTradeParty", sale.seller),
                    _party("ram:BuyerTradeParty", sale.buyer),
                ),
                el("ram:ApplicableHeaderTradeDelivery"),
                _settlement(sale),
            ),
            attrs={
                "xmlns:rsm": f"{_SPACE}CrossIndustryInvoice:100",
                "xmlns:ram": f"{_SPACE}ReusableAggregateBusinessInformationEntity:100",
                "xmlns:udt": f"{_SPACE}UnqualifiedDataType:100",
            },
        )
    )


def _day(day: date) -> Markup:
    return el("udt:DateTimeString", f"{day:%Y%m%d}", format="102")


def _party(name: str, company: Company) -> Markup:
    return el(
        name,
        el("ram:Name", company.name),
        el(
            "ram:PostalTradeAddress",
            el("ram:PostcodeCode", company.postcode),
            el("ram:LineOne", company.street),
            el("ram:CityName", company.city),
            el("ram:CountryID", company.country),
        ),
        el("ram:SpecifiedTaxRegistration", el("ram:ID", company.vat, schemeID="VA")),
    )


def _tax(rate: Decimal, base: Decimal | None = None, tax: Decimal | None = None) -> Markup:
    return el(
        "ram:ApplicableTradeTax",
        None if tax is None else el("ram:CalculatedAmount", tax),
        el("ram:TypeCode", "VAT"),
        None if base is None else el("ram:BasisAmount", base),
        el("ram:CategoryCode", "S" if rate else "Z"),
        el("ram:RateApplicablePercent", rate),
    )


def _line(number: int, item: Item) -> Markup:
    return el(
        "ram:IncludedSupplyChainTradeLineItem",
        el("ram:AssociatedDocumentLineDocument", el("ram:LineID", number)),
        el("ram:SpecifiedTradeProduct", el("ram:Name", item.description)),
        el(
            "ram:SpecifiedLineTradeAgreement",
            el("ram:NetPriceProductTradePrice", el("ram:ChargeAmount", item.price)),
        ),
        el("ram:SpecifiedLineTradeDelivery", el("ram:BilledQuantity", item.quantity, unitCode=item.unit)),
        el(
            "ram:SpecifiedLineTradeSettlement",
            _tax(item.rate),
            el("ram:SpecifiedTradeSettlementLineMonetarySummation", el("ram:LineTotalAmount", item.net)),
        ),
    )


def _settlement(sale: Sale) -> Markup:
    return el(
        "ram:ApplicableHeaderTradeSettlement",
        el("ram:InvoiceCurrencyCode", sale.currency),
        *(_tax(rate, base, tax) for rate, base, tax in sale.taxes()),
        el("ram:SpecifiedTradePaymentTerms", el("ram:DueDateDateTime", _day(sale.due))),
        el(
            "ram:SpecifiedTradeSettlementHeaderMonetarySummation",
            el("ram:LineTotalAmount", sale.net),
            el("ram:TaxBasisTotalAmount", sale.net),
            el("ram:TaxTotalAmount", sale.tax, currencyID=sale.currency),
            el("ram:GrandTotalAmount", sale.total),
            el("ram:DuePayableAmount", sale.total),
        ),
        None
        if sale.corrects is None
        else el("ram:InvoiceReferencedDocument", el("ram:IssuerAssignedID", sale.corrects)),
    )
