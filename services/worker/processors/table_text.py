"""Turns a delimited file's bytes into records: encoding, delimiter, then rows, each within its limits."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

FIELD_CHARS_MAX = 1_000_000
#: A line of nothing but delimiters becomes a list eight times its size.
RECORD_CHARS_MAX = 8_000_000
SAMPLE_CHARS = 64 * 1024
SAMPLE_RECORDS_MAX = 200
_CHUNK_BYTES = 256 * 1024
#: In the order that wins when two explain the sample equally well.
DELIMITERS = (",", ";", "\t", "|")

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class TableRefused(Exception):
    """The table is not read; ``code`` and ``message`` are meant for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How the file is written."""

    encoding: str
    #: ``bom``, ``valid`` (decodes as UTF-8) or ``fallback`` (nothing else fits; cp1252).
    encoding_by: str
    delimiter: str
    quote: str = '"'
    space_after_delimiter: bool = False
    line_end: str = "\n"


def read_dialect(path: Path) -> Dialect:
    """Find out the encoding, from the whole file, and the delimiter, from its first 64 k characters."""
    encoding, reason = _encoding(path)
    with _open(path, encoding) as file:
        sample = file.read(SAMPLE_CHARS)
    return Dialect(
        encoding=encoding,
        encoding_by=reason,
        delimiter=_delimiter(sample),
        quote=_quote(sample),
        space_after_delimiter=re.search(r'[,;|] +"', sample) is not None,
        line_end=_line_end(sample),
    )


def records(path: Path, dialect: Dialect) -> Iterator[list[str]]:
    """Give every record; a blank line is an empty list. Raises :class:`TableRefused`.

    Codes: ``field_too_large``, ``record_too_large``, ``malformed_table``.
    """
    csv.field_size_limit(FIELD_CHARS_MAX)
    with _open(path, dialect.encoding) as file:
        lines = _Lines(file)
        reader = csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            skipinitialspace=dialect.space_after_delimiter,
        )
        try:
            for record in reader:
                lines.record_chars = 0
                yield record
        except csv.Error as exc:
            raise _refusal(exc, reader.line_num) from exc
        except UnicodeError as exc:
            raise TableRefused(
                "malformed_table", f"The text is not valid {dialect.encoding.upper()}: {exc}."
            ) from exc


class _Lines:
    """Feeds lines to the reader and stops a record that would not fit into memory."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.record_chars = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(RECORD_CHARS_MAX + 1):
            self.record_chars += len(line)
            if self.record_chars > RECORD_CHARS_MAX:
                raise TableRefused(
                    "record_too_large",
                    f"A record is longer than {RECORD_CHARS_MAX // 10**6} million characters.",
                )
            yield line


def _open(path: Path, encoding: str) -> io.TextIOWrapper:
    # cp1252 leaves five bytes undefined; they must not fail a file that is text otherwise.
    errors = "replace" if encoding == "cp1252" else "strict"
    return path.open(encoding=encoding, errors=errors, newline="")


def _encoding(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        head = file.read(4)
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding, "bom"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(head)
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252", "fallback"
    return "utf-8", "valid"


def _delimiter(sample: str) -> str:
    """Choose the delimiter that cuts the most records into the same number of fields, more fields first.

    ``csv.Sniffer`` is not asked: it takes quadratic time on some inputs and answers with letters on others.
    """
    scores = [(_score(sample, delimiter), -index) for index, delimiter in enumerate(DELIMITERS)]
    best, index = max(scores)
    return DELIMITERS[-index] if best > 0 else ","


def _score(sample: str, delimiter: str) -> float:
    widths: Counter[int] = Counter()
    try:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
        for record, _ in zip(reader, range(SAMPLE_RECORDS_MAX), strict=False):
            widths[len(record)] += 1
    except csv.Error:
        return 0.0
    widths.pop(0, None)
    cut = {width: count for width, count in widths.items() if width > 1}
    if not cut:
        return 0.0
    width, count = max(cut.items(), key=lambda item: (item[1], item[0]))
    # Agreement counts most; a wider agreeing record is the better explanation, with diminishing weight.
    return count / widths.total() * (2 - 1 / width)


def _quote(sample: str) -> str:
    """Return the apostrophe only where no double quote is used and fields are wrapped in apostrophes."""
    if '"' in sample:
        return '"'
    wrapped = len(re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|\r\n]|$)", sample, re.MULTILINE))
    return "'" if wrapped >= 2 else '"'


def _line_end(sample: str) -> str:
    found = Counter(re.findall(r"\r\n|\n|\r", sample))
    return found.most_common(1)[0][0] if found else "\n"


def _refusal(exc: csv.Error, line: int) -> TableRefused:
    if "field larger" in str(exc):
        return TableRefused(
            "field_too_large",
            f"A field near line {line} is longer than {FIELD_CHARS_MAX:,} characters; is a quote unclosed?",
        )
    return TableRefused("malformed_table", f"The table cannot be read near line {line}: {exc}.")
