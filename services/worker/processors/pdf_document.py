"""Opens PDFs from strangers, reads their text and attachments and draws their pages, within limits."""

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pypdfium2
from pypdfium2 import raw

from services.worker.processors.guesses.layout import Line, lines_of

PAGES_MAX = 2_000
TEXT_BYTES_MAX = 200_000
#: A page of more pieces (a CAD drawing, a bomb) takes hundreds of MB to read.
PAGE_OBJECTS_MAX = 100_000
#: Guesses look at the first pages and the last; an invoice's totals stand on one of them.
LAYOUT_PAGES_FIRST = 3
#: What stands beside a result; the rest of a long document is a download.
DRAWN_PAGES_MAX = 3
#: Small print of an A4 page can be read at this; a JPEG takes 20 ms of CPU and some 100 kB, a WebP 80 ms.
DRAWN_SIDE_PX = 1_200
#: A label is not blown up to a page: 144 dots an inch at most.
DRAWN_SCALE_MAX = 2.0
DRAWN_QUALITY = 75
ATTACHMENTS_MAX = 50
ATTACHMENT_BYTES_MAX = 50 * 1024 * 1024
ATTACHMENT_NAME_CHARS_MAX = 200
#: ``FPDF_ERR_PASSWORD``.
_PASSWORD_ERROR = 4


class PdfRefused(Exception):
    """The document is not read; ``code`` and ``message`` are meant for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Attachment(msgspec.Struct, frozen=True):
    """An embedded file; only XML is kept."""

    name: str
    size_bytes: int
    xml: bytes | None


class PdfText(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages say."""

    pages: int
    pages_read: int
    pages_unreadable: int
    #: Width and height of the first readable page, in points.
    page_size: list[float] | None
    #: None where no page has any text.
    text: str | None
    #: Characters on the pages read, also where ``text`` is cut.
    chars: int
    truncated: bool
    lines: list[Line]

    def warnings(self) -> list[str]:
        told = {
            "no_text_layer": self.text is None,
            "pages_truncated": self.pages_read < self.pages,
            "pages_unreadable": self.pages_unreadable > 0,
        }
        return [warning for warning, holds in told.items() if holds]


@contextmanager
def opened(path: Path) -> Generator[Any]:
    """Open a document with no password; the value is a ``pypdfium2.PdfDocument`` of at least one page."""
    try:
        _forget_last_error()
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as exc:
        raise _refusal(exc) from exc
    try:
        if len(document) < 1:
            raise PdfRefused("empty_pdf", "The PDF has no pages.")
        yield document
    finally:
        document.close()


def read_attachments(document: Any) -> list[Attachment]:
    """Return the embedded files that can be read, the first :data:`ATTACHMENTS_MAX` of them."""
    found: list[Attachment] = []
    for index in range(min(document.count_attachments(), ATTACHMENTS_MAX)):
        try:
            attachment = document.get_attachment(index)
            data = attachment.get_data()
            name = attachment.get_name()
            size = len(data)
            wanted = name.lower().endswith(".xml") and size <= ATTACHMENT_BYTES_MAX
            xml = bytes(data) if wanted else None
        except (pypdfium2.PdfiumError, UnicodeError, MemoryError):
            continue
        shown = "".join(c for c in name if c.isprintable())[:ATTACHMENT_NAME_CHARS_MAX]
        found.append(Attachment(shown or f"attachment {index + 1}", size, xml))
    return found


def read_text(document: Any) -> PdfText:
    """Read every page's text up to the limits; a page that cannot be read is counted, not fatal."""
    total = len(document)
    chars = unreadable = 0
    size: list[float] | None = None
    parts: list[str] = []
    room = TEXT_BYTES_MAX
    lines: list[Line] = []
    for index in range(min(total, PAGES_MAX)):
        try:
            page = _read_page(document, index, index < LAYOUT_PAGES_FIRST or index == total - 1)
        except (pypdfium2.PdfiumError, UnicodeError, _PageTooComplex):
            unreadable += 1
            continue
        size = size or page.size
        chars += len(page.text)
        lines += page.lines
        kept = page.text.encode(errors="replace")[:room].decode(errors="ignore")
        room -= len(kept.encode())
        parts.append(kept)
    if unreadable == min(total, PAGES_MAX):
        raise PdfRefused(
            "malformed_pdf", f"None of the PDF's {total} pages can be read; it is damaged or too complex."
        )
    text = "\n".join(part for part in parts if part).strip()
    return PdfText(
        pages=total,
        pages_read=min(total, PAGES_MAX),
        pages_unreadable=unreadable,
        page_size=size,
        text=text or None,
        chars=chars,
        truncated=sum(map(len, parts)) < chars,
        lines=lines,
    )


def draw_pages(document: Any) -> list[bytes]:
    """Draw the first pages as JPEG; no script of theirs is run."""
    return [_draw_page(document, index) for index in range(min(len(document), DRAWN_PAGES_MAX))]


def _draw_page(document: Any, index: int) -> bytes:
    try:
        page = document[index]
        scale = min(DRAWN_SCALE_MAX, DRAWN_SIDE_PX / max(*page.get_size(), 1.0))
        pixels = page.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB")
    except (pypdfium2.PdfiumError, ValueError) as exc:
        raise PdfRefused("malformed_pdf", f"Page {index + 1} cannot be drawn.") from exc
    target = io.BytesIO()
    pixels.save(target, "JPEG", quality=DRAWN_QUALITY)
    return target.getvalue()


class _PageTooComplex(Exception):
    """The page has more than :data:`PAGE_OBJECTS_MAX` objects."""


class _Page(msgspec.Struct):
    size: list[float]
    text: str
    lines: list[Line]


def _read_page(document: Any, index: int, with_layout: bool) -> _Page:
    page = document[index]
    try:
        if raw.FPDFPage_CountObjects(page) > PAGE_OBJECTS_MAX:
            raise _PageTooComplex
        text_page = page.get_textpage()
        try:
            written = text_page.get_text_bounded().replace("\r\n", "\n").replace("\x00", "")
            lines = lines_of(text_page) if with_layout else []
        finally:
            text_page.close()
        return _Page([round(side, 2) for side in page.get_size()], written.strip(), lines)
    finally:
        page.close()


def _forget_last_error() -> None:
    """Leave "not a PDF" as the library's last error.

    It does not set one for a document without pages, and the last document's would be reported: the same
    bytes would be called password protected in one process and damaged in another.
    """
    try:
        pypdfium2.PdfDocument(b"-")
    except pypdfium2.PdfiumError:
        return


def _refusal(exc: Any) -> PdfRefused:
    if getattr(exc, "err_code", None) == _PASSWORD_ERROR:
        return PdfRefused(
            "password_protected", "The PDF is password protected; remove the password and upload it again."
        )
    return PdfRefused(
        "malformed_pdf", "The PDF cannot be opened: it is damaged, has no pages, or is not a PDF at all."
    )
