"""Finds the dialect by the root element and reads the file's documents."""

from collections.abc import Callable

from services.worker.processors.dialects import cfdi, cii, facturae, fatturapa, sri, ubl, wrappers
from services.worker.processors.dialects.reading import at, local, namespace
from services.worker.processors.schema import Document
from services.worker.processors.xml_tree import Element, XmlRefused, parse

#: An envelope within an envelope has been seen; three have not.
ENVELOPES_MAX = 2
_SHOWN_CHARS_MAX = 100

Reader = Callable[[Element], list[Document]]


def read_documents(content: bytes) -> list[Document]:
    """Read the invoices of an XML file, at least one.

    Raises :class:`XmlRefused`: the codes of :func:`parse`, ``not_an_invoice`` and ``too_many_invoices``.
    """
    root = parse(content)
    for _ in range(ENVELOPES_MAX):
        if local(root) not in wrappers.ROOTS:
            break
        inner = wrappers.unwrap(root)
        if inner is None:
            raise XmlRefused("not_an_invoice", f"The envelope <{_shown(root)}> carries no invoice.")
        root = parse(inner) if isinstance(inner, bytes) else inner
    reader = _reader(root)
    documents = [] if reader is None else reader(root)
    if not documents:
        raise XmlRefused(
            "not_an_invoice",
            f"The XML is not an e-invoice of a known dialect: its root element is <{_shown(root)}>.",
        )
    return documents


def _reader(root: Element) -> Reader | None:
    name, uri = local(root), namespace(root)
    if name in ubl.ROOTS and uri.startswith(ubl.NAMESPACE):
        return ubl.read
    if name in cii.ROOTS:
        return cii.read
    if name in cfdi.ROOTS and uri.startswith(cfdi.NAMESPACE):
        return cfdi.read
    if name in facturae.ROOTS and at(root, "Invoices") is not None:
        return facturae.read
    if name in fatturapa.ROOTS:
        return fatturapa.read
    if name in sri.ROOTS and at(root, "infoTributaria") is not None:
        return sri.read
    return None


def _shown(root: Element) -> str:
    uri = namespace(root)
    shown = f"{local(root)} xmlns={uri}" if uri else local(root)
    return shown[:_SHOWN_CHARS_MAX]
