"""Reads XML from strangers: no DTD, no entities, no network, and a cap on everything.

A document type declaration is refused before any parser sees it; that one rule ends entity bombs and
external entities (OWASP's XXE prevention names it as the safest way).
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Protocol

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - lxml ships no types

#: The largest invoices seen in the wild are tens of MB, nearly all of it an embedded PDF.
XML_BYTES_MAX = 50 * 1024 * 1024
#: libxml2's own limit is 256; real invoices stay under 20.
DEPTH_MAX = 200
ATTRIBUTES_MAX = 1_000
ELEMENTS_MAX = 500_000
PROLOG_BYTES_MAX = 1024 * 1024

#: What the dialects allow and what is seen; UTF-7 and the like exist to get past filters.
_ENCODING_ALLOWED = re.compile(
    r"utf-?8|utf-?16(le|be)?|us-ascii|ascii|iso[-_]8859-\d{1,2}|latin-?1|windows-125\d|cp-?125\d",
    re.IGNORECASE,
)
_ENCODING_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([^\"'>]{0,60})")
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_WIDE = ((b"<\x00", "utf-16-le"), (b"\x00<", "utf-16-be"))
_REFUSED_MARKS = (
    b"\xff\xfe\x00\x00",
    b"\x00\x00\xfe\xff",
    b"<\x00\x00\x00",
    b"\x00\x00\x00<",
    b"\x4c\x6f\xa7\x94",
)
#: What may stand before the root element and is no document type declaration.
_PROLOG_ITEM = re.compile(r"\s+|<\?.*?\?>|<!--.*?-->", re.DOTALL)


class Element(Protocol):
    """What the dialects use of a parsed element."""

    tag: str
    text: str | None
    attrib: Mapping[str, str]
    nsmap: Mapping[str | None, str]

    def __iter__(self) -> Iterator["Element"]: ...
    def get(self, key: str) -> str | None: ...
    def itertext(self) -> Iterator[str]: ...


class XmlRefused(Exception):
    """The document is not read; ``code`` and ``message`` are meant for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse(content: bytes) -> Element:
    """Return the root element, or raise :class:`XmlRefused`.

    Codes: ``xml_too_large``, ``unsupported_encoding``, ``dtd_refused``, ``xml_too_deep``,
    ``too_many_attributes``, ``too_many_elements``, ``malformed_xml``.
    """
    if len(content) > XML_BYTES_MAX:
        raise XmlRefused("xml_too_large", f"The XML is larger than {XML_BYTES_MAX // 1024**2} MB.")
    # Some generators begin with a blank line, which a parser would call a misplaced declaration.
    content = content.lstrip(b" \t\r\n")
    _refuse_dtd(content, _encoding(content))
    return _build(content)


def _encoding(content: bytes) -> str:
    """Return a codec for the document's prolog, or refuse the declared encoding."""
    if content.startswith(_REFUSED_MARKS):
        raise XmlRefused("unsupported_encoding", "The XML is in UTF-32 or EBCDIC; save it as UTF-8.")
    for mark, codec in _BOMS:
        if content.startswith(mark):
            return codec
    for start, codec in _WIDE:
        if content.startswith(start):
            return codec
    declared = _ENCODING_DECLARED.match(content)
    name = declared.group(1).decode("latin-1") if declared else "utf-8"
    if not _ENCODING_ALLOWED.fullmatch(name):
        shown = "".join(c for c in name if c.isprintable())
        raise XmlRefused(
            "unsupported_encoding", f"The XML declares the encoding {shown!r}; save it as UTF-8."
        )
    # Only markup matters here, and in all the remaining encodings it is ASCII.
    return "latin-1"


def _refuse_dtd(content: bytes, codec: str) -> None:
    # A prolog is a few hundred characters; past this window the parser's own report decides (see _walk).
    text = content[:PROLOG_BYTES_MAX].decode(codec, errors="replace").lstrip("\ufeff")
    position = 0
    while item := _PROLOG_ITEM.match(text, position):
        position = item.end()
    if text[position : position + 9].upper() == "<!DOCTYPE":
        _raise_dtd()


def _raise_dtd() -> NoReturn:
    raise XmlRefused(
        "dtd_refused", "The XML has a document type declaration (DOCTYPE), which is not accepted; remove it."
    )


def _build(content: bytes) -> Element:
    events = etree.iterparse(
        io.BytesIO(content),
        events=("start", "end"),
        load_dtd=False,
        no_network=True,
        resolve_entities=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = _walk(events)
    except etree.XMLSyntaxError as exc:
        raise _malformed(exc) from exc
    except (LookupError, ValueError, AssertionError) as exc:
        raise XmlRefused(
            "malformed_xml", f"The XML cannot be read: {str(exc) or type(exc).__name__}."
        ) from exc
    if root is None:
        raise XmlRefused("malformed_xml", "The XML has no root element.")
    return root


def _walk(
    events: "etree.iterparse[tuple[str, etree._Element]]",  # pyright: ignore[reportPrivateUsage]
) -> etree._Element | None:  # pyright: ignore[reportPrivateUsage]
    root = None
    depth = elements = 0
    for event, element in events:
        if event == "end":
            depth -= 1
            continue
        depth += 1
        elements += 1
        if root is None:
            root = element
            _refuse_internal_dtd(root)
        _cap(depth, elements, len(element.attrib))
    return root


def _refuse_internal_dtd(root: Any) -> None:
    """Catch a declaration that stood behind a prolog longer than the searched window."""
    if root.getroottree().docinfo.internalDTD is not None:
        _raise_dtd()


def _cap(depth: int, elements: int, attributes: int) -> None:
    if depth > DEPTH_MAX:
        raise XmlRefused("xml_too_deep", f"The XML is nested deeper than {DEPTH_MAX} levels.")
    if attributes > ATTRIBUTES_MAX:
        raise XmlRefused("too_many_attributes", f"An element has more than {ATTRIBUTES_MAX} attributes.")
    if elements > ELEMENTS_MAX:
        raise XmlRefused("too_many_elements", f"The XML has more than {ELEMENTS_MAX} elements.")


def _malformed(exc: Any) -> XmlRefused:
    reason = " ".join((exc.msg or "it is not well-formed").split())[:300]
    if "depth" in reason.lower():
        return XmlRefused("xml_too_deep", f"The XML is nested too deeply: {reason}.")
    if "huge" in reason.lower() or "too long" in reason.lower():
        return XmlRefused("xml_too_large", f"The XML holds a value that is too large: {reason}.")
    place = "" if "line " in reason or not exc.lineno else f", line {exc.lineno}"
    return XmlRefused("malformed_xml", f"The XML is not well-formed: {reason}{place}.")
