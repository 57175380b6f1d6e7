"""Reads dates, amounts, numbers and currencies as invoices print them in five languages."""

import datetime
import re
from typing import Literal

DateOrder = Literal["dmy", "mdy"]

_MONTHS = (
    ("january", "jan", "enero", "ene", "januar", "januari", "janvier", "janv", "jänner", "gennaio"),
    ("february", "feb", "febrero", "februar", "februari", "février", "fevrier", "févr", "febbraio"),
    ("march", "mar", "marzo", "märz", "mrz", "maart", "mrt", "mars"),
    ("april", "apr", "abril", "abr", "avril", "avr", "aprile"),
    ("may", "mayo", "mai", "mei", "maggio"),
    ("june", "jun", "junio", "juni", "juin", "giugno"),
    ("july", "jul", "julio", "juli", "juillet", "juil", "luglio"),
    ("august", "aug", "agosto", "ago", "augustus", "août", "aout"),
    ("september", "sep", "sept", "septiembre", "setiembre", "septembre", "settembre"),
    ("october", "oct", "octubre", "oktober", "okt", "octobre", "ottobre"),
    ("november", "nov", "noviembre", "novembre"),
    ("december", "dec", "diciembre", "dic", "dezember", "dez", "décembre", "decembre", "déc", "dicembre"),
)
_MONTH_OF = {name: index for index, names in enumerate(_MONTHS, start=1) for name in names}
_NAME = "|".join(sorted(_MONTH_OF, key=len, reverse=True))

_ISO = re.compile(r"(?<!\d)(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_NUMERIC = re.compile(r"(?<!\d)(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?!\d)")
_DAY_NAME = re.compile(
    rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th|er|\.|º)?\s*(?:de\s+|-)?\s*({_NAME})\b\.?,?\s*(?:de[l]?\s+|-)?(\d{{4}})",
    re.IGNORECASE,
)
_NAME_DAY = re.compile(rf"\b({_NAME})\b\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?\s*,?\s+(\d{{4}})", re.IGNORECASE)

_CURRENCIES = "USD|EUR|GBP|CHF|MXN|COP|PEN|CLP|CAD|AUD|SEK|NOK|DKK|PLN|HUF|CZK|BRL|ARS"
_SIGN = rf"(?:US\$|C\$|A\$|R\$|S/\.?|[$€£¥]|(?<![A-Za-z])(?:{_CURRENCIES})(?![A-Za-z]))"
_DIGITS = r"\d{1,3}(?:[.,'  ]\d{3})+|\d+"
_AMOUNT = re.compile(
    rf"(?<![\w.,/-])(?P<outer>[-−])?(?:(?P<before>{_SIGN})\s?)?(?P<inner>[-−])?"
    rf"(?P<whole>{_DIGITS})(?:[.,](?P<cents>\d{{2}}))?(?![\d/%]|[.,]\d|\s?%)"
    rf"(?:\s?(?P<after>{_SIGN})(?!\s?[-−\d]))?"
)
#: What may stand between a label and its amount: a date, a sign, a word of no weight.
_WEIGHTLESS = re.compile(
    rf"{_SIGN}|\b(?:on|in|the|is|of|at|am|zum|vom|op|le|du|al|el|en|per|incl\w*|inkl\w*|inc|con|mit|ttc|us|dollars?"
    r"|euros?|vat|tax|btw|iva|mwst|ust|tva|gst)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"#?\s*([A-Za-z0-9][A-Za-z0-9/_.\-]{0,39})")

_CODES = {
    "US$": "USD",
    "C$": "CAD",
    "A$": "AUD",
    "R$": "BRL",
    "€": "EUR",
    "£": "GBP",
    "S/": "PEN",
    "S/.": "PEN",
}


def date_of(text: str, order: DateOrder | None) -> str | None:
    """Return the first date in the text as ISO; None where day and month cannot be told apart."""
    if found := _ISO.search(text):
        return _iso(found[1], int(found[2]), found[3])
    if found := _DAY_NAME.search(text):
        return _iso(found[3], _MONTH_OF[found[2].lower()], found[1])
    if found := _NAME_DAY.search(text):
        return _iso(found[3], _MONTH_OF[found[1].lower()], found[2])
    if found := _NUMERIC.search(text):
        return _ordered(int(found[1]), found[2], int(found[3]), found[4], order)
    return None


def date_order(text: str) -> DateOrder | None:
    """Return how the document writes dates, if one of them leaves no doubt and none disagrees."""
    orders: set[DateOrder] = set()
    for found in _NUMERIC.finditer(text):
        if int(found[1]) > 12 >= int(found[3]):
            orders.add("dmy")
        elif int(found[3]) > 12 >= int(found[1]):
            orders.add("mdy")
    return orders.pop() if len(orders) == 1 else None


def amount_of(text: str) -> tuple[str, str | None] | None:
    """Return the last amount in the text, with its currency where one is printed beside it.

    An amount has two decimals, or a currency right beside it; anything else may be a count or a year.
    """
    for found in reversed(list(_AMOUNT.finditer(text))):
        sign = found["before"] or found["after"]
        if found["cents"] is None and sign is None:
            continue
        whole = re.sub(r"\D", "", found["whole"])
        digits = whole.lstrip("0") or "0"
        value = digits + ("" if found["cents"] is None else f".{found['cents']}")
        return ("-" if found["outer"] or found["inner"] else "") + value, sign
    return None


def is_weightless(text: str) -> bool:
    """Whether a label's rest leaves its meaning alone: ``ON August 3, 2014`` does, ``of discounts`` not."""
    for pattern in (_ISO, _DAY_NAME, _NAME_DAY, _NUMERIC, _AMOUNT, _WEIGHTLESS):
        text = pattern.sub(" ", text)
    return not any(c.isalpha() for c in text)


def number_of(text: str) -> str | None:
    """Return a document number at the text's start: a word with a digit in it that is no date or price."""
    found = _NUMBER.match(text.strip())
    if not found:
        return None
    word = found[1].rstrip(".-/_")
    plain = any(c.isdigit() for c in word) and not _ISO.fullmatch(word) and not _NUMERIC.fullmatch(word)
    return word if plain and not re.fullmatch(r"\d+[.,]\d{2}", word) else None


def code_of(sign: str | None) -> str | None:
    """Return a currency sign's ISO code; None for the bare dollar, which many countries use."""
    if sign is None:
        return None
    return _CODES.get(sign, sign if sign.isalpha() else None)


def _ordered(first: int, separator: str, second: int, year: str, order: DateOrder | None) -> str | None:
    if first > 12 or second == first or separator == "." or order == "dmy":
        return _iso(year, second, str(first))
    if second > 12 or order == "mdy":
        return _iso(year, first, str(second))
    return None


def _iso(year: str, month: int, day: str) -> str | None:
    try:
        return datetime.date(int(year), month, int(day)).isoformat()
    except ValueError:
        return None
