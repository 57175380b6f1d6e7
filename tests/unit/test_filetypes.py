"""A file is what its name, its declared type and its first bytes agree on."""

import gzip
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanda.domain.filetypes import NAME_BYTES_MAX, FileType, Refusal, check, safe_name

XML = b'<?xml version="1.0"?><Invoice/>'
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
CSV = b"id;name\r\n1;Ana\r\n"
ZIP = b"PK\x03\x04\x14\x00\x06\x00"
EXE = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00"
HTML = b"<!DOCTYPE html><html><body>hi</body></html>"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"


def outcome(name: str, head: bytes, declared: str | None = None) -> str:
    """The processor, or the refusal's code."""
    found = check(name, declared, head, len(head))
    return found.processor if isinstance(found, FileType) else found.code


@pytest.mark.parametrize(
    ("name", "head", "content_type"),
    [
        ("a.xml", XML, "application/xml"),
        ("BIS3.XML", XML, "application/xml"),
        ("a.xml", "<?xml version='1.0'?><a/>".encode("utf-16"), "application/xml"),
        ("a.xml", "<?xml version='1.0'?><a/>".encode("utf-16-le"), "application/xml"),
        ("a.xml", "<?xml version='1.0'?><a/>".encode("utf-32"), "application/xml"),
        ("a.xml", "<?xml version='1.0'?><a/>".encode("cp037"), "application/xml"),
        ("a.xml", b"\n  <Invoice/>", "application/xml"),
        ("a.xml", b"<!-- from us --><Invoice/>", "application/xml"),
        ("a.pdf", PDF, "application/pdf"),
        ("a.pdf", b"junk\n" * 100 + PDF, "application/pdf"),
        ("a.jpg", JPEG, "image/jpeg"),
        ("a.png", JPEG, "image/jpeg"),
        ("a.gif", b"GIF89a\x01\x00", "image/gif"),
        ("a.webp", b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("a.bmp", b"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36", "image/bmp"),
        ("a.tif", b"II*\x00\x08\x00", "image/tiff"),
        ("a.csv", CSV, "text/csv"),
        ("a.tsv", b"id\tname\n", "text/csv"),
        ("a.txt", CSV, "text/csv"),
        ("a.txt", XML, "application/xml"),
        ("a.csv", "id,name\n1,\u00e9\n".encode("utf-16"), "text/csv"),
        ("a.csv", "a\u00f1o;\u20ac\n".encode("cp1252"), "text/csv"),
        ("a.csv", b"ID3,BMI,GIF\n1,2,3\n", "text/csv"),
        ("without extension", XML, "application/xml"),
        ("factura.2024", PDF, "application/pdf"),
    ],
)
def test_content_decides_within_what_the_name_claims(name: str, head: bytes, content_type: str) -> None:
    """The canonical type is the content's; no extension and a year are no claim."""
    found = check(name, None, head, len(head))
    assert isinstance(found, FileType), found
    assert found.content_type == content_type


@pytest.mark.parametrize(
    ("name", "head", "declared", "expected"),
    [
        ("a.xml", XML, "text/xml; charset=utf-8", "invoice"),
        ("a.xml", XML, "application/octet-stream", "invoice"),
        ("a.xml", XML, "", "invoice"),
        ("a.xml", XML, "text/plain", "invoice"),
        ("a.xml", XML, "application/vnd.oasis.ubl+xml", "invoice"),
        ("a.csv", CSV, "application/vnd.ms-excel", "table"),
        ("a.csv", CSV, "text/plain", "table"),
        ("a.jpg", JPEG, "image/png", "image"),
        ("a.pdf", PDF, "application/x-pdf", "pdf"),
        ("a.xml", XML, "application/pdf", "type_mismatch"),
        ("a.pdf", PDF, "image/jpeg", "type_mismatch"),
        ("a", PDF, "application/zip", "type_mismatch"),
        ("a.xls", CSV, "application/vnd.ms-excel", "type_mismatch"),
    ],
)
def test_a_declared_type_must_agree(name: str, head: bytes, declared: str, expected: str) -> None:
    """Synonyms and "I do not know" agree; another family does not."""
    assert outcome(name, head, declared) == expected


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.pdf", b"potato salad", "type_mismatch"),
        ("a.png", EXE, "type_mismatch"),
        ("a.pdf", HTML, "type_mismatch"),
        ("a.csv", gzip.compress(b"id,name", mtime=0), "type_mismatch"),
        ("a.csv", XML, "type_mismatch"),
        ("a.xml", CSV, "type_mismatch"),
        ("a.jpg", b"push graphic-context\nviewbox 0 0 640 480\n", "type_mismatch"),
        ("a.xml", SVG, "type_mismatch"),
        ("a.docx", PDF, "type_mismatch"),
        ("a.html", XML, "type_mismatch"),
        ("a.docx", ZIP, "unsupported_type"),
        ("a.exe", EXE, "unsupported_type"),
        ("a.html", HTML, "unsupported_type"),
        ("a.svg", SVG, "unsupported_type"),
        ("a.heic", HEIC, "unsupported_type"),
        ("a", ZIP, "unsupported_type"),
        ("a", b"\x00\x01\x02\x03" * 20, "unsupported_type"),
        ("a.pdf", b"", "empty_file"),
    ],
)
def test_a_lie_or_a_stranger_is_refused(name: str, head: bytes, expected: str) -> None:
    """The code says whether the file lies or is merely not supported."""
    assert outcome(name, head) == expected


def test_a_refusal_names_claim_and_content() -> None:
    """A person can tell from the message what to do."""
    assert check("a.pdf", None, EXE, len(EXE)) == Refusal(
        code="type_mismatch",
        message="The name ends in .pdf, but the content is a Windows program; choose the right file.",
    )


@given(
    name=st.text(max_size=60),
    declared=st.none() | st.text(max_size=40),
    head=st.binary(max_size=200) | st.sampled_from([XML, PDF, PNG, CSV, ZIP, HTML, SVG]),
)
def test_nothing_makes_check_raise(name: str, declared: str | None, head: bytes) -> None:
    """Every file gets a type or a reason."""
    found = check(name, declared, head, len(head))
    assert isinstance(found, FileType) or found.message.endswith(".")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("factura.xml", "factura.xml"),
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\factura.pdf", "factura.pdf"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("a\x00b\r\nc.xml", "abc.xml"),
        ("n\u0303.csv", "\u00f1.csv"),
        ("h&e951128469 (1), final=.xml", "h&e951128469 (1), final=.xml"),
        ("..", "file"),
        ("", "file"),
        ("\u200e\u200f", "file"),
        ("folder/", "folder"),
        (".xml", ".xml"),
        ("测試.xml", "测試.xml"),
    ],
)
def test_a_name_is_made_safe(name: str, safe: str) -> None:
    """What a user named is kept, but for what misleads or escapes."""
    assert safe_name(name) == safe


def test_a_long_name_keeps_its_extension() -> None:
    """The stem is cut at a whole character."""
    shortened = safe_name("ñ" * 300 + ".xml")
    assert shortened.endswith("ñ.xml")
    assert len(shortened.encode()) in (NAME_BYTES_MAX - 1, NAME_BYTES_MAX)


@given(st.text())
def test_a_safe_name_is_always_safe(name: str) -> None:
    """One path part, NFC, bounded, visible, and safe already."""
    safe = safe_name(name)
    assert safe
    assert len(safe.encode()) <= NAME_BYTES_MAX
    assert not set(safe) & set("/\\\x00\r\n\u202e\u2066")
    assert safe not in (".", "..")
    assert unicodedata.is_normalized("NFC", safe)
    assert safe_name(safe) == safe
