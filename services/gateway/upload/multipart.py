"""``multipart/form-data`` as a stream of parts: nothing but the parser, no I/O and no limits on files."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

#: A browser sends three headers a part.
HEADERS_MAX: Final = 8
HEADER_BYTES_MAX: Final = 4_096
#: RFC 2046 allows 70.
BOUNDARY_CHARS_MAX: Final = 256
#: What may come before the first boundary; no client of today sends anything there.
PREAMBLE_BYTES_MAX: Final = 64 * 1024
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

_END = PartEnd()


def boundary_of(content_type: str) -> str:
    """The boundary of a Content-Type header; BadMultipart where there is none."""
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary:
        raise BadMultipart("The Content-Type names no boundary.")
    return boundary


class MultipartReader:
    """Turns pieces of a body into tokens: ``PartBegin``, bytes of the part, ``PartEnd``."""

    def __init__(self, boundary: str) -> None:
        if len(boundary) > BOUNDARY_CHARS_MAX:
            raise BadMultipart("The multipart boundary is too long.")
        self._preamble_left: int | None = PREAMBLE_BYTES_MAX
        try:
            self._parser = PushMultipartParser(
                boundary.encode("latin-1"),
                max_header_count=HEADERS_MAX,
                max_header_size=HEADER_BYTES_MAX,
                header_charset="latin-1",  # any byte: what they mean is decided here
            )
        except (MultipartError, UnicodeEncodeError) as error:
            raise BadMultipart(f"The multipart boundary cannot be used: {error}.") from error

    def feed(self, chunk: bytes) -> Iterator[Token]:
        """The tokens that another piece completes, in order; to be taken before the next piece."""
        if not chunk:
            return
        try:
            for event in self._parser.parse(chunk):
                if event is None:
                    yield _END
                elif isinstance(event, MultipartSegment):
                    self._preamble_left = None
                    yield _begin(event)
                else:
                    yield bytes(event)
        except MultipartError as error:
            raise BadMultipart(f"The multipart body cannot be read: {error}.") from error
        self._check_preamble(len(chunk))

    def finish(self) -> None:
        """To be called at the body's end; BadMultipart where the closing boundary is missing."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise BadMultipart("The multipart body ends before its closing boundary.") from error

    def _check_preamble(self, length: int) -> None:
        """A body that never comes to a part is not read to its end."""
        if self._preamble_left is not None:
            self._preamble_left -= length
            if self._preamble_left < 0:
                raise BadMultipart("The multipart body does not begin with its boundary.")


def _begin(segment: MultipartSegment) -> PartBegin:
    if not segment.name:
        raise BadMultipart("A part has no Content-Disposition with a name.")
    return PartBegin(
        name=_text(segment.name),
        file_name=_file_name(segment),
        content_type=segment.header("Content-Type"),
    )


def _file_name(segment: MultipartSegment) -> str | None:
    """RFC 7578 allows the plain form only; older clients send names with accents in the other one alone."""
    if segment.filename is not None:
        return _text(segment.filename)
    extended = _EXTENDED_NAME.search(segment.header("Content-Disposition") or "")
    return unquote(extended[1]) if extended else None


def _text(raw: str) -> str:
    """Browsers send UTF-8; what is not, is shown as Windows would."""
    if raw.isascii():
        return raw
    octets = raw.encode("latin-1")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")
