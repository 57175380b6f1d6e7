"""Mexico's CFDI 4.0 and 3.3 with the tax office's stamp."""

import base64
from decimal import Decimal
from random import Random
from uuid import UUID

from tanda.samples.markup import Markup, document, el
from tanda.samples.sales import Item, Sale

_SAT = "http://www.sat.gob.mx/"
#: Public certificate numbers have 20 digits; these belong to nobody.
_CERTIFICATE = "00001000000500000000"


def fiscal_id(sale: Sale) -> str:
    """The stamp's UUID, the same for the same number and seller."""
    entropy = Random(f"{sale.number}/{sale.seller.tax_id}")  # noqa: S311
    return str(UUID(int=entropy.getrandbits(128), version=4)).upper()


def cfdi(sale: Sale, version: str = "4.0") -> bytes:
    """An income receipt (I), or an expense (E) where the sale corrects one; a number is ``A811``."""
    series = sale.number.rstrip("0123456789")
    space = f"{_SAT}cfd/{version[0]}"
    stamp = {"xmlns:cfdi": space, "xmlns:tfd": f"{_SAT}TimbreFiscalDigital"}
    head = {
        **{
            "Version": version,
            "Serie": series,
            "Folio": sale.number.removeprefix(series),
            "Fecha": f"{sale.day}T09:41:07",
        },
        **{"Sello": _signature(sale), "FormaPago": "03", "NoCertificado": _CERTIFICATE},
        **{"SubTotal": sale.net, "Moneda": sale.currency, "Total": sale.total},
        **{"TipoDeComprobante": "E" if sale.corrects else "I", "MetodoPago": "PUE"},
        **({"Exportacion": "01"} if version == "4.0" else {}),
        **{"LugarExpedicion": sale.seller.postcode},
    }
    return document(
        el(
            "cfdi:Comprobante",
            _related(sale),
            el("cfdi:Emisor", Rfc=sale.seller.tax_id, Nombre=sale.seller.name, RegimenFiscal="601"),
            el("cfdi:Receptor", attrs=_buyer(sale, version)),
            el("cfdi:Conceptos", *(_concept(item, version) for item in sale.items)),
            _taxes(sale, version),
            el("cfdi:Complemento", _stamp(sale)),
            attrs={**stamp, **head},
        )
    )


def _signature(sale: Sale) -> str:
    return base64.b64encode(Random(fiscal_id(sale)).randbytes(96)).decode()  # noqa: S311


def _related(sale: Sale) -> Markup | None:
    if sale.corrects is None:
        return None
    return el("cfdi:CfdiRelacionados", el("cfdi:CfdiRelacionado", UUID=sale.corrects), TipoRelacion="01")


def _buyer(sale: Sale, version: str) -> dict[str, object]:
    more = {"DomicilioFiscalReceptor": sale.buyer.postcode, "RegimenFiscalReceptor": "601"}
    return {
        **{"Rfc": sale.buyer.tax_id, "Nombre": sale.buyer.name},
        **(more if version == "4.0" else {}),
        "UsoCFDI": "G03",
    }


def _concept(item: Item, version: str) -> Markup:
    return el(
        "cfdi:Concepto",
        el("cfdi:Impuestos", el("cfdi:Traslados", _transfer(item.rate, item.net, item.tax, with_base=True))),
        attrs={
            **{"ClaveProdServ": "14111500", "Cantidad": item.quantity, "ClaveUnidad": "H87"},
            **{"Descripcion": item.description, "ValorUnitario": item.price, "Importe": item.net},
            **({"ObjetoImp": "02"} if version == "4.0" else {}),
        },
    )


def _transfer(rate: Decimal, base: Decimal, tax: Decimal, *, with_base: bool) -> Markup:
    fraction = (rate / 100).quantize(Decimal("0.000001"))
    return el(
        "cfdi:Traslado",
        attrs={
            **({"Base": base} if with_base else {}),
            **{"Impuesto": "002", "TipoFactor": "Tasa", "TasaOCuota": fraction, "Importe": tax},
        },
    )


def _taxes(sale: Sale, version: str) -> Markup:
    rows = (_transfer(*row, with_base=version == "4.0") for row in sale.taxes())
    return el("cfdi:Impuestos", el("cfdi:Traslados", *rows), TotalImpuestosTrasladados=sale.tax)


def _stamp(sale: Sale) -> Markup:
    return el(
        "tfd:TimbreFiscalDigital",
        attrs={
            **{"Version": "1.1", "UUID": fiscal_id(sale), "FechaTimbrado": f"{sale.day}T09:41:12"},
            **{"RfcProvCertif": "SAT970701NN3", "NoCertificadoSAT": _CERTIFICATE},
            **{"SelloCFD": _signature(sale), "SelloSAT": _signature(sale)[::-1].strip("=")},
        },
    )
