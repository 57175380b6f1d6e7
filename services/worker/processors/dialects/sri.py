"""Ecuador's SRI: factura, notaCredito, notaDebito and liquidacionCompra."""

from collections.abc import Iterator

from services.worker.processors.dialects.reading import (
    LINES_MAX,
    PROSE_CHARS_MAX,
    amount_at,
    at,
    attribute,
    date_at,
    every,
    first,
    local,
    text,
    total_of,
    unique,
)
from services.worker.processors.schema import Document, Kind, Line, Party, Reference, Tax
from services.worker.processors.xml_tree import Element

_KINDS: dict[str, Kind] = {
    "factura": "invoice",
    "notaCredito": "credit_note",
    "notaDebito": "debit_note",
    "liquidacionCompra": "self_billed_invoice",
}
ROOTS = tuple(_KINDS)

_INFO = "infoFactura|infoNotaCredito|infoNotaDebito|infoLiquidacionCompra"
_TAXES = "totalConImpuestos|impuestos/totalImpuesto|impuesto"
#: Ecuador has no currency but the dollar, and writes it in many ways.
_DOLLARS = frozenset({"DOLAR", "DÓLAR", "DOLARES", "DÓLARES", "DOLLAR", "US$", "USD$", "$"})


def read(root: Element) -> list[Document]:
    """Read one comprobante; the description's ``tarifa`` is per cent."""
    who, info = at(root, "infoTributaria"), at(root, _INFO)
    lines = list(every(root, "detalles/detalle")) or list(every(root, "motivos/motivo"))
    version = attribute(root, "version")
    return [
        Document(
            dialect="sri",
            dialect_version="-".join(part for part in (local(root), version) if part),
            type=text(who, "codDoc"),
            document_kind=_KINDS[local(root)],
            number=_number(who),
            series=text(who, "estab"),
            issue_date=date_at(info, "fechaEmision"),
            seller=_seller(who),
            buyer=_buyer(info),
            currency=_currency(text(info, "moneda")),
            net=amount_at(info, "totalSinImpuestos"),
            tax=total_of(amount_at(row, "valor") for row in every(info, _TAXES)),
            total=amount_at(info, "importeTotal|valorModificacion|valorTotal"),
            uuid=text(who, "claveAcceso"),
            taxes=list(_taxes(info)),
            line_count=len(lines),
            lines=[_line(line) for line in lines[:LINES_MAX]],
            references=list(_references(info)),
            note=text(info, "motivo", PROSE_CHARS_MAX),
        )
    ]


def _number(who: Element | None) -> str | None:
    parts = [text(who, name) for name in ("estab", "ptoEmi", "secuencial")]
    return "-".join(part for part in parts if part) or None


def _seller(who: Element | None) -> Party:
    ruc = text(who, "ruc")
    return Party(
        name=text(who, "razonSocial"),
        trade_name=text(who, "nombreComercial"),
        tax_id=ruc,
        ids=unique([ruc]),
        country="EC",
    )


def _buyer(info: Element | None) -> Party:
    number = text(info, "identificacionComprador|identificacionProveedor")
    return Party(
        name=text(info, "razonSocialComprador|razonSocialProveedor"), tax_id=number, ids=unique([number])
    )


def _currency(written: str | None) -> str | None:
    return "USD" if written is not None and written.upper() in _DOLLARS else written


def _taxes(info: Element | None) -> Iterator[Tax]:
    for row in every(info, _TAXES):
        yield Tax(
            code=text(row, "codigo"),
            rate=amount_at(row, "tarifa"),
            base=amount_at(row, "baseImponible"),
            amount=amount_at(row, "valor"),
        )


def _line(line: Element) -> Line:
    return Line(
        id=text(line, "codigoPrincipal|codigoInterno"),
        description=text(line, "descripcion|razon", PROSE_CHARS_MAX),
        quantity=amount_at(line, "cantidad"),
        unit=text(line, "unidadMedida"),
        unit_price=amount_at(line, "precioUnitario"),
        net=first((amount_at(line, "precioTotalSinImpuesto"), amount_at(line, "valor"))),
        discount=amount_at(line, "descuento"),
        tax_rate=amount_at(line, "impuestos/impuesto/tarifa"),
        tax=total_of(amount_at(tax, "valor") for tax in every(line, "impuestos/impuesto")),
    )


def _references(info: Element | None) -> Iterator[Reference]:
    number = text(info, "numDocModificado")
    if number is not None:
        yield Reference(
            role="preceding",
            number=number,
            date=date_at(info, "fechaEmisionDocSustento"),
            code=text(info, "codDocModificado"),
        )
