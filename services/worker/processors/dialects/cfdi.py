"""Mexico's CFDI 3.2, 3.3 and 4.0 with its stamp, payment receipts (Pagos 1.0, 2.0) and payroll."""

from collections.abc import Iterator

from services.worker.processors.dialects.reading import (
    LINES_MAX,
    PROSE_CHARS_MAX,
    amount,
    at,
    attribute,
    date,
    every,
    first,
    percent,
    tidy,
    total_of,
    unique,
)
from services.worker.processors.schema import Document, Kind, Line, Party, Payment, Reference, Tax
from services.worker.processors.xml_tree import Element

#: ``http://www.sat.gob.mx/cfd/3`` and ``/4``.
NAMESPACE = "http://www.sat.gob.mx/cfd/"
ROOTS = ("Comprobante",)

_KINDS: dict[str, Kind] = {
    "I": "invoice",
    "E": "credit_note",
    "T": "transport_document",
    "N": "payroll",
    "P": "payment_receipt",
    # 3.2 spelled them out.
    "ingreso": "invoice",
    "egreso": "credit_note",
    "traslado": "transport_document",
}


def read(root: Element) -> list[Document]:
    """Read one Comprobante."""
    code = _get(root, "TipoDeComprobante")
    series, folio = _get(root, "Serie"), _get(root, "Folio")
    taxes = at(root, "Impuestos")
    lines = list(every(root, "Conceptos/Concepto"))
    return [
        Document(
            dialect="cfdi",
            dialect_version=_get(root, "Version"),
            type=code,
            document_kind=_kind(root, code),
            number="".join(part for part in (series, folio) if part) or None,
            series=series,
            issue_date=date(_get(root, "Fecha")),
            seller=_party(at(root, "Emisor")),
            buyer=_party(at(root, "Receptor")),
            currency=_get(root, "Moneda"),
            net=_amount(root, "SubTotal"),
            tax=_amount(taxes, "TotalImpuestosTrasladados"),
            total=_amount(root, "Total"),
            withheld=_amount(taxes, "TotalImpuestosRetenidos"),
            uuid=_get(at(root, "Complemento/TimbreFiscalDigital"), "UUID"),
            taxes=list(_taxes(taxes)),
            line_count=len(lines),
            lines=[_line(line) for line in lines[:LINES_MAX]],
            references=list(_references(root)),
            payments=[_payment(p) for p in every(root, "Complemento/Pagos/Pago")],
        )
    ]


def _get(element: Element | None, name: str) -> str | None:
    """Read an attribute, also as 3.2 wrote it (``subTotal``)."""
    return first((attribute(element, name), attribute(element, name[0].lower() + name[1:])))


def _amount(element: Element | None, name: str) -> str | None:
    return amount(_get(element, name))


def _kind(root: Element, code: str | None) -> Kind:
    if at(root, "Complemento/Nomina") is not None:
        return "payroll"
    return _KINDS.get(code or "", "invoice")


def _party(party: Element | None) -> Party:
    tax_id = _get(party, "Rfc")
    return Party(
        name=_get(party, "Nombre"),
        tax_id=tax_id,
        ids=unique([tax_id, _get(party, "NumRegIdTrib")]),
        country=_get(party, "ResidenciaFiscal"),
    )


def _taxes(taxes: Element | None) -> Iterator[Tax]:
    for path, withheld in (("Traslados/Traslado", False), ("Retenciones/Retencion", True)):
        for row in every(taxes, path):
            yield Tax(
                code=_get(row, "Impuesto"),
                rate=percent(_amount(row, "TasaOCuota")),
                base=_amount(row, "Base"),
                amount=_amount(row, "Importe"),
                withheld=withheld,
            )


def _line(line: Element) -> Line:
    transferred = list(every(line, "Impuestos/Traslados/Traslado"))
    return Line(
        id=first((_get(line, "NoIdentificacion"), _get(line, "ClaveProdServ"))),
        description=tidy(line.get("Descripcion") or line.get("descripcion"), PROSE_CHARS_MAX),
        quantity=_amount(line, "Cantidad"),
        unit=first((_get(line, "ClaveUnidad"), _get(line, "Unidad"))),
        unit_price=_amount(line, "ValorUnitario"),
        net=_amount(line, "Importe"),
        discount=_amount(line, "Descuento"),
        tax_rate=first(percent(_amount(t, "TasaOCuota")) for t in transferred),
        tax=total_of(_amount(t, "Importe") for t in transferred),
    )


def _references(root: Element) -> Iterator[Reference]:
    for group in every(root, "CfdiRelacionados"):
        for found in every(group, "CfdiRelacionado"):
            yield Reference(role="related", uuid=_get(found, "UUID"), code=_get(group, "TipoRelacion"))


def _payment(payment: Element) -> Payment:
    return Payment(
        date=date(_get(payment, "FechaPago")),
        amount=_amount(payment, "Monto"),
        currency=_get(payment, "MonedaP"),
        method=_get(payment, "FormaDePagoP"),
        references=[_paid(found) for found in every(payment, "DoctoRelacionado")],
    )


def _paid(found: Element) -> Reference:
    number = "".join(part for part in (_get(found, "Serie"), _get(found, "Folio")) if part)
    return Reference(role="related", number=number or None, uuid=_get(found, "IdDocumento"))
