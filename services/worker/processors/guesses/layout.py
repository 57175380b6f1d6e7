"""A page's text as a reader sees it: lines from top to bottom, each cut into cells at wide gaps.

A PDF's own order is the order of drawing; labels and their values may lie pages of text apart.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pypdfium2
from pypdfium2 import raw

#: A page of dense print has 8,000.
CHARS_MAX = 20_000
#: Labels and values are short; patterns need not see more of a paragraph.
CELL_CHARS_MAX = 300
LINES_MAX = 400
CELLS_MAX = 40
#: In line heights: nearer characters belong to one cell, and a narrow gap within it is a space.
CELL_GAP = 1.0
SPACE_GAP = 0.25


class Cell(msgspec.Struct, frozen=True):
    """A run of text on one line; the unit is the PDF point, with the origin at the bottom left."""

    text: str
    left: float
    right: float
    middle: float
    height: float


Line = list[Cell]


class _Run(msgspec.Struct):
    """A cell while it grows."""

    text: str
    left: float
    right: float
    middle: float
    height: float

    def takes(self, left: float, middle: float) -> bool:
        beside = -self.height / 2 <= left - self.right <= self.height * CELL_GAP
        fits = len(self.text) < CELL_CHARS_MAX
        return fits and beside and abs(middle - self.middle) < self.height / 2

    def closed(self) -> Cell:
        return Cell(self.text.strip(), self.left, self.right, self.middle, self.height)


def lines_of(text_page: Any) -> list[Line]:
    """Return the page's lines; the argument is a ``pypdfium2.PdfTextPage``."""
    cells = [run.closed() for run in _runs(text_page) if run.text.strip()]
    cells.sort(key=lambda cell: -cell.middle)
    lines: list[Line] = []
    for cell in cells:
        above = lines[-1][0] if lines else None
        if above is not None and above.middle - cell.middle < min(above.height, cell.height) / 2:
            lines[-1].append(cell)
        else:
            lines.append([cell])
    return [sorted(line, key=lambda cell: cell.left)[:CELLS_MAX] for line in lines[:LINES_MAX]]


def _runs(text_page: Any) -> Iterator[_Run]:
    run: _Run | None = None
    spaced = False
    for character, (left, bottom, right, top) in _characters(text_page):
        if character.isspace() or not character.isprintable():
            spaced = True
            continue
        middle, height = (top + bottom) / 2, max(top - bottom, 1.0)
        if run is not None and run.takes(left, middle):
            gap = spaced or left - run.right > run.height * SPACE_GAP
            run.text += f" {character}" if gap else character
            run.right = max(run.right, right)
        else:
            if run is not None:
                yield run
            run = _Run(character, left, right, middle, height)
        spaced = False
    if run is not None:
        yield run


def _characters(text_page: Any) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    for index in range(min(text_page.count_chars(), CHARS_MAX)):
        code = raw.FPDFText_GetUnicode(text_page, index)
        if not 0 < code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            continue
        try:
            # Loose boxes have the font's height, so a comma sits on the same line as a capital.
            yield chr(code), text_page.get_charbox(index, loose=True)
        except pypdfium2.PdfiumError:
            continue
