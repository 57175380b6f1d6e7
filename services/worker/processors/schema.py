"""The one shape that every e-invoice dialect is normalised to.

A processor's ``data`` is these structs as plain JSON values. Rules that hold throughout:

- an amount or a quantity is a decimal *string* in plain notation, exactly as precise as the source
  (``"4675"``, ``"0.00"``); it is null when the source has none, and never computed from other amounts
  except where a field says so;
- a date is ISO ``YYYY-MM-DD``, or null when absent or impossible;
- a text has its white space collapsed and is cut at the limits of ``dialects.reading``;
- currencies are ISO 4217 (Ecuador's ``DOLAR`` becomes ``USD``); CFDI receipts without one say ``XXX``.
"""

from typing import Literal

import msgspec

Kind = Literal[
    "invoice",
    "credit_note",
    "debit_note",
    "corrective_invoice",
    "self_billed_invoice",
    "prepayment_invoice",
    "payment_receipt",
    "payroll",
    "transport_document",
]


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Who sells or buys."""

    #: The legal name where there is one, else the trading name.
    name: str | None = None
    trade_name: str | None = None
    #: The tax number (VAT id, NIT, RFC, NIF, partita IVA, RUC); null where the source gives none.
    tax_id: str | None = None
    #: Every identifier found, the tax number first, without duplicates.
    ids: list[str] = []
    #: ISO 3166 code as in the source (Facturae writes three letters).
    country: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line item."""

    id: str | None = None
    description: str | None = None
    quantity: str | None = None
    #: The unit's code, or its name where there is no code.
    unit: str | None = None
    unit_price: str | None = None
    #: Amount without tax, after the line's discounts (CFDI: before them, as its ``Importe``).
    net: str | None = None
    discount: str | None = None
    #: Per cent; CFDI's fraction ``0.160000`` is given as ``16.0000``.
    tax_rate: str | None = None
    tax: str | None = None


class Tax(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the document's tax summary."""

    #: The dialect's own code or name: ``VAT``, ``002``, ``01`` …
    code: str | None = None
    #: Per cent, as in :class:`Line`.
    rate: str | None = None
    base: str | None = None
    amount: str | None = None
    #: Whether the buyer keeps it back (IRPF, ISR, ritenuta) instead of paying it.
    withheld: bool = False


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Another document that this one names."""

    #: ``preceding`` (what a note corrects), ``order``, ``contract``, ``despatch``, ``project``, ``related``.
    role: str
    number: str | None = None
    date: str | None = None
    uuid: str | None = None
    #: The dialect's own code for the relation or the document.
    code: str | None = None


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One payment that a payment receipt acknowledges (CFDI ``Pago``)."""

    date: str | None = None
    amount: str | None = None
    currency: str | None = None
    method: str | None = None
    #: The invoices paid, by their UUID.
    references: list[Reference] = []


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One invoice, note or receipt."""

    #: ``ubl``, ``dian``, ``cii``, ``cfdi``, ``facturae``, ``fatturapa`` or ``sri``.
    dialect: str
    #: The dialect's version or variant: ``2.1``, ``4.0``, ``3.2.2``, ``FPR12``, ``factura-1.1.0`` …
    dialect_version: str | None = None
    #: The business profile (EN 16931, Peppol, Factur-X MINIMUM …) as its own identifier.
    profile: str | None = None
    #: The original type code: ``380``, ``TD01``, ``I``, ``OO``, ``04`` …
    type: str | None = None
    #: What that type means, across dialects.
    document_kind: Kind = "invoice"
    #: As people cite it; CFDI and Facturae join series and folio.
    number: str | None = None
    series: str | None = None
    issue_date: str | None = None
    due_date: str | None = None
    seller: Party = Party()
    buyer: Party = Party()
    currency: str | None = None
    #: Without tax (FatturaPA: the sum of its tax summary's bases).
    net: str | None = None
    tax: str | None = None
    #: With tax, as the header states it.
    total: str | None = None
    #: What is still to be paid (FatturaPA: the sum of its instalments).
    payable: str | None = None
    prepaid: str | None = None
    withheld: str | None = None
    #: The fiscal id: CFDI UUID, DIAN CUFE/CUDE, SRI clave de acceso.
    uuid: str | None = None
    taxes: list[Tax] = []
    #: How many line items the source has; ``lines`` may hold fewer.
    line_count: int = 0
    lines: list[Line] = []
    references: list[Reference] = []
    payments: list[Payment] = []
    note: str | None = None


class InvoiceData(Document, frozen=True, kw_only=True):
    """A file's invoice: the first document's fields, and all documents where there are several."""

    kind: Literal["invoice"] = "invoice"
    document_count: int = 1
    #: Every document, the first included, where a file carries more than one; else empty.
    documents: list[Document] = []
