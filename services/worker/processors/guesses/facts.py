"""Chooses an invoice's facts from the lines of its pages."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TypeVar

import msgspec

from services.worker.processors.guesses.labels import (
    DATE,
    DATE_DAY_FIRST,
    NET,
    NUMBER,
    NUMBER_BELOW_TITLE,
    PAYABLE,
    TITLE,
    TOTAL,
    Labels,
)
from services.worker.processors.guesses.layout import Cell, Line
from services.worker.processors.guesses.seller import seller_of
from services.worker.processors.guesses.values import (
    DateOrder,
    amount_of,
    code_of,
    date_of,
    date_order,
    is_weightless,
    number_of,
)

Value = TypeVar("Value")
Amount = tuple[str, str | None]

#: How far below its label a value may stand, in lines.
BELOW_LINES_MAX = 2
TITLE_LINES_MAX = 3
#: Between a total's label and its amount there may be a currency and a percentage.
RIGHT_CELLS_MAX = 3

_DOLLAR_WORDS = re.compile(r"\bUS\s?dollars?\b|\bU\.?S\.?D\b", re.IGNORECASE)
_OTHER_DOLLARS = re.compile(
    r"\b(?:CAD|AUD|NZD|HKD|SGD|MXN|COP|CLP|ARS|UYU|DOP|BRL|TWD)\b|\bpesos?\b|\b(?:RFC|CUIT|NIT|RUT|ABN|GSTIN)\b"
)
_CODES = re.compile(r"\b(USD|EUR|GBP|CHF|MXN|COP|PEN|CLP|CAD|AUD|SEK|NOK|DKK|PLN|HUF|CZK|BRL|ARS)\b")


class Guesses(msgspec.Struct, frozen=True, kw_only=True):
    """What the text says, each null where it is not said clearly. Amounts are decimal strings."""

    number: str | None = None
    issue_date: str | None = None
    seller: str | None = None
    currency: str | None = None
    net: str | None = None
    total: str | None = None
    payable: str | None = None


def guess(lines: list[Line]) -> Guesses | None:
    """Guess the facts of an invoice; None where the text says nothing of the kind."""
    text = "\n".join(" ".join(cell.text for cell in line) for line in lines)
    total, payable = _amount(lines, TOTAL), _amount(lines, PAYABLE)
    net = _amount(lines, NET)
    number, issued = _number(lines), _issue_date(lines, date_order(text))
    if number is None and issued is None and total is None and payable is None:
        return None
    stated = total or payable
    return Guesses(
        number=number,
        issue_date=issued,
        seller=seller_of(lines),
        currency=_currency(text, [found for found in (total, payable, net) if found]),
        net=net[0] if net and stated and _plausible(net[0], stated[0]) else None,
        total=stated[0] if stated else None,
        payable=payable[0] if payable else None,
    )


def _labelled(
    lines: list[Line], label: re.Pattern[str], read: Callable[[str], Value | None]
) -> Iterator[Value]:
    """Give the value of every cell that begins with the label: behind it, to its right, or below it."""
    for index, place, rest in _found(lines, label):
        line = lines[index]
        right = line[place + 1].text if place + 1 < len(line) else ""
        texts = (rest, right, *_below(lines, index, line[place]))
        value = next((value for text in texts if text and (value := read(text)) is not None), None)
        if value is not None:
            yield value


def _found(lines: list[Line], label: re.Pattern[str]) -> Iterator[tuple[int, int, str]]:
    """Give line, cell and the cell's rest wherever a cell begins with the label."""
    for index, line in enumerate(lines):
        for place, cell in enumerate(line):
            if found := label.match(cell.text):
                yield index, place, cell.text[found.end() :]


def _below(lines: list[Line], index: int, label: Cell) -> Iterator[str]:
    """Give the nearest cell below the label that shares its column, if nothing else comes between."""
    for line in lines[index + 1 : index + 1 + BELOW_LINES_MAX]:
        for cell in line:
            if cell.left < label.right and cell.right > label.left:
                yield cell.text
                return


def _number(lines: list[Line]) -> str | None:
    for label in NUMBER:
        for number in _labelled(lines, label, number_of):
            return number
    for index, line in enumerate(lines):
        if any(TITLE.fullmatch(cell.text) for cell in line):
            return _number_below_title(lines[index : index + 1 + TITLE_LINES_MAX])
    return None


def _number_below_title(lines: list[Line]) -> str | None:
    for cell in (cell for line in lines for cell in line):
        found = NUMBER_BELOW_TITLE.match(cell.text)
        number = number_of(cell.text[found.end() :]) if found else None
        if number is not None:
            return number
    return None


def _issue_date(lines: list[Line], order: DateOrder | None) -> str | None:
    for label in DATE:
        known: DateOrder | None = order or ("dmy" if label in DATE_DAY_FIRST else None)
        for date in _labelled(lines, label, lambda text, known=known: date_of(text, known)):
            return date
    # "Rechnung Nr. 471102 vom 05.03.2018": the date stands behind the number.
    for label in NUMBER:
        for _, _, rest in _found(lines, label):
            date = date_of(rest, order) if number_of(rest) else None
            if date is not None:
                return date
    return None


def _amount(lines: list[Line], labels: Labels) -> Amount | None:
    """Return the amount of the most specific label.

    Where a label occurs with several amounts (page totals, sections), the last must also be the largest.
    """
    for label in labels:
        found = list(_amounts(lines, label))
        if not found:
            continue
        largest = max(abs(Decimal(value)) for value, _ in found)
        return found[-1] if abs(Decimal(found[-1][0])) == largest else None
    return None


def _amounts(lines: list[Line], label: re.Pattern[str]) -> Iterator[Amount]:
    for index, place, rest in _found(lines, label):
        if not is_weightless(rest):
            continue
        line = lines[index]
        texts = [rest, *(cell.text for cell in line[place + 1 : place + 1 + RIGHT_CELLS_MAX])]
        # A heading in a row of headings has a column below it, not a value.
        if len(line) == 1:
            texts += _below(lines, index, line[place])
        amount = next((amount for text in texts if (amount := amount_of(text))), None)
        if amount is not None:
            yield amount


def _plausible(net: str, total: str) -> bool:
    """A net amount is not above its total, nor so far below that no tax explains it (Hungary: 27 %)."""
    ours, whole = abs(Decimal(net)), abs(Decimal(total))
    return ours <= whole <= ours * Decimal("1.4")


def _currency(text: str, amounts: list[Amount]) -> str | None:
    for _, sign in amounts:
        code = code_of(sign)
        if code is not None:
            return code
    signs = {sign for _, sign in amounts if sign}
    if signs == {"$"}:
        return _dollar(text)
    codes = set(_CODES.findall(text))
    if len(codes) == 1:
        return codes.pop()
    return "EUR" if not signs and not codes and "€" in text else None


def _dollar(text: str) -> str | None:
    """A bare dollar sign is the US dollar where the text says so or names no other dollar or peso."""
    if _DOLLAR_WORDS.search(text):
        return "USD"
    others = {code for code in _CODES.findall(text) if code in ("MXN", "COP", "CLP", "CAD", "AUD", "ARS")}
    if len(others) == 1:
        return others.pop()
    return None if _OTHER_DOLLARS.search(text) else "USD"
