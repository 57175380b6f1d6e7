"""A file in the form in which models take it."""

import base64
import codecs
from typing import Final, Literal

import msgspec

from tanda.contracts.results import Failure
from tanda.contracts.work import WorkItem

#: Held in memory some three times over (bytes, base64, JSON) for each call under way. Anthropic takes
#: requests of 32 MB, and in base64 this is 14.
SOURCE_BYTES_MAX: Final = 10 * 1024**2
PDF: Final = "application/pdf"
IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TEXTS: Final = frozenset({"application/xml", "application/json"})


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is given to read."""

    name: str
    content_type: str
    kind: Literal["pdf", "image", "text"]
    #: The text itself; base64 of anything else.
    data: str
    #: What had to be guessed.
    warnings: list[str] = []


def unfit(item: WorkItem) -> Failure | None:
    """Why a file cannot be given to a model, before anything of it is read."""
    if item.bytes > SOURCE_BYTES_MAX:
        return Failure(
            code="too_large", message=f"A model is given files of {SOURCE_BYTES_MAX:,} bytes at most."
        )
    if _kind(item.content_type) is None:
        message = f"A model is given PDF, JPEG, PNG, GIF, WebP and text, not {item.content_type}."
        return Failure(code="unsupported_type", message=message)
    return None


def document(name: str, content_type: str, content: bytes) -> Document:
    """A file that is not ``unfit``."""
    kind = _kind(content_type)
    assert kind, "it is not unfit"
    text, warnings = _text(content) if kind == "text" else (base64.b64encode(content).decode(), [])
    return Document(name=name, content_type=content_type, kind=kind, data=text, warnings=warnings)


def _kind(content_type: str) -> Literal["pdf", "image", "text"] | None:
    if content_type == PDF:
        return "pdf"
    if content_type in IMAGES:
        return "image"
    return "text" if content_type.startswith("text/") or content_type in TEXTS else None


def _text(content: bytes) -> tuple[str, list[str]]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), ["The text is no UTF-8; it was read as Windows-1252."]
