"""Files that a batch must survive: cut off, lying about their type, empty, or meant to do harm."""

import zipfile
from io import BytesIO

from tanda.samples.markup import document, el

_LAUGHS = 6


def no_invoice() -> bytes:
    """Well-formed XML of something else."""
    return document(
        el(
            "catalogo",
            el("libro", el("titulo", "El faro y la niebla"), el("paginas", 212), id=1),
            el("libro", el("titulo", "Cuentas claras"), el("paginas", 96), id=2),
        )
    )


def billion_laughs() -> bytes:
    """Entities that would grow to ten million, were they expanded."""
    rows = "\n".join(f'  <!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, _LAUGHS + 1))
    start = '<?xml version="1.0"?>\n<!DOCTYPE Invoice [\n  <!ENTITY l0 "ja ja ja ">'
    return f"{start}\n{rows}\n]>\n<Invoice>&l{_LAUGHS};</Invoice>\n".encode()


def lying_pdf() -> bytes:
    """A note that somebody renamed."""
    return b"Hola, la factura va en otro correo. Un saludo, Maite.\n"


def office_document() -> bytes:
    """A word processor's document: a ZIP archive with the parts that make it one."""
    space = "http://schemas.openxmlformats.org"
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    override = el("Override", PartName="/word/document.xml", ContentType=main)
    types = el("Types", override, xmlns=f"{space}/package/2006/content-types")
    text = el("w:p", el("w:r", el("w:t", "Presupuesto de noviembre")))
    body = el("w:document", el("w:body", text), attrs={"xmlns:w": f"{space}/wordprocessingml/2006/main"})
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in (("[Content_Types].xml", types), ("word/document.xml", body)):
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 3, 9, 0, 0)), document(part))
    return out.getvalue()


def cut(data: bytes, share: float) -> bytes:
    """The first part of a file whose upload or copy broke off."""
    return data[: int(len(data) * share)]
