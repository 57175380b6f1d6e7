"""Tables are read as a correct reader sees them, within bounds."""

from pathlib import Path
from typing import Any

import pytest

from services.worker.processors.table_columns import number, type_of
from services.worker.processors.table_text import FIELD_CHARS_MAX, RECORD_CHARS_MAX
from tanda.contracts.results import Failure, Result
from tests.processing import process


def data_of(folder: Path, text: str | bytes) -> dict[str, Any]:
    outcome = process("table", folder, text.encode() if isinstance(text, str) else text)
    assert isinstance(outcome, Result), outcome
    return outcome.data


def failure_of(folder: Path, text: str | bytes) -> Failure:
    outcome = process("table", folder, text.encode() if isinstance(text, str) else text)
    assert isinstance(outcome, Failure), outcome
    assert outcome.message.endswith((".", "?"))
    return outcome


@pytest.mark.parametrize(
    ("encoding", "found", "by"),
    [
        ("utf-8", "utf-8", "valid"),
        ("utf-8-sig", "utf-8-sig", "bom"),
        ("utf-16", "utf-16", "bom"),
        ("utf-32", "utf-32", "bom"),
        ("cp1252", "cp1252", "fallback"),
    ],
)
def test_the_encoding_ladder(tmp_path: Path, encoding: str, found: str, by: str) -> None:
    """A byte-order mark, else valid UTF-8, else cp1252."""
    data = data_of(tmp_path, "año,precio\nuno,2 €\n".encode(encoding))
    assert (data["encoding"], data["encoding_by"], data["preview"][0]) == (found, by, ["año", "precio"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_cuts_evenly(tmp_path: Path, delimiter: str) -> None:
    """Decimal commas and commas in text do not mislead."""
    rows = [
        ["id", "precio", "texto"],
        ["1", '"1,50"', '"a, b"'],
        ["2", '"22,75"', "c"],
        ["3", '"0,99"', '"d;e|f"'],
    ]
    data = data_of(tmp_path, "\r\n".join(delimiter.join(row) for row in rows))
    assert (data["delimiter"], data["widths"], data["line_end"]) == (delimiter, {"3": 4}, "\r\n")


def test_one_column_is_a_table(tmp_path: Path) -> None:
    """Nothing cuts it, so it stays whole."""
    data = data_of(tmp_path, "name\nAna\nLuis\n")
    assert (data["delimiter"], data["widths"], data["header"], data["rows"]) == (",", {"1": 3}, True, 2)


def test_columns_are_profiled(tmp_path: Path) -> None:
    """Type, filling, extremes and examples of each column."""
    data = data_of(
        tmp_path,
        "id;importe;fecha;pagado;código;vacío\n1;1.234,50;01/02/2024;sí;007;\n2;-3,25;02/02/2024;no;008;\n"
        "10;0,00;;sí;;\n",
    )
    seen = [(c["name"], c["type"], c["non_empty"], c["min"], c["max"]) for c in data["columns"]]
    assert seen == [
        ("id", "integer", 3, "1", "10"),
        ("importe", "decimal", 3, "-3.25", "1234.50"),
        ("fecha", "date", 2, None, None),
        ("pagado", "bool", 3, None, None),
        ("código", "text", 2, None, None),
        ("vacío", "empty", 0, None, None),
    ]
    assert data["columns"][3]["examples"] == ["sí", "no"]


def test_names_are_unique_and_never_empty(tmp_path: Path) -> None:
    """Repeated and blank headers; columns beyond the header; a header that looks like a made-up name."""
    data = data_of(tmp_path, "id,,id,id_2,id\n1,2,3,4,5,6\n")
    assert [c["name"] for c in data["columns"]] == ["id", "column_2", "id_2", "id_2_2", "id_3", "column_6"]
    assert [c["header"] for c in data["columns"]] == ["id", "", "id", "id_2", "id", None]


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        ("a,b\n1,2\n", True, 1),
        ("1,2\n3,4\n", False, 2),
        ("2023,2024\nyes,no\n", True, 1),
        ("Ana,Madrid\nLuis,Quito\n", True, 1),
        ("Ana,12\nLuis,30\nEva,7\n", False, 3),
        ("# made by hand\nid,name\n1,Ana\n", True, 1),
        ("\n\nid,name\n1,Ana\n\n", True, 1),
    ],
)
def test_a_header_is_recognised(tmp_path: Path, text: str, header: bool, rows: int) -> None:
    """A first record of other types than the rest; without types, text is taken for a header."""
    data = data_of(tmp_path, text)
    assert (data["header"], data["rows"]) == (header, rows)


def test_ragged_rows_are_counted_not_fatal(tmp_path: Path) -> None:
    """Short, long and blank records are records."""
    outcome = process("table", tmp_path, b"id,name\n1\n2,Ana,x\n\n")
    assert isinstance(outcome, Result)
    assert outcome.data["widths"] == {"0": 1, "1": 1, "2": 1, "3": 1}
    assert outcome.warnings == ["ragged_rows"]


def test_cells_with_line_breaks(tmp_path: Path) -> None:
    """A quoted line break belongs to its cell."""
    data = data_of(tmp_path, 'id,note\n1,"two\nlines"\n')
    assert (data["records"], data["multiline_cells"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_file"),
        ("\n\n\n", "empty_file"),
        ('a,b\n1,"' + "x" * (FIELD_CHARS_MAX + 1) + '"\n', "field_too_large"),
        ('a,b\n1,"unclosed\n' + "line\n" * 300_000, "field_too_large"),
        ("," * (RECORD_CHARS_MAX + 1), "record_too_large"),
        ('"a' + '","\nb' * 2_000_000, "record_too_large"),
    ],
    ids=["empty", "blank", "field", "unclosed", "line", "record"],
)
def test_a_hostile_table_gets_a_code(tmp_path: Path, text: str, code: str) -> None:
    """Nothing that fits on a disk fills the memory."""
    assert failure_of(tmp_path, text).code == code


def test_broken_utf16_is_malformed(tmp_path: Path) -> None:
    """Half a character at the end."""
    assert failure_of(tmp_path, "a,b\n1,2\n".encode("utf-16") + b"\x00").code == "malformed_table"


def test_bytes_that_no_encoding_has(tmp_path: Path) -> None:
    """cp1252 leaves five bytes undefined; they are marked, not fatal."""
    outcome = process("table", tmp_path, b"id,name\n1,\x81\xff\n")
    assert isinstance(outcome, Result)
    assert outcome.warnings == ["encoding_guessed", "undecodable_bytes"]


def test_a_table_wider_than_any_spreadsheet(tmp_path: Path) -> None:
    """Profiles stop at 16,384 columns and the preview at its size; the widths tell the truth."""
    outcome = process("table", tmp_path, (",".join("abc" for _ in range(20_000)) + "\n").encode() * 3)
    assert isinstance(outcome, Result)
    assert (len(outcome.data["columns"]), outcome.data["widths"]) == (16_384, {"20000": 3})
    assert "columns_truncated" in outcome.warnings
    assert outcome.data["preview_truncated"]


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        *(("7", "integer"), ("-12", "integer"), ("007", "text"), ("1,5", "decimal"), ("1.5", "decimal")),
        *(("1.234.567", "decimal"), ("2024-02-05", "date"), ("05.02.24", "date"), ("TRUE", "bool")),
        *(("2024-02-05 10:00:00", "date"), ("1e5", "text"), ("n/a", "text"), ("-", "text"), ("+", "text")),
        *(("12/25/2023", "date"), ("12:30", "text"), ("1-2", "text"), ("99999999999999999999", "text")),
    ],
)
def test_a_cells_type(cell: str, kind: str) -> None:
    """Identifiers with leading zeros are text."""
    assert type_of(cell) == kind


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *(("1.234,50", "1234.50"), ("1,234.50", "1234.50"), ("0,81255249", "0.81255249"), ("1 234", "1234")),
        *(("1.234.567", "1234567"), ("12'345.6", "12345.6"), (",5", "0.5"), ("x", None), ("1.2.3", None)),
    ],
)
def test_a_number_as_people_write_it(written: str, read: str | None) -> None:
    """The last separator is the decimal one, unless it occurs twice."""
    found = number(written)
    assert (None if found is None else format(found, "f")) == read
