"""How the dialects read one value: by local name, bounded, and null where there is nothing.

Namespaces are checked once, at the root; below it the local names are unambiguous in every dialect, and
generators in the wild get prefixes and namespace versions wrong more often than names.
"""

import datetime
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal

from services.worker.processors.xml_tree import Element, XmlRefused

#: Names and numbers; longer ones are cut.
TEXT_CHARS_MAX = 1_000
#: Descriptions and notes.
PROSE_CHARS_MAX = 4_000
#: Lines kept in a result; ``line_count`` tells how many there are.
LINES_MAX = 5_000
#: Facturae's batches and FatturaPA's bodies.
DOCUMENTS_MAX = 1_000

_AMOUNT = re.compile(r"[+-]?(\d{1,30}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,2})?", re.ASCII)
_DATE_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?!\d)", re.ASCII)
_DATE_PACKED = re.compile(r"(\d{4})(\d{2})(\d{2})(?=\d{4}$|\d{6}$|$)", re.ASCII)
_DATE_DAY_FIRST = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})$", re.ASCII)


def local(element: Element) -> str:
    """Return the element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def namespace(element: Element) -> str:
    """Return the element's namespace, empty where there is none."""
    return element.tag[1:].partition("}")[0] if element.tag.startswith("{") else ""


def children(element: Element | None, name: str) -> Iterator[Element]:
    """Give the direct children of that local name; several names may be joined by ``|``."""
    if element is None:
        return
    names = name.split("|")
    for child in element:
        if local(child) in names:
            yield child


def at(element: Element | None, path: str) -> Element | None:
    """Return the first element at a path of local names (``"Party/PartyName"``), or None."""
    return next(every(element, path), None)


def every(element: Element | None, path: str) -> Iterator[Element]:
    """Give all elements at a path of local names."""
    name, _, rest = path.partition("/")
    for child in children(element, name):
        if rest:
            yield from every(child, rest)
        else:
            yield child


def every_document(element: Element, path: str) -> list[Element]:
    """Return a batch's documents, or refuse a batch that is too large to be read as one file."""
    found = list(every(element, path))
    if len(found) > DOCUMENTS_MAX:
        raise XmlRefused(
            "too_many_invoices",
            f"The file carries {len(found)} invoices and at most {DOCUMENTS_MAX} are read; split it.",
        )
    return found


def tidy(value: str | None, limit: int = TEXT_CHARS_MAX) -> str | None:
    """Collapse white space and cut; nothing but white space is None."""
    return " ".join((value or "").split())[:limit].rstrip() or None


def text(element: Element | None, path: str, limit: int = TEXT_CHARS_MAX) -> str | None:
    """Return the first non-empty text at a path."""
    return first(tidy(found.text, limit) for found in every(element, path))


def attribute(element: Element | None, name: str) -> str | None:
    """Return an attribute's text, or None where it is absent or blank."""
    return None if element is None else tidy(element.get(name))


def first(values: Iterable[str | None]) -> str | None:
    """Return the first value that is there; ``"0"`` is there."""
    return next((value for value in values if value is not None), None)


def unique(values: Iterable[str | None]) -> list[str]:
    """Keep the values that are there, each once, in order."""
    return list(dict.fromkeys(value for value in values if value is not None))


def amount(value: str | None) -> str | None:
    """Return a number in plain notation with the source's precision, or None where it is no number."""
    stripped = (value or "").strip()
    if not _AMOUNT.fullmatch(stripped):
        return None
    return format(Decimal(stripped), "f")


def amount_at(element: Element | None, path: str) -> str | None:
    """Return the amount at a path."""
    return amount(text(element, path))


def total_of(values: Iterable[str | None]) -> str | None:
    """Add amounts up; None where there are none."""
    there = [Decimal(value) for value in values if value is not None]
    return format(sum(there[1:], there[0]), "f") if there else None


def percent(fraction: str | None) -> str | None:
    """Turn ``0.160000`` into ``16.0000``."""
    return None if fraction is None else format(Decimal(fraction).scaleb(2), "f")


def date(value: str | None) -> str | None:
    """Return an ISO date from ``2021-01-13T…``, ``20210113`` or ``13/01/2021``; None where impossible."""
    stripped = (value or "").strip()
    for pattern in (_DATE_ISO, _DATE_PACKED):
        if found := pattern.match(stripped):
            return _valid(*found.groups())
    if found := _DATE_DAY_FIRST.match(stripped):
        day, month, year = found.groups()
        return _valid(year, month, day)
    return None


def date_at(element: Element | None, path: str) -> str | None:
    """Return the date at a path."""
    return date(text(element, path))


def _valid(year: str, month: str, day: str) -> str | None:
    try:
        return datetime.date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None
