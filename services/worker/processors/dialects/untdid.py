"""UNTDID 1001, the document type codes that UBL and CII share (EN 16931's subset, and DIAN's own)."""

from services.worker.processors.schema import Kind

_CREDIT_NOTE = ("81", "83", "261", "262", "296", "308", "381", "396", "420", "458", "532", "91")
_DEBIT_NOTE = ("80", "82", "84", "383", "92")
_PREPAYMENT = ("386", "387", "500")

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(_CREDIT_NOTE, "credit_note"),
    **dict.fromkeys(_DEBIT_NOTE, "debit_note"),
    **dict.fromkeys(_PREPAYMENT, "prepayment_invoice"),
    "384": "corrective_invoice",
    "389": "self_billed_invoice",
}


def kind_of(code: str | None, otherwise: Kind = "invoice") -> Kind:
    """Return what a type code means; a code that is not listed means ``otherwise``."""
    return _KINDS.get(code or "", otherwise)
