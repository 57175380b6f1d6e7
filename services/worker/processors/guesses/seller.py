"""Guesses who issued the document, from legal forms, web addresses and registration numbers."""

import re
from collections import Counter, defaultdict

from services.worker.processors.guesses.labels import BUYER, NAME, OWN_IDS, SELLER
from services.worker.processors.guesses.layout import Cell, Line

NAME_CHARS_MAX = 80
#: Evidence a name needs, and its lead over the next one.
SCORE_MIN = 2
LEAD_MIN = 1
#: An address block is about this long.
BLOCK_LINES = 12
DOMAIN_CHARS_MIN = 5
#: A short piece that begins with a capital is taken whole; from a sentence only its capitalised end is.
WHOLE_WORDS_MAX = 6
HEADED_LINES = 4

_FORM = re.compile(
    r"^(?P<name>.{2,70}?[,\s]\s*(?:GmbH(?:\s*(?:&|\+|und)\s*Co\.?\s*KG)?|AG|KG|SE|UG|e\.\s?K\.|OHG"
    r"|B\.?V\.?|N\.?V\.?|V\.?O\.?F\.?|Inc\.?|LLC|L\.L\.C\.|Ltd\.?|Limited|PLC|Corp\.?|Corporation|Pty\.?\s+Ltd\.?"
    r"|S\.?\s?A\.?\s+de\s+C\.?\s?V\.?|S\.?\s?de\s?R\.?\s?L\.?(?:\s+de\s+C\.?\s?V\.?)?|S\.?A\.?S\.?|S\.?A\.?"
    r"|S\.?L\.?U?\.?|SARL|S\.à\.?\s?r\.l\.|EURL|S\.?p\.?A\.?|S\.?r\.?l\.?|A/S|ApS|AB|AS|Oy|Ltda\.?|SpA))$"
)
_CONNECTORS = frozenset(
    {"&", "+", "-", "de", "del", "la", "y", "e", "und", "of", "and", "the", "et", "van", "der"}
)
_SPLIT = re.compile(r"\s+[-–|·•]\s+")
_DOMAIN = re.compile(
    r"(?:@|https?://|www\.)(?:www\.)?([a-z0-9-]+(?:\.[a-z0-9-]+)+)|\b([a-z0-9-]+(?:\.[a-z0-9-]+)*\.com)/"
)
#: Everyone's mail and nobody's company.
_FREE_MAIL = frozenset({"gmail", "hotmail", "outlook", "yahoo", "icloud", "example", "proton", "protonmail"})


def seller_of(lines: list[Line]) -> str | None:
    """Return the issuer's name where the evidence is clear."""
    headed = _headed(lines)
    if headed is not None:
        return headed
    domains = _domains(lines)
    scores: dict[str, int] = defaultdict(int)
    counts: Counter[str] = Counter()
    for index, line in enumerate(lines):
        for cell in line:
            for name in _names(cell, domains):
                counts[name] += 1
                scores[name] = max(scores[name], _evidence(name, domains) + _block(lines, index, cell))
                if _is_buyer(lines, index, cell):
                    scores[name] -= 5
    for name, count in counts.items():
        scores[name] += 1 if count > 1 else 0
    ranking = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    if not ranking or ranking[0][1] < SCORE_MIN:
        return None
    if len(ranking) > 1 and ranking[0][1] - ranking[1][1] < LEAD_MIN:
        return None
    return ranking[0][0]


def _headed(lines: list[Line]) -> str | None:
    """Return the name under a heading such as ``Seller``: behind ``Name:`` or standing alone."""
    for index, line in enumerate(lines):
        for cell in line:
            if SELLER.fullmatch(cell.text):
                return _name_under(cell, lines[index + 1 : index + 1 + HEADED_LINES])
    return None


def _name_under(heading: Cell, lines: list[Line]) -> str | None:
    column = [(line, c) for line in lines for c in line if abs(c.left - heading.left) < heading.height * 2]
    for line, cell in column:
        label = next((found for pattern in NAME if (found := pattern.match(cell.text))), None)
        if label is None:
            continue
        right = next((c.text for c in line if c.left >= cell.right), "")
        return (cell.text[label.end() :] or right)[:NAME_CHARS_MAX] or None
    if column and not any(c.isdigit() or c == ":" for c in column[0][1].text):
        return column[0][1].text[:NAME_CHARS_MAX]
    return None


def _names(cell: Cell, domains: set[str]) -> list[str]:
    """Give the company names in a cell: those with a legal form, or spelled like a web address."""
    names: list[str] = []
    for piece in _SPLIT.split(cell.text[: NAME_CHARS_MAX * 3]):
        bare = piece.strip(" :;")
        found = _FORM.match(_capitalised_end(bare))
        if found:
            names.append(found["name"])
        elif _slug(bare) in domains and " " in bare and len(bare) <= NAME_CHARS_MAX:
            names.append(bare)
    return names


def _capitalised_end(text: str) -> str:
    """Cut ``sold by Amazon Web Services, Inc.`` down to the name."""
    words = text.split()
    start = len(words)
    while start and (
        words[start - 1][:1].isupper() or words[start - 1] in _CONNECTORS or _mixed(words[start - 1])
    ):
        start -= 1
    while start < len(words) and words[start] in _CONNECTORS:
        start += 1
    return " ".join(words[start:])


def _mixed(word: str) -> bool:
    """Has a capital somewhere: ``iVive`` and ``eBay`` are names too."""
    return any(c.isupper() for c in word) and not word.endswith(":")


def _domains(lines: list[Line]) -> set[str]:
    found: set[str] = set()
    for line in lines:
        for cell in line:
            for match in _DOMAIN.finditer(cell.text.lower()):
                parts = (match[1] or match[2]).split(".")[:-1]
                found |= {part.replace("-", "") for part in parts}
    return {part for part in found if len(part) >= DOMAIN_CHARS_MIN and part not in _FREE_MAIL}


def _evidence(name: str, domains: set[str]) -> int:
    slug = _slug(name)
    if slug in domains:
        return 3
    return 2 if any(slug.startswith(domain) for domain in domains) else 0


def _block(lines: list[Line], index: int, cell: Cell) -> int:
    """Registration numbers in the same column, shortly below, speak for the issuer."""
    for line in lines[index + 1 : index + 1 + BLOCK_LINES]:
        for other in line:
            if abs(other.left - cell.left) < cell.height and OWN_IDS.match(other.text):
                return 2
    return 0


def _is_buyer(lines: list[Line], index: int, cell: Cell) -> bool:
    if BUYER.match(cell.text):
        return True
    above = lines[max(0, index - 2) : index]
    nearby = (other for line in above for other in line if abs(other.left - cell.left) < cell.height * 2)
    left = (other for other in lines[index] if other.right <= cell.left)
    return any(BUYER.match(other.text) for other in (*nearby, *left))


def _slug(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())
