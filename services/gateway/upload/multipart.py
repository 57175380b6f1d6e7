"""``multipart/form-data`` as a stream of parts: nothing but the parser, no I/O and no limits on files."""

import re
from collections.abc import Iterator
from typing import Final, Literal
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


class Part(msgspec.Struct, frozen=True):
    """A part that lies whole within what has come: most files of a large upload."""

    begin: PartBegin
    #: Of all that has come, which it keeps in memory.
    content: memoryview


Token = PartBegin | PartEnd | Part | bytes

_END = PartEnd()
#: The headers of a part as today's clients write them; any others go through the library.
_USUAL = re.compile(
    rb'Content-Disposition: form-data; name="([\w-]+)"'
    rb'(?:; filename="([^"%\\\x00-\x1f]+)")?'
    rb"(?:\r\nContent-Type: ([!-~]+))?\r\n\r\n"
)


def boundary_of(content_type: str) -> str:
    """The boundary of a Content-Type header; BadMultipart where there is none."""
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary:
        raise BadMultipart("The Content-Type names no boundary.")
    return boundary


class MultipartReader:
    """Turns pieces of a body into tokens: ``Part``, or ``PartBegin``, bytes of the part, ``PartEnd``."""

    def __init__(self, boundary: str) -> None:
        if not 0 < len(boundary) <= BOUNDARY_CHARS_MAX:
            raise BadMultipart("The multipart boundary is empty or too long.")
        self._delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
        #: What came and was not told; the first boundary is like any other with a line break before it.
        self._rest = b"\r\n"
        self._state: Literal["preamble", "headers", "content", "end"] = "preamble"
        self._preamble_left = PREAMBLE_BYTES_MAX

    def feed(self, chunk: bytes) -> Iterator[Token]:
        """The tokens that another piece completes, in order; to be taken before the next piece."""
        buffer = self._rest + chunk if self._rest else chunk
        view = memoryview(buffer)
        at, length = 0, len(self._delimiter)
        while self._state != "end":
            begin = None
            if self._state == "headers":
                found = self._headers(buffer, at)
                if found is None:
                    break
                begin, at = found
                self._state = "content"
            end = buffer.find(self._delimiter, at)
            after = buffer[end + length : end + length + 2] if end >= 0 else b""
            if len(after) < 2:
                end = self._end_of_content(buffer, at) if end < 0 else end
                if begin:
                    yield begin
                if at < end and not self._skips(end - at):
                    yield buffer[at:end]
                at = end
                break
            if begin:
                yield Part(begin, view[at:end])
            elif not self._skips(end - at):
                if at < end:
                    yield buffer[at:end]
                yield _END
            self._state = self._next(after)
            at = end + length + 2
        self._rest = buffer[at:] if self._state != "end" else b""

    def finish(self) -> None:
        """To be called at the body's end; BadMultipart where the closing boundary is missing."""
        if self._state != "end":
            raise BadMultipart("The multipart body ends before its closing boundary.")

    def _headers(self, buffer: bytes, at: int) -> tuple[PartBegin, int] | None:
        """What a part's headers say, and where its content begins; None where they are not complete."""
        usual = _USUAL.match(buffer, at)
        if usual and usual.end() - at <= HEADER_BYTES_MAX:
            name, file_name, content_type = usual.groups()
            begin = PartBegin(
                name=name.decode(),
                file_name=None if file_name is None else _text(file_name),
                content_type=None if content_type is None else content_type.decode(),
            )
            return begin, usual.end()
        end = at - 2 if buffer.startswith(b"\r\n", at) else buffer.find(b"\r\n\r\n", at)
        if end >= 0:
            return _begin(self._delimiter[2:] + b"\r\n" + buffer[at : end + 4], self._delimiter[4:]), end + 4
        if len(buffer) - at > HEADERS_MAX * HEADER_BYTES_MAX:
            raise BadMultipart("The headers of a part are too long.")
        return None

    def _end_of_content(self, buffer: bytes, at: int) -> int:
        """Up to where bytes are content for sure: what may be the begin of a boundary waits."""
        start = buffer.rfind(b"\r", max(at, len(buffer) - len(self._delimiter) + 1))
        return start if start >= 0 and self._delimiter.startswith(buffer[start:]) else len(buffer)

    def _skips(self, length: int) -> bool:
        """Whether this is before the first part; a body that never comes to one is not read to its end."""
        if self._state != "preamble":
            return False
        self._preamble_left -= length
        if self._preamble_left < 0:
            raise BadMultipart("The multipart body does not begin with its boundary.")
        return True

    def _next(self, after: bytes) -> Literal["headers", "end"]:
        if after == b"\r\n":
            return "headers"
        if after == b"--":
            return "end"
        raise BadMultipart("The multipart body has other bytes after a boundary than a line break.")


def _begin(lines: bytes, boundary: bytes) -> PartBegin:
    """Headers in whatever form, behind their boundary."""
    try:
        parser = PushMultipartParser(
            boundary,
            max_header_count=HEADERS_MAX,
            max_header_size=HEADER_BYTES_MAX,
            header_charset="latin-1",  # any byte: what they mean is decided here
        )
        segment = next(parser.parse(lines), None)
    except MultipartError as error:
        raise BadMultipart(f"The multipart body cannot be read: {error}.") from error
    if not isinstance(segment, MultipartSegment) or not segment.name:
        raise BadMultipart("A part has no Content-Disposition with a name.")
    return PartBegin(
        name=_text(segment.name.encode("latin-1")),
        file_name=_file_name(segment),
        content_type=segment.header("Content-Type"),
    )


def _file_name(segment: MultipartSegment) -> str | None:
    """RFC 7578 allows the plain form only; older clients send names with accents in the other one alone."""
    if segment.filename is not None:
        return _text(segment.filename.encode("latin-1"))
    extended = _EXTENDED_NAME.search(segment.header("Content-Disposition") or "")
    return unquote(extended[1]) if extended else None


def _text(octets: bytes) -> str:
    """Browsers send UTF-8; what is not, is shown as Windows would."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")
