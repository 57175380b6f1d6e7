"""Spain's Facturae 3.2.2, Italy's FatturaPA 1.2 and Ecuador's SRI receipts."""

from decimal import Decimal

from tanda.samples.markup import Markup, document, el
from tanda.samples.sales import Company, Item, Sale
from tanda.samples.tax_ids import access_key

_SIX = Decimal("0.000001")


def facturae(sale: Sale) -> bytes:
    """One invoice; with IRPF where the sale has something withheld."""
    total = el("TotalAmount", sale.total)
    return document(
        el(
            "fe:Facturae",
            el(
                "FileHeader",
                *(el("SchemaVersion", "3.2.2"), el("Modality", "I"), el("InvoiceIssuerType", "EM")),
                el(
                    "Batch",
                    el("BatchIdentifier", sale.seller.tax_id + sale.number),
                    el("InvoicesCount", 1),
                    el("TotalInvoicesAmount", total),
                    el("TotalOutstandingAmount", total),
                    el("TotalExecutableAmount", total),
                    el("InvoiceCurrencyCode", sale.currency),
                ),
            ),
            el("Parties", _spanish("SellerParty", sale.seller), _spanish("BuyerParty", sale.buyer)),
            el("Invoices", _spanish_invoice(sale)),
            attrs={"xmlns:fe": "http://www.facturae.gob.es/formato/Versiones/Facturaev3_2_2.xml"},
        )
    )


def _spanish(name: str, company: Company) -> Markup:
    return el(
        name,
        el(
            "TaxIdentification",
            el("PersonTypeCode", "J"),
            el("ResidenceTypeCode", "R"),
            el("TaxIdentificationNumber", company.tax_id),
        ),
        el(
            "LegalEntity",
            el("CorporateName", company.name),
            el(
                "AddressInSpain",
                el("Address", company.street),
                el("PostCode", company.postcode),
                el("Town", company.city),
                el("Province", company.city),
                el("CountryCode", "ESP"),
            ),
        ),
    )


def _spanish_tax(code: str, rate: Decimal, base: Decimal, tax: Decimal) -> Markup:
    return el(
        "Tax",
        el("TaxTypeCode", code),
        el("TaxRate", f"{rate:.2f}"),
        el("TaxableBase", el("TotalAmount", base)),
        el("TaxAmount", el("TotalAmount", tax)),
    )


def _spanish_invoice(sale: Sale) -> Markup:
    withheld = _spanish_tax("04", sale.withheld_rate, sale.net, sale.withheld)
    return el(
        "Invoice",
        el(
            "InvoiceHeader",
            *(el("InvoiceNumber", sale.number), el("InvoiceDocumentType", "FC"), el("InvoiceClass", "OO")),
        ),
        el(
            "InvoiceIssueData",
            el("IssueDate", sale.day),
            el("InvoiceCurrencyCode", sale.currency),
            el("TaxCurrencyCode", sale.currency),
            el("LanguageName", "es"),
        ),
        el("TaxesOutputs", *(_spanish_tax("01", *row) for row in sale.taxes())),
        el("TaxesWithheld", withheld) if sale.withheld else None,
        el(
            "InvoiceTotals",
            el("TotalGrossAmount", sale.net),
            el("TotalGrossAmountBeforeTaxes", sale.net),
            el("TotalTaxOutputs", sale.tax),
            el("TotalTaxesWithheld", sale.withheld),
            el("InvoiceTotal", sale.total),
            el("TotalOutstandingAmount", sale.total),
            el("TotalExecutableAmount", sale.total),
        ),
        el("Items", *(_spanish_line(item) for item in sale.items)),
        el(
            "PaymentDetails",
            el(
                "Installment",
                el("InstallmentDueDate", sale.due),
                el("InstallmentAmount", sale.total),
                el("PaymentMeans", "04"),
            ),
        ),
    )


def _spanish_line(item: Item) -> Markup:
    return el(
        "InvoiceLine",
        el("ItemDescription", item.description),
        el("Quantity", item.quantity),
        el("UnitOfMeasure", "02" if item.unit == "HUR" else "01"),
        el("UnitPriceWithoutTax", item.price.quantize(_SIX)),
        el("TotalCost", item.net.quantize(_SIX)),
        el("GrossAmount", item.net.quantize(_SIX)),
        el("TaxesOutputs", _spanish_tax("01", item.rate, item.net, item.tax)),
    )


def fatturapa(sale: Sale) -> bytes:
    """One invoice (TD01) between private companies (FPR12)."""
    return document(
        el(
            "p:FatturaElettronica",
            el(
                "FatturaElettronicaHeader",
                el(
                    "DatiTrasmissione",
                    el("IdTrasmittente", el("IdPaese", "IT"), el("IdCodice", sale.seller.tax_id[2:])),
                    el("ProgressivoInvio", f"{sale.day:%d}{len(sale.items)}"),
                    el("FormatoTrasmissione", "FPR12"),
                    el("CodiceDestinatario", "0000000"),
                ),
                el("CedentePrestatore", *_italian(sale.seller, seller=True)),
                el("CessionarioCommittente", *_italian(sale.buyer, seller=False)),
            ),
            el(
                "FatturaElettronicaBody",
                el(
                    "DatiGenerali",
                    el(
                        "DatiGeneraliDocumento",
                        *(el("TipoDocumento", "TD01"), el("Divisa", sale.currency), el("Data", sale.day)),
                        *(el("Numero", sale.number), el("ImportoTotaleDocumento", sale.total)),
                        el("Causale", "Vendita di cancelleria e servizi"),
                    ),
                ),
                el(
                    "DatiBeniServizi",
                    *(_italian_line(number, item) for number, item in enumerate(sale.items, 1)),
                    *(_italian_summary(*row) for row in sale.taxes()),
                ),
                el("DatiPagamento", el("CondizioniPagamento", "TP02"), _italian_payment(sale)),
            ),
            attrs={
                "versione": "FPR12",
                "xmlns:p": "http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2",
            },
        )
    )


def _italian(company: Company, *, seller: bool) -> tuple[Markup, Markup]:
    return (
        el(
            "DatiAnagrafici",
            el("IdFiscaleIVA", el("IdPaese", "IT"), el("IdCodice", company.tax_id[2:])),
            el("Anagrafica", el("Denominazione", company.name)),
            el("RegimeFiscale", "RF01") if seller else None,
        ),
        el(
            "Sede",
            el("Indirizzo", company.street),
            el("CAP", company.postcode),
            el("Comune", company.city),
            el("Nazione", "IT"),
        ),
    )


def _italian_line(number: int, item: Item) -> Markup:
    return el(
        "DettaglioLinee",
        el("NumeroLinea", number),
        el("Descrizione", item.description),
        el("Quantita", f"{item.quantity:.2f}"),
        el("PrezzoUnitario", item.price),
        el("PrezzoTotale", item.net),
        el("AliquotaIVA", f"{item.rate:.2f}"),
    )


def _italian_summary(rate: Decimal, base: Decimal, tax: Decimal) -> Markup:
    return el(
        "DatiRiepilogo",
        el("AliquotaIVA", f"{rate:.2f}"),
        el("ImponibileImporto", base),
        el("Imposta", tax),
        el("EsigibilitaIVA", "I"),
    )


def _italian_payment(sale: Sale) -> Markup:
    return el(
        "DettaglioPagamento",
        el("ModalitaPagamento", "MP05"),
        el("DataScadenzaPagamento", sale.due),
        el("ImportoPagamento", sale.total),
    )


def sri(sale: Sale) -> bytes:
    """An Ecuadorian factura, or a notaCredito where the sale corrects one.

    The number is establishment, till and serial: ``001-002-000000123``.
    """
    note = sale.corrects is not None
    return document(
        el(
            "notaCredito" if note else "factura",
            _issuer(sale, "04" if note else "01"),
            _credit_note(sale) if note else _receipt(sale),
            el("detalles", *(_detail(number, item, note=note) for number, item in enumerate(sale.items, 1))),
            id="comprobante",
            version="1.1.0",
        )
    )


def _issuer(sale: Sale, code: str) -> Markup:
    place, till, serial = sale.number.split("-")
    start = f"{sale.day:%d%m%Y}{code}{sale.seller.tax_id}1{place}{till}{serial}"
    return el(
        "infoTributaria",
        *(el("ambiente", 1), el("tipoEmision", 1), el("razonSocial", sale.seller.name)),
        *(el("ruc", sale.seller.tax_id), el("claveAcceso", access_key(start + "123456781"))),
        *(el("codDoc", code), el("estab", place), el("ptoEmi", till), el("secuencial", serial)),
        el("dirMatriz", sale.seller.street),
    )


def _sri_taxes(sale: Sale) -> Markup:
    return el(
        "totalConImpuestos",
        *(
            el(
                "totalImpuesto",
                *(el("codigo", 2), el("codigoPorcentaje", 4), el("baseImponible", base)),
                el("valor", tax),
            )
            for _, base, tax in sale.taxes()
        ),
    )


def _receipt(sale: Sale) -> Markup:
    return el(
        "infoFactura",
        *(el("fechaEmision", f"{sale.day:%d/%m/%Y}"), el("tipoIdentificacionComprador", "04")),
        el("razonSocialComprador", sale.buyer.name),
        el("identificacionComprador", sale.buyer.tax_id),
        *(el("totalSinImpuestos", sale.net), el("totalDescuento", "0.00"), _sri_taxes(sale)),
        *(el("propina", "0.00"), el("importeTotal", sale.total), el("moneda", "DOLAR")),
    )


def _credit_note(sale: Sale) -> Markup:
    return el(
        "infoNotaCredito",
        *(el("fechaEmision", f"{sale.day:%d/%m/%Y}"), el("tipoIdentificacionComprador", "04")),
        el("razonSocialComprador", sale.buyer.name),
        el("identificacionComprador", sale.buyer.tax_id),
        *(el("codDocModificado", "01"), el("numDocModificado", sale.corrects)),
        el("fechaEmisionDocSustento", f"{sale.day:%d/%m/%Y}"),
        *(el("totalSinImpuestos", sale.net), el("valorModificacion", sale.total), el("moneda", "DOLAR")),
        *(_sri_taxes(sale), el("motivo", "Devolución de mercadería")),
    )


def _detail(number: int, item: Item, *, note: bool) -> Markup:
    return el(
        "detalle",
        el("codigoInterno" if note else "codigoPrincipal", f"P{number:03d}"),
        el("descripcion", item.description),
        *(el("cantidad", f"{item.quantity:.2f}"), el("precioUnitario", item.price)),
        *(el("descuento", "0.00"), el("precioTotalSinImpuesto", item.net)),
        el(
            "impuestos",
            el(
                "impuesto",
                *(el("codigo", 2), el("codigoPorcentaje", 4), el("tarifa", f"{item.rate:.2f}")),
                *(el("baseImponible", item.net), el("valor", item.tax)),
            ),
        ),
    )
