"""The ``invoice`` processor: an XML e-invoice of any known dialect becomes one schema.

``data`` is :class:`~services.worker.processors.schema.InvoiceData` as plain JSON values. Warnings:
``lines_truncated`` (more lines than a result keeps), ``no_number``, ``no_issue_date``.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from services.worker.processors.dialects.reading import LINES_MAX
from services.worker.processors.dialects.registry import read_documents
from services.worker.processors.schema import Document, InvoiceData
from services.worker.processors.xml_tree import XML_BYTES_MAX, XmlRefused
from tanda.contracts.results import Failure, Result, SourceFile


class Invoice:
    """UBL, DIAN, CII/Factur-X, CFDI, Facturae, FatturaPA and SRI.

    Failure codes: ``empty_file``, ``not_an_invoice``, ``too_many_invoices`` and those of ``xml_tree.parse``.
    """

    name = "invoice"
    version = "1"
    shares_child = True
    accepts = frozenset({"application/xml"})

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Read the file's invoices; there are no options."""
        if source.path.stat().st_size > XML_BYTES_MAX:
            return Failure(
                code="xml_too_large", message=f"The XML is larger than {XML_BYTES_MAX // 1024**2} MB."
            )
        content = source.path.read_bytes()
        if not content.strip():
            return Failure(code="empty_file", message="The file is empty; upload it again.")
        try:
            documents = read_documents(content)
        except XmlRefused as refused:
            return Failure(code=refused.code, message=refused.message)
        return Result(data=as_data(documents), warnings=warnings_of(documents))


def as_data(documents: list[Document]) -> dict[str, Any]:
    """Return :class:`InvoiceData` for a file's documents, as plain JSON values."""
    several = documents if len(documents) > 1 else []
    data = InvoiceData(
        **msgspec.structs.asdict(documents[0]), document_count=len(documents), documents=several
    )
    return msgspec.to_builtins(data)


def warnings_of(documents: list[Document]) -> list[str]:
    """Name what a result does not say."""
    first = documents[0]
    told = {
        "lines_truncated": any(document.line_count > LINES_MAX for document in documents),
        "no_number": first.number is None,
        "no_issue_date": first.issue_date is None,
    }
    return [warning for warning, holds in told.items() if holds]
