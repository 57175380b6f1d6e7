"""The ``table`` processor: what a delimited text file holds, record by record and column by column.

``data``::

    {"kind": "table", "encoding": "cp1252", "encoding_by": "fallback", "delimiter": ";", "quote": "\\"",
     "line_end": "\\r\\n", "records": 639, "blank_records": 0, "header": true, "header_record": 0,
     "first_record_width": 8, "rows": 638, "widths": {"8": 639}, "cell_chars_max": 22, "multiline_cells": 0,
     "records_profiled": 639, "column_count": 8, "columns": [Column ...], "preview": [[...] ...],
     "preview_truncated": false}

``records`` counts everything, the header and blank lines included; ``rows`` are the records after the header
that are not blank. ``widths`` says how many records have how many fields. The preview starts with the
header. Warnings: ``encoding_guessed``, ``ragged_rows``, ``profile_truncated``, ``columns_truncated``,
``widths_truncated``, ``records_truncated``, ``undecodable_bytes``.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from services.worker.processors.table_columns import (
    DISTINCT_COLUMN_MAX,
    DISTINCT_TOTAL_MAX,
    ColumnCounter,
    looks_like_header,
    unique_names,
)
from services.worker.processors.table_text import Dialect, TableRefused, read_dialect, records
from tanda.contracts.results import Failure, Result, SourceFile

#: Column profiles look at this many cells; the rest is only counted.
CELLS_PROFILED_MAX = 2_000_000
#: Some seconds' work; a spreadsheet ends at 1,048,576.
RECORDS_MAX = 5_000_000
#: The width of the widest spreadsheet (Excel's XFD).
COLUMNS_MAX = 16_384
WIDTHS_MAX = 100
PREVIEW_RECORDS = 20
PREVIEW_CHARS_MAX = 32_000
PREVIEW_CELL_CHARS_MAX = 200
PREVIEW_CELLS_MAX = 100
HEADER_SAMPLE_RECORDS = 100


class Table:
    """CSV, TSV and their kin.

    Failure codes: ``empty_file``, ``field_too_large``, ``record_too_large``, ``malformed_table``.
    """

    name = "table"
    version = "1"
    shares_child = True
    accepts = frozenset({"text/csv"})

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Profile the table; there are no options."""
        try:
            dialect = read_dialect(source.path)
            sample = islice(records(source.path, dialect), HEADER_SAMPLE_RECORDS)
            # A hostile record has millions of fields; a hundred of them are not kept whole.
            start = [record[:COLUMNS_MAX] for record in sample]
            if not any(start):
                return Failure(code="empty_file", message="The table has no records; upload another file.")
            tally = _Tally(start)
            for record in islice(records(source.path, dialect), RECORDS_MAX + 1):
                tally.add(record)
        except UnicodeError as exc:
            return Failure(code="malformed_table", message=f"The text cannot be decoded: {exc}.")
        except TableRefused as refused:
            return Failure(code=refused.code, message=refused.message)
        return Result(data=tally.data(dialect), warnings=tally.warnings(dialect))


class _Tally:
    """Everything counted in one pass over the records."""

    def __init__(self, start: list[list[str]]) -> None:
        self._header_record = _header_record(start)
        body = start[self._header_record + 1 :]
        self._has_header = looks_like_header(start[self._header_record], body)
        self._header = start[self._header_record] if self._has_header else []
        self._first_width = 0
        self._first = self._header_record + 1 if self._has_header else 0
        width = min(max(len(record) for record in start), COLUMNS_MAX)
        self._distinct_max = max(20, min(DISTINCT_COLUMN_MAX, DISTINCT_TOTAL_MAX // max(1, width)))
        self._columns: list[ColumnCounter] = []
        self._widths: Counter[int] = Counter()
        self._records = self._rows = self._blank = 0
        self._profiled = self._cells = 0
        self._cell_chars_max = self._multiline = 0
        self._preview: list[list[str]] = []
        self._preview_chars = 0
        self._preview_cut = self._replaced = self._cut = False

    def add(self, record: list[str]) -> None:
        index = self._records
        if index == RECORDS_MAX:
            self._cut = True
            return
        if index == 0:
            self._first_width = len(record)
        self._records += 1
        self._widths[len(record)] += 1
        if not record:
            self._blank += 1
        elif index >= self._first:
            self._rows += 1
        for cell in record:
            self._cell_chars_max = max(self._cell_chars_max, len(cell))
            if "\n" in cell or "\r" in cell:
                self._multiline += 1
        if index < PREVIEW_RECORDS:
            self._show(record)
        self._profile(index, record)

    def _profile(self, index: int, record: list[str]) -> None:
        if self._cells >= CELLS_PROFILED_MAX:
            return
        self._profiled += 1
        self._cells += len(record)
        missing = min(len(record), COLUMNS_MAX) - len(self._columns)
        self._columns.extend(ColumnCounter(self._distinct_max) for _ in range(missing))
        if index < self._first:
            return
        for counter, cell in zip(self._columns, record, strict=False):
            counter.add(cell)
            self._replaced = self._replaced or "\ufffd" in cell

    def _show(self, record: list[str]) -> None:
        shown: list[str] = []
        self._preview_cut = self._preview_cut or len(record) > PREVIEW_CELLS_MAX
        for cell in record[:PREVIEW_CELLS_MAX]:
            cut = cell[:PREVIEW_CELL_CHARS_MAX]
            if self._preview_chars + len(cut) + 4 > PREVIEW_CHARS_MAX:
                self._preview_cut = True
                break
            self._preview_cut = self._preview_cut or len(cut) < len(cell)
            self._preview_chars += len(cut) + 4
            shown.append(cut)
        self._preview.append(shown)

    def data(self, dialect: Dialect) -> dict[str, Any]:
        names = unique_names(self._header, len(self._columns))
        headers = [*self._header, *[None] * (len(names) - len(self._header))]
        columns = [c.profile(n, h) for c, n, h in zip(self._columns, names, headers, strict=False)]
        widths = sorted(self._widths.items(), key=lambda item: (-item[1], item[0]))[:WIDTHS_MAX]
        return {
            "kind": "table",
            "encoding": dialect.encoding,
            "encoding_by": dialect.encoding_by,
            "delimiter": dialect.delimiter,
            "quote": dialect.quote,
            "line_end": dialect.line_end,
            "records": self._records,
            "blank_records": self._blank,
            "header": self._has_header,
            "header_record": self._header_record if self._has_header else None,
            "first_record_width": self._first_width,
            "rows": self._rows,
            "widths": {str(width): count for width, count in sorted(widths)},
            "cell_chars_max": self._cell_chars_max,
            "multiline_cells": self._multiline,
            "records_profiled": self._profiled,
            "column_count": max(self._widths),
            "columns": msgspec.to_builtins(columns),
            "preview": self._preview,
            "preview_truncated": self._preview_cut,
        }

    def warnings(self, dialect: Dialect) -> list[str]:
        told = {
            "encoding_guessed": dialect.encoding_by == "fallback",
            "undecodable_bytes": self._replaced,
            "ragged_rows": len(self._widths.keys() - {0}) > 1,
            "records_truncated": self._cut,
            "profile_truncated": self._profiled < self._records,
            "columns_truncated": max(self._widths) > COLUMNS_MAX,
            "widths_truncated": len(self._widths) > WIDTHS_MAX,
        }
        return [warning for warning, holds in told.items() if holds]


def _header_record(start: list[list[str]]) -> int:
    """Skip blank lines and comments above the header: ``#`` lines narrower than the table itself."""
    usual = Counter(len(record) for record in start if record).most_common(1)[0][0]
    for index, record in enumerate(start):
        comment = len(record) < usual and record and record[0].lstrip().startswith("#")
        if record and not comment:
            return index
    return 0
