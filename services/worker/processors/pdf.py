"""The ``pdf`` processor: the embedded e-invoice where there is one, else the text and careful guesses.

``data``::

    {"kind": "pdf", "pages": 2, "pages_read": 2, "page_size": [595.0, 842.0] | null,
     "attachments": [{"name": "factur-x.xml", "bytes": 13396}],
     "invoice": InvoiceData | null, "invoice_attachment": "factur-x.xml" | null,
     "guesses": Guesses | null,           # only without an embedded invoice
     "text": "..." | null, "text_chars": 1802, "text_truncated": false}

``page_size`` is the first page's, in points. ``text`` is at most 200,000 bytes of UTF-8 and null where no
page has any. The first pages are drawn as ``page-1.jpg`` and so on. Warnings: ``no_text_layer``,
``pages_truncated``, ``not_drawn``, ``pages_unreadable``, ``embedded_xml_unreadable``, and those of the
``invoice`` processor.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from services.worker.processors.dialects.registry import read_documents
from services.worker.processors.guesses.facts import guess
from services.worker.processors.invoice import as_data, warnings_of
from services.worker.processors.pdf_document import (
    PdfRefused,
    PdfText,
    draw_pages,
    opened,
    read_attachments,
    read_text,
)
from services.worker.processors.schema import Document
from services.worker.processors.xml_tree import XmlRefused
from tanda.contracts.results import Artifact, Failure, Result, SourceFile

#: The names that Factur-X, ZUGFeRD and XRechnung prescribe, in the order they are tried.
_STANDARD_NAMES = ("factur-x.xml", "zugferd-invoice.xml", "xrechnung.xml", "order-x.xml")


class Pdf:
    """PDF, encrypted ones too if they open without a password.

    Option: ``pictures`` (default true).
    Failure codes: ``password_protected``, ``malformed_pdf``, ``empty_pdf``.
    """

    name = "pdf"
    version = "2"
    reusable = True
    accepts = frozenset({"application/pdf"})

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Read the document."""
        warnings: list[str] = []
        try:
            with opened(source.path) as document:
                attachments = read_attachments(document)
                text = read_text(document)
        except PdfRefused as refused:
            return Failure(code=refused.code, message=refused.message)
        name, documents = _embedded({a.name: a.xml for a in attachments if a.xml is not None}, warnings)
        warnings += [*text.warnings(), *(warnings_of(documents) if documents else ())]
        data = {
            "kind": "pdf",
            "pages": text.pages,
            "pages_read": text.pages_read,
            "page_size": text.page_size,
            "attachments": [{"name": a.name, "bytes": a.size_bytes} for a in attachments],
            "invoice": as_data(documents) if documents else None,
            "invoice_attachment": name,
            "guesses": None if documents else _guesses(text),
            "text": text.text,
            "text_chars": text.chars,
            "text_truncated": text.truncated,
        }
        return Result(data=data, warnings=warnings)

    def draw(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Draw the first pages."""
        try:
            with opened(source.path) as document:
                pages = draw_pages(document)
        except PdfRefused as refused:
            return Failure(code=refused.code, message=refused.message)
        drawn = [
            Artifact(name=f"page-{number}.jpg", content_type="image/jpeg", data=data)
            for number, data in enumerate(pages, 1)
        ]
        return Result(data=None, artifacts=drawn)


def _embedded(attachments: dict[str, bytes], warnings: list[str]) -> tuple[str | None, list[Document]]:
    """Return the first attachment that is an invoice; standard names go first."""
    for name in sorted(attachments, key=_rank):
        try:
            return name, read_documents(attachments[name])
        except XmlRefused as refused:
            if refused.code != "not_an_invoice" or name.lower() in _STANDARD_NAMES:
                warnings.append("embedded_xml_unreadable")
    return None, []


def _rank(name: str) -> int:
    lowered = name.lower()
    return _STANDARD_NAMES.index(lowered) if lowered in _STANDARD_NAMES else len(_STANDARD_NAMES)


def _guesses(text: PdfText) -> dict[str, Any] | None:
    found = guess(text.lines)
    return None if found is None else msgspec.to_builtins(found)
