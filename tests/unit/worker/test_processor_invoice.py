"""E-invoices of seven dialects become one schema; hostile XML becomes a sentence."""

import html
from pathlib import Path
from typing import Any

import pytest

from services.worker.processors.dialects.reading import amount, date, percent
from tanda.contracts.results import Failure, Result
from tests.processing import process

UBL = "urn:oasis:names:specification:ubl:schema:xsd"
CAC = f'xmlns:cac="{UBL}:CommonAggregateComponents-2" xmlns:cbc="{UBL}:CommonBasicComponents-2"'


def ubl(body: str = "", root: str = "Invoice") -> str:
    return f'<{root} xmlns="{UBL}:{root}-2" {CAC}>{body}</{root}>'


def cfdi(inner: str = "", **attributes: str) -> str:
    written = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return (
        f'<c:Comprobante xmlns:c="http://www.sat.gob.mx/cfd/4" Version="4.0"{written}>{inner}</c:Comprobante>'
    )


def sri(root: str = "factura", currency: str = "DOLAR") -> str:
    return (
        f'<{root} id="comprobante" version="1.1.0"><infoTributaria><razonSocial>ACME</razonSocial>'
        "<ruc>17</ruc><claveAcceso>0102</claveAcceso><codDoc>01</codDoc><estab>001</estab><ptoEmi>002</ptoEmi>"
        "<secuencial>000000009</secuencial></infoTributaria><infoFactura><fechaEmision>05/02/2024</fechaEmision>"
        "<totalSinImpuestos>10.00</totalSinImpuestos><importeTotal>11.50</importeTotal>"
        f"<moneda>{currency}</moneda></infoFactura></{root}>"
    )


def data_of(folder: Path, xml: str | bytes) -> dict[str, Any]:
    outcome = process("invoice", folder, xml.encode() if isinstance(xml, str) else xml)
    assert isinstance(outcome, Result), outcome
    return outcome.data


def failure_of(folder: Path, xml: str | bytes) -> Failure:
    outcome = process("invoice", folder, xml.encode() if isinstance(xml, str) else xml)
    assert isinstance(outcome, Failure), outcome
    return outcome


def test_zero_is_not_missing(tmp_path: Path) -> None:
    """A number "0" and amounts of zero survive; what is absent is null."""
    data = data_of(
        tmp_path,
        ubl(
            "<cbc:ID>0</cbc:ID><cac:LegalMonetaryTotal><cbc:TaxInclusiveAmount>0.00</cbc:TaxInclusiveAmount>"
            "</cac:LegalMonetaryTotal>"
        ),
    )
    assert (data["number"], data["total"], data["payable"], data["lines"]) == ("0", "0.00", None, [])


def test_the_vat_number_goes_before_other_ids(tmp_path: Path) -> None:
    """A local tax number, a VAT id and a register number: the VAT id is the tax id, and all are kept."""
    scheme = (
        "<cac:PartyTaxScheme><cbc:CompanyID>{}</cbc:CompanyID>"
        "<cac:TaxScheme><cbc:ID>{}</cbc:ID></cac:TaxScheme></cac:PartyTaxScheme>"
    )
    data = data_of(
        tmp_path,
        ubl(
            "<cac:AccountingSupplierParty><cac:Party><cac:PartyName><cbc:Name>Trade</cbc:Name></cac:PartyName>"
            + scheme.format("201/113", "FC")
            + scheme.format("DE1", "VAT")
            + "<cac:PartyLegalEntity><cbc:RegistrationName>Legal</cbc:RegistrationName>"
            "<cbc:CompanyID>HRB 7</cbc:CompanyID></cac:PartyLegalEntity></cac:Party>"
            "</cac:AccountingSupplierParty>"
        ),
    )
    assert data["seller"] == {
        "name": "Legal",
        "trade_name": "Trade",
        "tax_id": "DE1",
        "ids": ["DE1", "201/113", "HRB 7"],
        "country": None,
    }


@pytest.mark.parametrize(
    ("root", "code", "kind"),
    [
        ("Invoice", "<cbc:InvoiceTypeCode>380</cbc:InvoiceTypeCode>", "invoice"),
        ("Invoice", "<cbc:InvoiceTypeCode>384</cbc:InvoiceTypeCode>", "corrective_invoice"),
        ("CreditNote", "", "credit_note"),
        ("DebitNote", "", "debit_note"),
    ],
)
def test_the_kind_comes_from_code_or_root(tmp_path: Path, root: str, code: str, kind: str) -> None:
    """A note is a note even where it has no type code."""
    assert data_of(tmp_path, ubl(code, root))["document_kind"] == kind


def test_tax_in_another_currency_is_not_added(tmp_path: Path) -> None:
    """EN 16931 repeats the tax total in the tax currency."""
    totals = "".join(
        f'<cac:TaxTotal><cbc:TaxAmount currencyID="{c}">{a}</cbc:TaxAmount></cac:TaxTotal>'
        for c, a in (("EUR", "19.00"), ("DKK", "141.60"))
    )
    xml = ubl(f"<cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode>{totals}")
    assert data_of(tmp_path, xml)["tax"] == "19.00"


def test_zugferd_1_is_read_like_its_successors(tmp_path: Path) -> None:
    """The elements have other names and the same meaning."""
    data = data_of(
        tmp_path,
        '<r:CrossIndustryDocument xmlns:r="urn:ferd:CrossIndustryDocument:invoice:1p0">'
        "<r:HeaderExchangedDocument><ID>R1</ID><TypeCode>380</TypeCode><IssueDateTime>"
        '<DateTimeString format="102">20130305</DateTimeString></IssueDateTime></r:HeaderExchangedDocument>'
        "<r:SpecifiedSupplyChainTradeTransaction><ApplicableSupplyChainTradeSettlement>"
        "<InvoiceCurrencyCode>EUR</InvoiceCurrencyCode><SpecifiedTradeSettlementMonetarySummation>"
        "<GrandTotalAmount>235.62</GrandTotalAmount></SpecifiedTradeSettlementMonetarySummation>"
        "</ApplicableSupplyChainTradeSettlement><IncludedSupplyChainTradeLineItem/>"
        "</r:SpecifiedSupplyChainTradeTransaction></r:CrossIndustryDocument>",
    )
    assert [data[name] for name in ("dialect", "number", "issue_date", "total", "line_count")] == [
        "cii",
        "R1",
        "2013-03-05",
        "235.62",
        1,
    ]


def test_a_cfdi_joins_series_and_folio(tmp_path: Path) -> None:
    """Either may be missing; with neither there is no number."""
    assert data_of(tmp_path, cfdi(Serie="A", Folio="007"))["number"] == "A007"
    assert data_of(tmp_path, cfdi(Folio="0"))["number"] == "0"
    outcome = process("invoice", tmp_path, cfdi().encode())
    assert isinstance(outcome, Result)
    assert outcome.data["number"] is None
    assert "no_number" in outcome.warnings


def test_a_payment_receipt_names_what_it_paid(tmp_path: Path) -> None:
    """The receipt's total is 0 in currency XXX; the money is in the complement."""
    pagos = (
        '<c:Complemento><p:Pagos xmlns:p="http://www.sat.gob.mx/Pagos20">'
        '<p:Pago FechaPago="2023-06-12T17:18:19" FormaDePagoP="03" MonedaP="MXN" Monto="15000.00">'
        '<p:DoctoRelacionado IdDocumento="U-1" Folio="9"/></p:Pago></p:Pagos></c:Complemento>'
    )
    data = data_of(tmp_path, cfdi(pagos, TipoDeComprobante="P", Moneda="XXX", Total="0"))
    assert (data["document_kind"], data["total"], data["currency"]) == ("payment_receipt", "0", "XXX")
    assert data["payments"] == [
        {
            **{"date": "2023-06-12", "amount": "15000.00", "currency": "MXN", "method": "03"},
            "references": [{"role": "related", "number": "9", "date": None, "uuid": "U-1", "code": None}],
        }
    ]


def test_facturae_and_fatturapa_carry_several_invoices(tmp_path: Path) -> None:
    """The first one's fields are the file's, and all are listed."""
    facturae = (
        '<f:Facturae xmlns:f="http://www.facturae.gob.es/formato/Versiones/Facturaev3_2_2.xml"><Invoices>'
        + "".join(
            f"<Invoice><InvoiceHeader><InvoiceNumber>{n}</InvoiceNumber><InvoiceSeriesCode>S</InvoiceSeriesCode>"
            "</InvoiceHeader></Invoice>"
            for n in (1, 2)
        )
        + "</Invoices></f:Facturae>"
    )
    data = data_of(tmp_path, facturae)
    assert (data["number"], data["document_count"]) == ("S1", 2)
    assert [document["number"] for document in data["documents"]] == ["S1", "S2"]
    body = (
        "<FatturaElettronicaBody><DatiGenerali><DatiGeneraliDocumento><Numero>{}</Numero>"
        "</DatiGeneraliDocumento></DatiGenerali><DatiPagamento><DettaglioPagamento><ImportoPagamento>10.10"
        "</ImportoPagamento></DettaglioPagamento><DettaglioPagamento><ImportoPagamento>0.05</ImportoPagamento>"
        "</DettaglioPagamento></DatiPagamento></FatturaElettronicaBody>"
    )
    data = data_of(
        tmp_path, f'<p:FatturaElettronica xmlns:p="x">{body.format(5)}{body.format(6)}</p:FatturaElettronica>'
    )
    assert [document["number"] for document in data["documents"]] == ["5", "6"]
    assert data["payable"] == "10.15"


def test_a_batch_has_a_limit(tmp_path: Path) -> None:
    """A thousand invoices are a file; more are asked for in several."""
    batch = '<f:Facturae xmlns:f="x"><Invoices>' + "<Invoice/>" * 1_001 + "</Invoices></f:Facturae>"
    assert failure_of(tmp_path, batch).code == "too_many_invoices"


def test_lines_are_counted_and_bounded(tmp_path: Path) -> None:
    """A result keeps 5,000 lines and says so."""
    outcome = process("invoice", tmp_path, ubl("<cac:InvoiceLine/>" * 5_001).encode())
    assert isinstance(outcome, Result)
    assert (outcome.data["line_count"], len(outcome.data["lines"])) == (5_001, 5_000)
    assert "lines_truncated" in outcome.warnings


def test_ecuador_writes_day_first_and_dolar(tmp_path: Path) -> None:
    """05/02/2024 is the fifth of February."""
    data = data_of(tmp_path, sri())
    assert [data[n] for n in ("number", "issue_date", "currency", "total", "uuid")] == [
        *("001-002-000000009", "2024-02-05", "USD"),
        *("11.50", "0102"),
    ]


def test_envelopes_are_opened(tmp_path: Path) -> None:
    """SRI's authorisation and DIAN's AttachedDocument carry the invoice as text, declaration and all."""
    inner = f'<?xml version="1.0" encoding="ISO-8859-1"?>{sri()}'
    wrapped = f"<autorizacion><comprobante><![CDATA[{inner}]]></comprobante></autorizacion>"
    assert data_of(tmp_path, wrapped)["number"] == "001-002-000000009"
    document = ubl("<cbc:ProfileID>DIAN 2.1</cbc:ProfileID><cbc:ID>SETP1</cbc:ID><cbc:UUID>cufe</cbc:UUID>")
    attached = ubl(
        "<cbc:ID>9</cbc:ID><cac:Attachment><cac:ExternalReference><cbc:Description>"
        + html.escape(document)
        + "</cbc:Description></cac:ExternalReference></cac:Attachment>",
        "AttachedDocument",
    )
    data = data_of(tmp_path, attached)
    assert (data["dialect"], data["number"], data["uuid"]) == ("dian", "SETP1", "cufe")
    assert failure_of(tmp_path, ubl("", "AttachedDocument")).code == "not_an_invoice"


def test_an_envelope_hides_no_doctype(tmp_path: Path) -> None:
    """What is unwrapped meets the same parser."""
    inner = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><factura>&e;</factura>'
    wrapped = f"<autorizacion><comprobante><![CDATA[{inner}]]></comprobante></autorizacion>"
    assert failure_of(tmp_path, wrapped).code == "dtd_refused"


def test_something_else_is_named(tmp_path: Path) -> None:
    """The failure says what the root element is."""
    failure = failure_of(tmp_path, '<rss xmlns="urn:x"><channel/></rss>')
    assert failure.code == "not_an_invoice"
    assert "<rss xmlns=urn:x>" in failure.message


HOSTILE = {
    "entities": '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><a>&b;</a>',
    "external entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "external subset": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><a/>',
    "parameter entity": '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]><a/>',
    "after comments": "<?xml version='1.0'?>\n<!-- a --> <?pi b?>\n<!DOCTYPE a><a/>",
    "after a long comment": f"<!--{'x' * 1_500_000}--><!DOCTYPE a [<!ENTITY e 'v'>]><a>&e;</a>",
    "lower case": "<!doctype html><a/>",
}


@pytest.mark.parametrize("xml", HOSTILE.values(), ids=HOSTILE)
def test_a_document_type_declaration_ends_it(tmp_path: Path, xml: str) -> None:
    """Wherever it stands and whatever it declares; a lower-case one is no XML at all."""
    assert failure_of(tmp_path, xml).code in ("dtd_refused", "malformed_xml")
    if "DOCTYPE" in xml:
        assert failure_of(tmp_path, xml.encode("utf-16")).code == "dtd_refused"


@pytest.mark.parametrize(
    ("xml", "code"),
    [
        (b"<a>" * 201 + b"</a>" * 201, "xml_too_deep"),
        (b"<a>" * 200_000, "xml_too_deep"),
        (b"<a " + b" ".join(b'a%d=""' % n for n in range(1_001)) + b"/>", "too_many_attributes"),
        (b"<a>" + b"x" * 11_000_000 + b"</a>", "xml_too_large"),
        (b'<?xml version="1.0" encoding="UTF-7"?><a/>', "unsupported_encoding"),
        ("<?xml version='1.0'?><a/>".encode("cp037"), "unsupported_encoding"),
        ("<a/>".encode("utf-32"), "unsupported_encoding"),
        (b"\xff\xfe<\x00a", "malformed_xml"),
        (b"<a><b></a>", "malformed_xml"),
        (b"<a>&undefined;</a>", "malformed_xml"),
        (b"<a", "malformed_xml"),
        (b"\xef\xbb\xbf", "malformed_xml"),
        (b"   ", "empty_file"),
    ],
)
def test_hostile_xml_gets_a_code(tmp_path: Path, xml: bytes, code: str) -> None:
    """Each limit has a name, and each message is a sentence."""
    failure = failure_of(tmp_path, xml)
    assert failure.code == code
    assert failure.message.endswith(".")


def test_malformed_xml_names_the_line(tmp_path: Path) -> None:
    """The reason is the parser's, without a path."""
    assert "line 3" in failure_of(tmp_path, "<a>\n<b>\n</a>").message


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *(("4675", "4675"), (" -0.50 ", "-0.50"), ("+7", "7"), ("1E3", "1000"), (".5", "0.5"), ("0", "0")),
        *((None, None), ("", None), ("1,5", None), ("NaN", None), ("1_000", None), ("1e999", None)),
        ("٣", None),
    ],
)
def test_an_amount_is_plain_or_null(written: str | None, read: str | None) -> None:
    """The source's precision stays; what is no number becomes null."""
    assert amount(written) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *(
            ("2021-01-13T10:00:00", "2021-01-13"),
            ("2019-09-23+02:00", "2019-09-23"),
            ("20130305", "2013-03-05"),
        ),
        *(("201303051200", "2013-03-05"), ("18/04/2024", "2024-04-18"), ("2021-02-30", None), ("soon", None)),
    ],
)
def test_a_date_is_iso_or_null(written: str, read: str | None) -> None:
    """An impossible date is null, not an error."""
    assert date(written) == read


def test_a_fraction_becomes_per_cent() -> None:
    """CFDI writes 0.160000 for 16 %."""
    assert percent("0.160000") == "16.0000"
