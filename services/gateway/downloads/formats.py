"""The result document in other notations, made line by line as it streams.

The document has its metadata on the first line, then one line for each file, then the closing brackets.
"""

import csv
import io
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import msgspec

FORMATS = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "zip": "application/zip",
}
CSV_COLUMNS = (
    "lote_id",
    "archivo_id",
    "nombre",
    "indice",
    "estado",
    "intentos",
    "sha256",
    "error",
    "resultado",
)
#: Excel takes a UTF-8 file for its local code page without it.
_BOM = b"\xef\xbb\xbf"
#: What a spreadsheet takes for a formula (OWASP: CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\0")
#: A fixed date, so that the same results are the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_PIECE_BYTES = 256 * 1024


def convert(kind: str, source: AsyncIterator[bytes], batch_id: str) -> AsyncIterator[bytes]:
    """The document's pieces in another notation."""
    match kind:
        case "ndjson":
            return _gathered(_ndjson(source))
        case "csv":
            return _gathered(_csv(source))
        case "zip":
            return _gathered(_zip(source, batch_id))
        case _:
            return source


async def entries(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The head line, then every file's entry as JSON without its comma."""
    pending = b""
    head = True
    async for line in _lines(source):
        pending = pending + b"\n" + line if pending else line
        if head:
            yield pending.removesuffix(b',"archivos_procesados":[') + b"}"
            head, pending = False, b""
            continue
        entry = pending.removesuffix(b"]}").removesuffix(b",")
        if _is_json(entry):
            yield entry
            pending = b""


async def _lines(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest: list[bytes] = []
    async for piece in source:
        *whole, last = piece.split(b"\n")
        for line in whole:
            rest.append(line)
            yield b"".join(rest)
            rest = []
        rest.append(last)
    if any(rest):
        yield b"".join(rest)


def _is_json(line: bytes) -> bool:
    """A result that was stored with line breaks in it makes an entry of several lines."""
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return bool(line)


async def _ndjson(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    number = 0
    async for entry in entries(source):
        if number:
            yield entry.replace(b"\n", b" ") + b"\n"
        number += 1


async def _csv(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield _BOM + _csv_row(CSV_COLUMNS)
    number = 0
    async for entry in entries(source):
        if number:
            yield _csv_row([_cell(value) for value in _values(entry)])
        number += 1


def _values(entry: bytes) -> list[Any]:
    fields: dict[str, Any] = msgspec.json.decode(entry)
    error = fields.get("error")
    if isinstance(error, dict):
        fields["error"] = f"{error.get('code')}: {error.get('message')}"
    return [fields.get(column) for column in CSV_COLUMNS]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    text = msgspec.json.encode(value).decode()
    return text if isinstance(value, int | float) else _cell(text)


def _csv_row(cells: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()


class _Sink(io.RawIOBase):
    """Takes what the archive writes and gives it away; a stream without a way back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


async def _zip(source: AsyncIterator[bytes], batch_id: str) -> AsyncIterator[bytes]:
    """``metadata.json`` and one JSON for each file, in upload order."""
    sink = _Sink()
    number = 0
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        async for entry in entries(source):
            name = f"{batch_id}/metadata.json" if not number else f"{batch_id}/{_entry_name(entry)}"
            data = entry if number else _inner(entry)
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), data, zipfile.ZIP_DEFLATED)
            number += 1
            yield sink.taken()
    yield sink.taken()


class _Named(msgspec.Struct):
    archivo_id: str
    indice: int


class _Head(msgspec.Struct):
    metadata: msgspec.Raw


def _entry_name(entry: bytes) -> str:
    """Never from the user's name, which may be a path."""
    named = msgspec.json.decode(entry, type=_Named)
    return f"{named.indice:06d}_{named.archivo_id}.json"


def _inner(head: bytes) -> bytes:
    return bytes(msgspec.json.decode(head, type=_Head).metadata)


async def _gathered(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Small pieces together: each costs a system call."""
    pieces: list[bytes] = []
    size = 0
    async for piece in source:
        pieces.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if size:
        yield b"".join(pieces)
