"""Envelopes that carry an invoice as text: DIAN's AttachedDocument and SRI's autorizacion."""

import re

from services.worker.processors.dialects.reading import at, every, local
from services.worker.processors.xml_tree import Element

_ATTACHED = "Attachment/ExternalReference/Description"
_AUTHORISED = (
    "comprobante",
    "autorizacion/comprobante",
    "autorizaciones/autorizacion/comprobante",
)

#: The text is decoded already, so the embedded declaration's encoding no longer holds.
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
ROOTS = ("AttachedDocument", "autorizacion", "autorizaciones", "RespuestaAutorizacionComprobante")


def unwrap(root: Element) -> bytes | Element | None:
    """Return the wrapped invoice: as bytes, as an element where it was not escaped, None where empty."""
    for found in _carriers(root):
        inner = next(iter(found), None)
        if inner is not None:
            return inner
        written = _DECLARATION.sub("", "".join(found.itertext()).lstrip("\ufeff"))
        if written.strip().startswith("<"):
            return written.strip().encode()
    return None


def _carriers(root: Element) -> list[Element]:
    if local(root) == "AttachedDocument":
        return list(every(root, _ATTACHED))
    return [found for path in _AUTHORISED if (found := at(root, path)) is not None]
