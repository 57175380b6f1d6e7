"""Italy's FatturaPA 1.2 (FPA12, FPR12); one file may carry several bodies under one header."""

from collections.abc import Iterator

from services.worker.processors.dialects.reading import (
    LINES_MAX,
    PROSE_CHARS_MAX,
    amount_at,
    at,
    attribute,
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

ROOTS = ("FatturaElettronica",)

_KINDS: dict[str, Kind] = {
    "TD02": "prepayment_invoice",
    "TD03": "prepayment_invoice",
    "TD04": "credit_note",
    "TD05": "debit_note",
    "TD08": "credit_note",
    "TD09": "debit_note",
    **dict.fromkeys(("TD16", "TD17", "TD18", "TD19", "TD20", "TD21", "TD27"), "self_billed_invoice"),
}
_REFERENCES = (
    ("order", "DatiOrdineAcquisto"),
    ("contract", "DatiContratto"),
    ("related", "DatiConvenzione"),
    ("preceding", "DatiFattureCollegate"),
)


def read(root: Element) -> list[Document]:
    """Read every body."""
    header = at(root, "FatturaElettronicaHeader")
    version = first((attribute(root, "versione"), text(header, "DatiTrasmissione/FormatoTrasmissione")))
    seller = _party(at(header, "CedentePrestatore"))
    buyer = _party(at(header, "CessionarioCommittente"))
    return [_body(body, version, seller, buyer) for body in every_document(root, "FatturaElettronicaBody")]


def _body(body: Element, version: str | None, seller: Party, buyer: Party) -> Document:
    general = at(body, "DatiGenerali/DatiGeneraliDocumento")
    code = text(general, "TipoDocumento")
    summary = list(every(body, "DatiBeniServizi/DatiRiepilogo"))
    payments = list(every(body, "DatiPagamento/DettaglioPagamento"))
    lines = list(every(body, "DatiBeniServizi/DettaglioLinee"))
    return Document(
        dialect="fatturapa",
        dialect_version=version,
        type=code,
        document_kind=_KINDS.get(code or "", "invoice"),
        number=text(general, "Numero"),
        issue_date=date_at(general, "Data"),
        due_date=first(date_at(payment, "DataScadenzaPagamento") for payment in payments),
        seller=seller,
        buyer=buyer,
        currency=text(general, "Divisa"),
        net=total_of(amount_at(row, "ImponibileImporto") for row in summary),
        tax=total_of(amount_at(row, "Imposta") for row in summary),
        total=amount_at(general, "ImportoTotaleDocumento"),
        payable=total_of(amount_at(payment, "ImportoPagamento") for payment in payments),
        withheld=total_of(amount_at(row, "ImportoRitenuta") for row in every(general, "DatiRitenuta")),
        taxes=[*_taxes(summary), *_withheld(general)],
        line_count=len(lines),
        lines=[_line(line) for line in lines[:LINES_MAX]],
        references=list(_references(body)),
        note=text(general, "Causale", PROSE_CHARS_MAX),
    )


def _party(party: Element | None) -> Party:
    data = at(party, "DatiAnagrafici")
    country, number = text(data, "IdFiscaleIVA/IdPaese"), text(data, "IdFiscaleIVA/IdCodice")
    vat = None if number is None else (country or "") + number
    personal = text(data, "CodiceFiscale")
    who = at(data, "Anagrafica")
    person = (text(who, "Nome"), text(who, "Cognome"))
    return Party(
        name=first((text(who, "Denominazione"), " ".join(part for part in person if part) or None)),
        tax_id=first((vat, personal)),
        ids=unique([vat, personal]),
        country=first((text(party, "Sede/Nazione"), country)),
    )


def _taxes(summary: list[Element]) -> Iterator[Tax]:
    for row in summary:
        yield Tax(
            code=first((text(row, "Natura"), "IVA")),
            rate=amount_at(row, "AliquotaIVA"),
            base=amount_at(row, "ImponibileImporto"),
            amount=amount_at(row, "Imposta"),
        )


def _withheld(general: Element | None) -> Iterator[Tax]:
    for row in every(general, "DatiRitenuta"):
        yield Tax(
            code=text(row, "TipoRitenuta"),
            rate=amount_at(row, "AliquotaRitenuta"),
            amount=amount_at(row, "ImportoRitenuta"),
            withheld=True,
        )


def _line(line: Element) -> Line:
    return Line(
        id=text(line, "NumeroLinea"),
        description=text(line, "Descrizione", PROSE_CHARS_MAX),
        quantity=amount_at(line, "Quantita"),
        unit=text(line, "UnitaMisura"),
        unit_price=amount_at(line, "PrezzoUnitario"),
        net=amount_at(line, "PrezzoTotale"),
        tax_rate=amount_at(line, "AliquotaIVA"),
    )


def _references(body: Element) -> Iterator[Reference]:
    general = at(body, "DatiGenerali")
    for role, path in _REFERENCES:
        for found in every(general, path):
            yield Reference(role=role, number=text(found, "IdDocumento"), date=date_at(found, "Data"))
    for found in every(general, "DatiDDT"):
        yield Reference(role="despatch", number=text(found, "NumeroDDT"), date=date_at(found, "DataDDT"))
