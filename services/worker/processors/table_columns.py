"""What is in a column: its type, how full it is, its extremes; all of it in bounded memory."""

import re
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec

EXAMPLES_MAX = 3
EXAMPLE_CHARS_MAX = 100
#: Distinct values remembered over all columns together, and in one.
DISTINCT_TOTAL_MAX = 200_000
DISTINCT_COLUMN_MAX = 1_000
DISTINCT_CHARS_MAX = 200
#: Below this share of agreeing values a column is text.
TYPE_SHARE_MIN = 0.95

_BOOL = frozenset(
    {"true", "false", "yes", "no", "sí", "si", "verdadero", "falso", "ja", "nein", "oui", "non"}
)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,'  ]\d{3})+([.,]\d{1,15})?")
_DECIMAL = re.compile(r"[+-]?(0|[1-9]\d{0,17})?[.,]\d{1,18}([eE][+-]?\d{1,2})?")
_YEAR = r"(?:1[5-9]|2[01])\d\d"
_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_TIME = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
_DATE = re.compile(
    rf"(?:{_YEAR}([-/.]){_MONTH}\1{_DAY}"
    rf"|{_DAY}([-/.]){_MONTH}\2(?:{_YEAR}|\d\d)"
    rf"|{_MONTH}/{_DAY}/(?:{_YEAR}|\d\d)){_TIME}"
)


def type_of(value: str) -> str:
    """Guess one non-empty cell's type: ``integer``, ``decimal``, ``date``, ``bool`` or ``text``.

    A number with leading zeros is an identifier, so text.
    """
    if not value[0].isdigit() and value[0] not in "+-.,":
        return "bool" if value.lower() in _BOOL else "text"
    if _INTEGER.fullmatch(value):
        return "integer"
    if _DATE.fullmatch(value):
        return "date"
    if number(value) is not None:
        return "decimal"
    return "text"


def number(value: str) -> Decimal | None:
    """Read a number with a decimal point or comma and grouped thousands.

    The last separator is the decimal one, unless it occurs twice (``1.234.567``).
    """
    if _INTEGER.fullmatch(value):
        return Decimal(value)
    if _DECIMAL.fullmatch(value):
        return Decimal(value.replace(",", "."))
    if not _GROUPED.fullmatch(value):
        return None
    separators = re.findall(r"[.,]", value)
    last = separators[-1] if separators and separators.count(separators[-1]) == 1 else ""
    whole, _, fraction = value.rpartition(last) if last else (value, "", "")
    digits = re.sub(r"[^\d+-]", "", whole)
    return Decimal(f"{digits}.{fraction}" if fraction else digits)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """The profile of one column over the records that were profiled."""

    #: Unique within the table: a repeated header gets ``_2``, a blank one is ``column_n``.
    name: str
    #: The header as written, null where the table has no header or the column lies beyond it.
    header: str | None
    #: ``integer``, ``decimal``, ``date``, ``bool``, ``text`` or ``empty``.
    type: str
    non_empty: int
    #: How many values do not fit ``type`` (at most 5 %).
    exceptions: int
    distinct: int
    #: Whether ``distinct`` is exact; counting stops at a limit.
    distinct_exact: bool
    min: str | None = None
    max: str | None = None
    examples: list[str] = []


class ColumnCounter:
    """Collects one column, cell by cell."""

    __slots__ = (
        "_distinct",
        "_distinct_max",
        "_filled",
        "_high",
        "_low",
        "_types",
        "examples",
        "overflown",
    )

    def __init__(self, distinct_max: int) -> None:
        self._distinct: set[str] = set()
        self._distinct_max = distinct_max
        self._types: Counter[str] = Counter()
        self._low: Decimal | None = None
        self._high: Decimal | None = None
        self.examples: list[str] = []
        self._filled = 0
        self.overflown = False

    def add(self, cell: str) -> None:
        """Count one cell; white space alone is empty."""
        value = cell.strip()
        if not value:
            return
        self._filled += 1
        kind = type_of(value)
        self._types[kind] += 1
        if kind in ("integer", "decimal"):
            self._extend(number(value))
        self._remember(value)

    def profile(self, name: str, header: str | None) -> Column:
        """Close the column."""
        kind, exceptions = self._type()
        numeric = kind in ("integer", "decimal")
        return Column(
            name=name,
            header=header,
            type=kind,
            non_empty=self._filled,
            exceptions=exceptions,
            distinct=len(self._distinct),
            distinct_exact=not self.overflown,
            min=format(self._low, "f") if numeric and self._low is not None else None,
            max=format(self._high, "f") if numeric and self._high is not None else None,
            examples=self.examples,
        )

    def _extend(self, value: Decimal | None) -> None:
        if value is None:
            return
        self._low = value if self._low is None else min(self._low, value)
        self._high = value if self._high is None else max(self._high, value)

    def _remember(self, value: str) -> None:
        key = value[:DISTINCT_CHARS_MAX]
        if key in self._distinct:
            return
        if len(self._distinct) >= self._distinct_max:
            self.overflown = True
            return
        self._distinct.add(key)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(value[:EXAMPLE_CHARS_MAX])

    def _type(self) -> tuple[str, int]:
        if not self._filled:
            return "empty", 0
        counts = self._types.copy()
        if counts["decimal"]:
            counts["decimal"] += counts.pop("integer", 0)
        kind, count = max(counts.items(), key=lambda item: (item[1], item[0]))
        if kind == "text" or count < self._filled * TYPE_SHARE_MIN:
            return "text", 0
        return kind, self._filled - count


def unique_names(header: list[str], width: int) -> list[str]:
    """Name every column: blank ones by position, repeated ones with a number behind."""
    names: list[str] = []
    taken: set[str] = set()
    following: Counter[str] = Counter()
    for index in range(width):
        base = " ".join(header[index].split())[:EXAMPLE_CHARS_MAX] if index < len(header) else ""
        base = base or f"column_{index + 1}"
        name = base
        while name in taken:
            following[base] += 1
            name = f"{base}_{following[base] + 1}"
        taken.add(name)
        names.append(name)
    return names


def looks_like_header(first: list[str], body: list[list[str]]) -> bool:
    """Whether the first record names the columns instead of being one of the records.

    Each column whose later cells have a type of their own votes: for a header where the first cell is not
    of that type, against it where it is. Without a vote, text is a header and anything else is not.
    """
    cells = [cell.strip() for cell in first]
    if not any(cells):
        return False
    votes = sum(_vote(cell, index, body) for index, cell in enumerate(cells) if cell)
    if votes:
        return votes > 0
    return all(type_of(cell) in ("text", "bool") for cell in cells if cell)


def _vote(cell: str, index: int, body: list[list[str]]) -> int:
    kinds: Counter[Any] = Counter(
        type_of(row[index].strip()) for row in body if index < len(row) and row[index].strip()
    )
    if not kinds:
        return 0
    kind, count = kinds.most_common(1)[0]
    if kind == "text" or count < kinds.total() * TYPE_SHARE_MIN:
        return 0
    own = type_of(cell)
    numeric = ("integer", "decimal")
    return -1 if own == kind or (own in numeric and kind in numeric) else 1
