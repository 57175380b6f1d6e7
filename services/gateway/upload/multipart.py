"""``multipart/form-data`` as a stream of parts: nothing but the parser, no I/O and no limits on files."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

#: A browser sends three headers a part; python-multipart's own defaults are 8 and 4 kB.
HEADERS_MAX: Final = 8
HEADER_BYTES_MAX: Final = 4_096
_EXTENDED_NAME = re.compile(r"filename\*\s*=\s*utf-8''([^;\s]+)", re.IGNORECASE)


class BadMultipart(Exception):
    """The body is no multipart/form-data, or ends in the middle of it."""


class PartBegin(msgspec.Struct, frozen=True, kw_only=True):
    """A part's headers are complete; its bytes follow."""

    name: str
    #: None for a plain field.
    file_name: str | None
    content_type: str | None


class PartEnd(msgspec.Struct, frozen=True):
    """The part is complete."""


Token = PartBegin | PartEnd | bytes


def boundary_of(content_type: str) -> str:
    """The boundary of a Content-Type header; BadMultipart where there is none."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadMultipart("The Content-Type names no boundary.")
    return boundary.decode("latin-1")


class MultipartReader:
    """Turns pieces of a body into tokens: ``PartBegin``, bytes of the part, ``PartEnd``."""

    def __init__(self, boundary: str) -> None:
        self._tokens: list[Token] = []
        self._headers: dict[str, str] = {}
        self._field = bytearray()
        self._value = bytearray()
        self._complete = False
        self._parser = self._make_parser(boundary)

    def feed(self, chunk: bytes) -> Iterator[Token]:
        """The tokens that another piece completes, in order."""
        if self._complete:
            return iter(())
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadMultipart(f"The multipart body cannot be read: {error}.") from error
        tokens, self._tokens = self._tokens, []
        return iter(tokens)

    def finish(self) -> None:
        """To be called at the body's end; BadMultipart where the closing boundary is missing."""
        if not self._complete:
            raise BadMultipart("The multipart body ends before its closing boundary.")

    def _make_parser(self, boundary: str) -> MultipartParser:
        callbacks = {
            "on_part_data": self._on_data,
            "on_part_end": lambda: self._tokens.append(PartEnd()),
            "on_part_begin": self._headers_clear,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_end": self._on_end,
        }
        try:
            return MultipartParser(
                boundary,
                callbacks,  # pyright: ignore[reportArgumentType] - a TypedDict of the library's own
                max_header_count=HEADERS_MAX,
                max_header_size=HEADER_BYTES_MAX,
            )
        except FormParserError as error:
            raise BadMultipart(f"The multipart boundary cannot be used: {error}.") from error

    def _headers_clear(self) -> None:
        self._headers = {}

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._tokens.append(data[start:end])

    def _on_header_end(self) -> None:
        name = self._field.decode("latin-1").lower()
        self._headers[name] = self._value.decode("latin-1").strip()
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get("content-disposition", "")
        kind, options = parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            raise BadMultipart("A part has no Content-Disposition with a name.")
        begin = PartBegin(
            name=_text(options[b"name"]),
            file_name=_file_name(disposition, options.get(b"filename")),
            content_type=self._headers.get("content-type"),
        )
        self._tokens.append(begin)

    def _on_end(self) -> None:
        self._complete = True


def _file_name(disposition: str, plain: bytes | None) -> str | None:
    """RFC 7578 allows the plain form only; older clients send names with accents in the other one alone."""
    if plain is not None:
        return _text(plain)
    extended = _EXTENDED_NAME.search(disposition)
    return unquote(extended[1]) if extended else None


def _text(raw: bytes) -> str:
    """Browsers send UTF-8; what is not, is shown as Windows would."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")
