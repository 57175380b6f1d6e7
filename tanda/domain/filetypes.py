"""Which files we take, and which processor each one goes to.

A file's name, its declared type and its first bytes each claim a *family* (``xml``, ``pdf``, ``image`` or
``csv``); all that speak must agree. Within a family the content decides: a JPEG called ``.png`` is a JPEG.
Everything here is pure; the caller hands over the first bytes.

    check("factura.xml", "text/xml", head, 9_120) -> FileType(application/xml, xml, invoice)
    check("report.pdf", None, b"PK...", 88_000)   -> Refusal(type_mismatch, "The name ends in .pdf, but ...")
"""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

import msgspec

Family = Literal["xml", "pdf", "image", "csv"]

#: How much of a file :func:`check` wants to see; less is fine when the file is shorter.
HEAD_BYTES = 8 * 1024
#: PDF 32000-1, annex H: readers accept a header within the first 1,024 bytes.
PDF_HEADER_WITHIN_BYTES = 1024
#: The limit of ext4, XFS, NTFS and of every object store's single path part.
NAME_BYTES_MAX = 255
EXTENSION_BYTES_MAX = 16
#: Text holds hardly any control characters; a form feed or two in an export is not a binary file.
CONTROL_SHARE_MAX = 0.02


class FileType(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is, once name, declaration and content agree."""

    #: Canonical media type, by content: ``application/xml``, ``application/pdf``, ``image/png`` …
    content_type: str
    family: Family
    #: The processor that ``auto`` means for this file.
    processor: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a file is not taken: ``empty_file``, ``unsupported_type`` or ``type_mismatch``."""

    code: str
    #: One sentence that a person can act on.
    message: str


class _Seen(msgspec.Struct, frozen=True):
    """What the first bytes are: a family of ours, or only a name for something else."""

    label: str
    content_type: str = ""
    family: Family | None = None


PROCESSORS: dict[Family, str] = {"xml": "invoice", "pdf": "pdf", "image": "image", "csv": "table"}
SUPPORTED = "XML, PDF, JPEG, PNG, GIF, WebP, BMP, TIFF and delimited text (CSV, TSV)"

_IMAGE: frozenset[Family] = frozenset({"image"})
_CSV: frozenset[Family] = frozenset({"csv"})
#: ``.txt`` and ``text/plain`` say no more than "text".
_TEXT: frozenset[Family] = frozenset({"csv", "xml"})

EXTENSIONS: dict[str, frozenset[Family]] = {
    "xml": frozenset({"xml"}),
    "pdf": frozenset({"pdf"}),
    **dict.fromkeys(
        ("jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "dib", "tif", "tiff"), _IMAGE
    ),
    **dict.fromkeys(("csv", "tsv", "tab"), _CSV),
    "txt": _TEXT,
}

DECLARED: dict[str, frozenset[Family]] = {
    **dict.fromkeys(("application/xml", "text/xml"), frozenset[Family]({"xml"})),
    **dict.fromkeys(("application/pdf", "application/x-pdf"), frozenset[Family]({"pdf"})),
    **dict.fromkeys(
        (
            *(
                "image/jpeg",
                "image/jpg",
                "image/pjpeg",
                "image/png",
                "image/x-png",
                "image/gif",
                "image/webp",
            ),
            *("image/bmp", "image/x-bmp", "image/x-ms-bmp", "image/tiff", "image/x-tiff"),
        ),
        _IMAGE,
    ),
    **dict.fromkeys(
        (
            *(
                "text/csv",
                "text/x-csv",
                "application/csv",
                "application/x-csv",
                "text/comma-separated-values",
            ),
            *("text/tab-separated-values", "text/x-comma-separated-values"),
            # What Windows browsers declare for .csv where Excel is installed.
            *("application/vnd.ms-excel", "application/excel"),
        ),
        _CSV,
    ),
    "text/plain": _TEXT,
}

#: These declare nothing: they are what a client sends when it does not know.
UNDECLARED = frozenset(
    {
        *("", "application/octet-stream", "binary/octet-stream", "application/force-download"),
        *("application/unknown", "application/x-unknown", "unknown/unknown", "*/*"),
    }
)

_MAGIC: tuple[tuple[bytes, _Seen], ...] = (
    (b"\xff\xd8\xff", _Seen("a JPEG image", "image/jpeg", "image")),
    (b"\x89PNG\r\n\x1a\n", _Seen("a PNG image", "image/png", "image")),
    (b"GIF87a", _Seen("a GIF image", "image/gif", "image")),
    (b"GIF89a", _Seen("a GIF image", "image/gif", "image")),
    (b"II*\x00", _Seen("a TIFF image", "image/tiff", "image")),
    (b"MM\x00*", _Seen("a TIFF image", "image/tiff", "image")),
    (b"II+\x00", _Seen("a TIFF image", "image/tiff", "image")),
    (b"MM\x00+", _Seen("a TIFF image", "image/tiff", "image")),
    (b"PK\x03\x04", _Seen("a ZIP archive or an office document")),
    (b"PK\x05\x06", _Seen("an empty ZIP archive")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _Seen("an old office document")),
    (b"\x1f\x8b", _Seen("gzip data")),
    (b"\xfd7zXZ\x00", _Seen("xz data")),
    (b"(\xb5/\xfd", _Seen("Zstandard data")),
    (b"7z\xbc\xaf\x27\x1c", _Seen("a 7-Zip archive")),
    (b"Rar!\x1a\x07", _Seen("a RAR archive")),
    (b"\x7fELF", _Seen("a program")),
    (b"\xcf\xfa\xed\xfe", _Seen("a program")),
    (b"\xca\xfe\xba\xbe", _Seen("a program")),
    (b"SQLite format 3\x00", _Seen("an SQLite database")),
    (b"{\\rtf", _Seen("an RTF document")),
    (b"%!PS", _Seen("a PostScript document")),
    (b"8BPS", _Seen("a Photoshop image")),
    (b"\x00\x00\x01\x00", _Seen("an icon")),
    (b"ID3\x03\x00", _Seen("an MP3 recording")),
)

#: One look for most files, which have none of these.
_MAGICS = tuple(magic for magic, _ in _MAGIC)

_XML = _Seen("XML", "application/xml", "xml")
_PDF = _Seen("PDF", "application/pdf", "pdf")
_TABLE = _Seen("plain text", "text/csv", "csv")
_BINARY = _Seen("binary data of an unknown kind")

_BOMS: tuple[tuple[bytes, str], ...] = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
#: A '<' with no byte-order mark, as the XML specification's appendix F lists it.
_UNMARKED: tuple[tuple[bytes, str], ...] = (
    (b"<\x00\x00\x00", "utf-32-le"),
    (b"\x00\x00\x00<", "utf-32-be"),
    (b"<\x00", "utf-16-le"),
    (b"\x00<", "utf-16-be"),
)
_MARKS = tuple(mark for mark, _ in (*_BOMS, *_UNMARKED))
#: ``<?xm`` in EBCDIC.
_EBCDIC_XML = b"\x4c\x6f\xa7\x94"

_MARKUP = re.compile(r"<(\?xml[\s?]|!--|!DOCTYPE\s|[A-Za-z_À-￿][\w.:\-]*[\s/>])", re.IGNORECASE)
_PROLOG = re.compile(r"\s*(<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*>)", re.DOTALL | re.IGNORECASE)
_HTML = re.compile(r"\s*<(!doctype\s+)?(html|head|body|script|svg:svg|svg)\b", re.IGNORECASE)
#: A name that is what :func:`safe_name` would make of it: most are.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_EXTENSION = re.compile(r"[a-z][a-z0-9]{0,7}|[0-9][a-z0-9]{0,6}[a-z]")

#: Marks that reorder or hide what a reader sees, U+202E above all, and the byte-order mark.
_HIDDEN = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_DROPPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def check(name: str, declared: str | None, head: bytes, bytes_total: int) -> FileType | Refusal:
    """Say what a file is, or why it is not taken.

    ``head`` is the file's first :data:`HEAD_BYTES` or all of it; ``declared`` is the client's media type,
    with or without parameters. Nothing that the caller passes can make this raise.
    """
    if bytes_total == 0 or not head:
        return Refusal(code="empty_file", message="The file is empty (0 bytes); upload it again.")
    return _judge(_sniff(head), _extension(name), _media_type(declared))


@lru_cache(maxsize=1024)
def _judge(seen: _Seen, extension: str | None, media_type: str | None) -> FileType | Refusal:
    """The same for most files of an upload."""
    lie = _contradiction(seen, extension, media_type)
    if lie is not None:
        return lie
    if seen.family is None:
        return _unsupported(f"The content is {seen.label}")
    return FileType(content_type=seen.content_type, family=seen.family, processor=PROCESSORS[seen.family])


def safe_name(name: str) -> str:
    """Give a name as it may be stored and shown: one path part, NFC, at most 255 bytes, never empty."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    parts = [part for part in name.replace("\\", "/").split("/") if part.strip(" .\t\r\n\0")]
    visible = "".join(c for c in (parts[-1] if parts else "") if not _is_hidden(c))
    normal = unicodedata.normalize("NFC", visible).strip()
    if not normal.strip(" ."):
        return "file"
    return _cut(normal)


def _contradiction(seen: _Seen, extension: str | None, media_type: str | None) -> Refusal | None:
    by_name = None if extension is None else EXTENSIONS.get(extension, frozenset[Family]())
    by_client = None if media_type is None else _declared_families(media_type)
    if by_name is not None and seen.family not in by_name:
        if not by_name and seen.family is None:
            return _unsupported(f"The name ends in .{extension} and the content is {seen.label}")
        return _mismatch(f"The name ends in .{extension}", seen)
    if by_client is not None and seen.family not in by_client:
        if not by_client and seen.family is None:
            return _unsupported(f"The file was declared as {media_type} and the content is {seen.label}")
        return _mismatch(f"The file was declared as {media_type}", seen)
    return None


def _mismatch(claim: str, seen: _Seen) -> Refusal:
    advice = "rename it or choose the right file" if seen.family else "choose the right file"
    return Refusal(code="type_mismatch", message=f"{claim}, but the content is {seen.label}; {advice}.")


def _unsupported(what: str) -> Refusal:
    return Refusal(code="unsupported_type", message=f"{what}, which is not supported; use {SUPPORTED}.")


def _extension(name: str) -> str | None:
    """Return the lower-case extension, or None where what follows the last dot is no extension."""
    stem, dot, extension = safe_name(name).rpartition(".")
    extension = extension.lower().strip()
    return extension if dot and stem and _EXTENSION.fullmatch(extension) else None


@lru_cache(maxsize=256)
def _media_type(declared: str | None) -> str | None:
    bare = (declared or "").partition(";")[0].strip().lower()[:100]
    if bare.isascii() and bare.isprintable():
        return None if bare in UNDECLARED else bare
    printable = "".join(c for c in bare if c.isascii() and c.isprintable())
    return None if printable in UNDECLARED else printable


def _declared_families(media_type: str) -> frozenset[Family]:
    if media_type.endswith("+xml") and not media_type.startswith(("image/svg", "application/xhtml")):
        return frozenset[Family]({"xml"})
    return DECLARED.get(media_type, frozenset[Family]())


def _sniff(head: bytes) -> _Seen:
    if head.startswith(_MAGICS):
        return next(seen for magic, seen in _MAGIC if head.startswith(magic))
    container = _container(head)
    if container is not None:
        return container
    if head.startswith(_EBCDIC_XML):
        return _XML
    if head.find(b"%PDF-", 0, PDF_HEADER_WITHIN_BYTES) >= 0:
        return _PDF
    text = _decoded(head)
    return _BINARY if text is None else _sniff_text(text)


def _container(head: bytes) -> _Seen | None:
    """Recognise the formats whose mark is not at the very start, or too short to stand alone."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _Seen("a WebP image", "image/webp", "image")
    if head[:2] == b"BM" and head[6:10] == b"\x00\x00\x00\x00":
        return _Seen("a BMP image", "image/bmp", "image")
    if head[:2] == b"MZ" and b"\x00" in head[:64]:
        return _Seen("a Windows program")
    if head[4:8] == b"ftyp":
        picture = head[8:12] in (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
        return _Seen("a HEIC or AVIF image" if picture else "a video")
    if head[257:262] == b"ustar":
        return _Seen("a TAR archive")
    return None


def _decoded(head: bytes) -> str | None:
    """Decode what looks like text, or return None for what does not."""
    if not head.startswith(_MARKS):
        return head.decode("latin-1") if _is_text(head, len(head)) else None
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return _clean(head[len(mark) :].decode(encoding, errors="ignore"))
    for mark, encoding in _UNMARKED:
        if head.startswith(mark):
            return _clean(head.decode(encoding, errors="ignore"))
    return None


#: Control characters that no text has: all but tab, line feed, vertical tab, form feed, carriage return.
_CONTROLS = bytes([*range(0x09), *range(0x0E, 0x20)])


def _clean(text: str) -> str | None:
    return text if _is_text(text.encode(errors="surrogatepass"), len(text)) else None


def _is_text(octets: bytes, characters: int) -> bool:
    """Whether hardly anything is a control character, in any encoding that has ASCII's."""
    if b"\x00" in octets:
        return False
    controls = len(octets) - len(octets.translate(None, _CONTROLS))
    return controls <= characters * CONTROL_SHARE_MAX


def _sniff_text(text: str) -> _Seen:
    start = text.lstrip()
    if not _MARKUP.match(start):
        # Six characters suffice for "<?xml?", yet a cut-off declaration is still meant as XML.
        return _XML if start[:5] == "<?xml" else _TABLE
    body = start
    while found := _PROLOG.match(body):
        if _HTML.match(body):
            break
        body = body[found.end() :]
    if _HTML.match(body):
        return _Seen("an SVG drawing" if "svg" in body[:12].lower() else "an HTML page")
    return _XML


def _is_hidden(character: str) -> bool:
    return character in _HIDDEN or unicodedata.category(character) in _DROPPED_CATEGORIES


def _cut(name: str) -> str:
    """Shorten the stem, whole characters at a time, and keep the extension."""
    if len(name.encode()) <= NAME_BYTES_MAX:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = dot + extension
    if not stem or len(tail.encode()) > EXTENSION_BYTES_MAX:
        stem, tail = name, ""
    room = NAME_BYTES_MAX - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip() + tail
