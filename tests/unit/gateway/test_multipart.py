"""The streaming multipart reader: the same tokens however the body is cut, and no body that half works."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.upload.multipart import (
    PREAMBLE_BYTES_MAX,
    BadMultipart,
    MultipartReader,
    Part,
    PartBegin,
    PartEnd,
    boundary_of,
)

BOUNDARY = "frontera"
CONTENT = b"uno\r\n--fronter\r\ndos\r\n\r\n--" + bytes(range(256))
BODY = (
    b"--frontera\r\n"
    b'Content-Disposition: form-data; name="name"\r\n\r\n'
    b"noviembre\r\n"
    b"--frontera\r\n"
    b'Content-Disposition: form-data; name="files"; filename="factura n\xc2\xba 1.xml"\r\n'
    b"Content-Type: text/xml\r\n\r\n" + CONTENT + b"\r\n--frontera--\r\n"
)


def read(*pieces: bytes) -> list[tuple[PartBegin, bytes]]:
    """Every part with its whole content."""
    reader = MultipartReader(BOUNDARY)
    found: list[tuple[PartBegin, bytes]] = []
    begin: PartBegin | None = None
    data = b""
    for piece in pieces:
        for token in reader.feed(piece):
            match token:
                case Part():
                    assert begin is None, "one part after the other"
                    found.append((token.begin, token.content))
                case PartBegin():
                    begin, data = token, b""
                case bytes():
                    data += token
                case PartEnd():
                    assert begin is not None
                    found.append((begin, data))
                    begin = None
    reader.finish()
    return found


EXPECTED = [
    (PartBegin(name="name", file_name=None, content_type=None), b"noviembre"),
    (PartBegin(name="files", file_name="factura nº 1.xml", content_type="text/xml"), CONTENT),
]


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_a_body_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    """Boundaries, headers and contents may be split anywhere, also within a boundary."""
    edges = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[start:end] for start, end in pairwise(edges)]
    assert read(*pieces) == EXPECTED


def test_a_body_reads_the_same_byte_by_byte() -> None:
    """The worst cut of all."""
    assert read(*[BODY[at : at + 1] for at in range(len(BODY))]) == EXPECTED


@pytest.mark.parametrize("end", [0, 1, 40, 60, len(BODY) // 2, len(BODY) - 5])
def test_a_body_that_ends_early_is_refused(end: int) -> None:
    """A lost connection never looks like a complete upload."""
    with pytest.raises(BadMultipart):
        read(BODY[:end])


@pytest.mark.parametrize(
    "body",
    [
        b"not multipart at all",
        b"--frontera\r\nContent-Type: text/xml\r\n\r\nx\r\n--frontera--\r\n",
        b'--frontera\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--frontera--\r\n',
        b"--frontera\r\n" + b"X-A: 1\r\n" * 9 + b"\r\nx\r\n--frontera--\r\n",
        b"--frontera\r\nContent-Disposition: form-data; name=" + b"a" * 5_000 + b"\r\n\r\n",
        b'--frontera\r\nContent-Disposition: form-data; name="'
        + b"a" * 5_000
        + b'"\r\n\r\nx\r\n--frontera--',
        b"--frontera\r\n\r\nx\r\n--frontera--\r\n",
        b"--fronteraX" + BODY[10:],
        BODY.replace(b"noviembre\r\n--frontera\r\n", b"noviembre\r\n--frontera\n"),
        b"x" * (PREAMBLE_BYTES_MAX + 1) + b"\r\n" + BODY,
    ],
    ids=[
        *("text", "no-disposition", "no-name", "many-headers", "long-header", "long-usual-header"),
        *("no-headers", "other-boundary", "bare-line-feed", "preamble"),
    ],
)
def test_a_broken_body_is_refused(body: bytes) -> None:
    """With a sentence, whatever is wrong."""
    with pytest.raises(BadMultipart):
        read(body)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b"filename=\"a.xml\"; filename*=utf-8''b.xml", "a.xml"),
        (b"filename*=utf-8''se%C3%B1al.xml", "señal.xml"),
        (b'filename="se\xf1al.xml"', "señal.xml"),
        (b'filename="C:\\\\fakepath\\\\a.xml"', "a.xml"),
        (b'filename=""', ""),
    ],
    ids=["both", "extended", "cp1252", "windows-path", "empty"],
)
def test_file_names_come_as_they_were_meant(disposition: bytes, name: str) -> None:
    """UTF-8 first; what old clients send as well."""
    head = b'--frontera\r\nContent-Disposition: form-data; name="files"; ' + disposition
    ((begin, _),) = read(head + b"\r\n\r\nx\r\n--frontera--\r\n")
    assert begin.file_name == name


@pytest.mark.parametrize(
    "headers",
    [
        b'content-disposition: form-data; name="files"; filename="a.xml"\r\ncontent-type: text/xml',
        b"Content-Disposition: form-data; filename=a.xml; name=files\r\nContent-Type: text/xml",
        b"Content-Type: text/xml\r\nX-A: 1\r\n"
        b'Content-Disposition: form-data; name="files";\r\n filename="a.xml"',
        b'Content-Disposition: form-data; name="files"; filename="a.xml"\r\nContent-Type:text/xml',
    ],
    ids=["lower-case", "unquoted", "folded", "no-space"],
)
def test_headers_in_unusual_forms_say_the_same(headers: bytes) -> None:
    """The short way through usual headers is no other language."""
    usual = b'Content-Disposition: form-data; name="files"; filename="a.xml"\r\nContent-Type: text/xml'
    first, second = (
        read(b"--frontera\r\n" + one + b"\r\n\r\n<a/>\r\n--frontera--") for one in (headers, usual)
    )
    assert first == second == [(PartBegin(name="files", file_name="a.xml", content_type="text/xml"), b"<a/>")]


def test_headers_without_an_end_are_not_gathered() -> None:
    """They are refused while they come, not at the body's end."""
    reader = MultipartReader(BOUNDARY)
    with pytest.raises(BadMultipart):
        for _ in range(100):
            list(reader.feed(b"--frontera\r\n" + b"a" * 1_000))


def test_what_stands_around_the_parts_is_nobodys() -> None:
    """A few words before the first boundary, anything after the last."""
    assert read(b"hola\r\n" + BODY + b"--frontera\r\nadios") == EXPECTED


def test_the_boundary_comes_from_the_content_type() -> None:
    """Quoted or not; none is an error."""
    assert boundary_of('multipart/form-data; boundary="a b"') == "a b"
    for header in ("multipart/form-data", "text/plain; boundary=x", ""):
        with pytest.raises(BadMultipart):
            boundary_of(header)


def test_a_boundary_without_end_is_refused() -> None:
    """Longer than any that the standard allows."""
    with pytest.raises(BadMultipart):
        MultipartReader("x" * 10_000)
