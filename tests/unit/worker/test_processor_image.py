"""Pictures are described, shrunk and read for codes; hostile ones get a sentence."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import PIL.ExifTags
import PIL.Image
import pytest
import zxingcpp

from tanda.contracts.results import Failure, Result
from tests.processing import process


def encoded(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def result_of(folder: Path, data: bytes, **options: object) -> Result:
    outcome = process("image", folder, data, **options)
    assert isinstance(outcome, Result), outcome
    return outcome


def failure_of(folder: Path, data: bytes) -> Failure:
    outcome = process("image", folder, data)
    assert isinstance(outcome, Failure), outcome
    assert outcome.message.endswith(".")
    return outcome


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0, 0, 0)
    block = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x00;"
    return b"GIF89a" + screen + block


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_every_format_is_described(tmp_path: Path, kind: str) -> None:
    """Size, format and one frame; the thumbnail is a WebP."""
    result = result_of(tmp_path, encoded(PIL.Image.new("RGB", (80, 40), "red"), kind))
    facts = {name: result.data[name] for name in ("kind", "format", "width", "height", "frames", "barcodes")}
    assert facts == {"kind": "image", "format": kind, "width": 80, "height": 40, "frames": 1, "barcodes": []}
    assert [artifact.name for artifact in result.artifacts] == ["thumbnail.webp"]


def test_a_photograph_is_turned_upright_and_stripped(tmp_path: Path) -> None:
    """Width and height are as a viewer shows them; the thumbnail has no place, camera or profile."""
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    exif[PIL.ExifTags.Base.Make] = "Camera of mine"
    exif[PIL.ExifTags.Base.GPSInfo] = {1: "N"}
    photo = encoded(PIL.Image.new("RGB", (1200, 600), "blue"), "JPEG", exif=exif, icc_profile=b"profile")
    result = result_of(tmp_path, photo)
    assert (result.data["width"], result.data["height"], result.data["orientation"]) == (600, 1200, 6)
    small = PIL.Image.open(io.BytesIO(result.artifacts[0].data))
    assert small.size == (256, 512)
    assert not small.getexif()
    assert not small.info.keys() & {"exif", "icc_profile", "xmp"}
    assert b"Camera" not in result.artifacts[0].data


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_gets_a_thumbnail(tmp_path: Path, mode: str) -> None:
    """Sixteen bits, palettes and transparency included."""
    kind = "TIFF" if mode in ("CMYK", "F", "I") else "PNG"
    result = result_of(tmp_path, encoded(PIL.Image.new(mode, (30, 20)), kind))
    assert (result.data["mode"], len(result.artifacts), result.warnings) == (mode, 1, [])


def test_a_code_is_found_where_it_is(tmp_path: Path) -> None:
    """Text, format and corners, clockwise from the top left."""
    code = zxingcpp.create_barcode("https://example.org/7", zxingcpp.BarcodeFormat.QRCode)
    drawn = PIL.Image.fromarray(zxingcpp.write_barcode_to_image(code, scale=4))
    page = PIL.Image.new("L", (600, 400), "white")
    page.paste(drawn, (100, 50))
    (found,) = result_of(tmp_path, encoded(page, "PNG")).data["barcodes"]
    assert (found["text"], found["format"]) == ("https://example.org/7", "QRCode")
    left, top = found["position"][0]
    assert 100 <= left <= 130
    assert 50 <= top <= 80


def test_a_large_scans_code_has_the_scans_coordinates(tmp_path: Path) -> None:
    """The reader sees a smaller copy; the answer is in the picture's own pixels."""
    code = zxingcpp.create_barcode("42", zxingcpp.BarcodeFormat.QRCode)
    drawn = PIL.Image.fromarray(zxingcpp.write_barcode_to_image(code, scale=20))
    page = PIL.Image.new("L", (6000, 6000), "white")
    page.paste(drawn, (5000, 5000))
    (found,) = result_of(tmp_path, encoded(page, "PNG")).data["barcodes"]
    assert all(5000 <= value <= 6000 for corner in found["position"] for value in corner)


def test_barcodes_and_thumbnail_are_optional(tmp_path: Path) -> None:
    """Options leave out what is not wanted."""
    data = encoded(PIL.Image.new("L", (9, 9)), "PNG")
    result = result_of(tmp_path, data, barcodes=False, thumbnail=False)
    assert (result.data["barcodes"], result.artifacts) == ([], [])


def test_frames_are_counted(tmp_path: Path) -> None:
    """Of an animation the first frame is shown."""
    frames = [PIL.Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 90, 180)]
    for kind in ("GIF", "TIFF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        result = result_of(tmp_path, data)
        assert (result.data["frames"], result.data["frames_exact"]) == (3, True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (png(20_000, 20_000), "image_too_large"),
        (png(60_000, 60_000), "image_too_large"),
        (png(2**31 - 1, 2**31 - 1), "image_too_large"),
        (png(13_000, 13_000, chunk(b"IDAT", zlib.compress(b"\0" * 1000))), "image_too_large"),
        (png(8, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 70_000_000))), "decompression_bomb"),
        (png(8, 8, chunk(b"IDAT", zlib.compress(b"\0" * 20))), "truncated_image"),
        (gif(65_535, 65_535), "image_too_large"),
        (gif(0, 7), "malformed_image"),
        (b"", "malformed_image"),
        (b"\xff\xd8\xff\xe0", "malformed_image"),
        (b"II*\x00\xff\xff\xff\xff", "malformed_image"),
        (b"8BPS\x00\x01", "malformed_image"),
        (b"push graphic-context\n", "malformed_image"),
    ],
)
def test_a_hostile_picture_gets_a_code(tmp_path: Path, data: bytes, code: str) -> None:
    """Headers that claim gigapixels, text that inflates, halves of files, other things."""
    assert failure_of(tmp_path, data).code == code


def test_the_limit_is_forty_megapixels(tmp_path: Path) -> None:
    """One row more is refused by its header, before a pixel is decoded."""
    failure = failure_of(tmp_path, png(8_000, 5_001))
    assert failure.message == "The image has 40.0 million pixels; the limit is 40 million."
    assert failure_of(tmp_path, png(8_000, 5_000)).code != "image_too_large"


def test_a_picture_of_another_plug_in_is_not_opened(tmp_path: Path) -> None:
    """Pillow knows forty formats; six are let in."""
    assert failure_of(tmp_path, encoded(PIL.Image.new("RGB", (4, 4)), "PCX")).code == "malformed_image"
    assert (
        failure_of(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").code == "malformed_image"
    )
