"""The ``image`` processor: what a picture is, a thumbnail without its metadata, and its barcodes.

``data``::

    {"kind": "image", "format": "JPEG", "mode": "RGB", "width": 2975, "height": 3850,   # as oriented
     "orientation": 1, "dpi": [300.0, 300.0] | null, "frames": 1, "frames_exact": true,
     "has_alpha": false, "barcodes": [{"text", "format", "position": [[x, y] * 4], "rotation"}]}

Positions are pixels of the oriented picture, clockwise from the code's top left; ``rotation`` is degrees.
Warnings: ``no_thumbnail``, ``barcodes_not_read``, ``barcodes_truncated``.
"""

import math
from collections.abc import Mapping
from typing import Any

import PIL.Image
import PIL.ImageFilter
import zxingcpp

from services.worker.processors.pictures import Picture, PictureRefused, open_picture, thumbnail
from tanda.contracts.results import Artifact, Failure, Result, SourceFile

#: Above this the barcode reader gets a smaller copy; a code on a 40 MP photograph still has pixels to spare.
BARCODE_PIXELS_MAX = 12_000_000
SHARPENED_PIXELS_MAX = 4_000_000
BARCODES_MAX = 100
#: A QR code holds 7,089 digits at most (ISO 18004).
BARCODE_CHARS_MAX = 8_000


class Image:
    """JPEG, PNG, GIF, WebP, BMP and TIFF up to 40 megapixels.

    Options: ``barcodes`` (default true), ``thumbnail`` (default true).
    Failure codes: ``image_too_large``, ``malformed_image``, ``truncated_image``, ``decompression_bomb``.
    """

    name = "image"
    version = "1"
    reusable = True
    accepts = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff"})

    def process(self, source: SourceFile, options: Mapping[str, Any]) -> Result | Failure:
        """Describe the picture's first frame."""
        try:
            picture = open_picture(source.path)
        except PictureRefused as refused:
            return Failure(code=refused.code, message=refused.message)
        warnings: list[str] = []
        barcodes = _barcodes(picture, warnings) if options.get("barcodes", True) else []
        artifacts = _thumbnails(picture, warnings) if options.get("thumbnail", True) else []
        data = {"kind": "image", **picture.facts, "barcodes": barcodes}
        return Result(data=data, artifacts=artifacts, warnings=warnings)


def _thumbnails(picture: Picture, warnings: list[str]) -> list[Artifact]:
    data = thumbnail(picture)
    if data is None:
        warnings.append("no_thumbnail")
        return []
    return [Artifact(name="thumbnail.webp", content_type="image/webp", data=data)]


def _barcodes(picture: Picture, warnings: list[str]) -> list[dict[str, Any]]:
    grey = picture.pixels.convert("L")
    shrink = math.sqrt(max(1.0, grey.width * grey.height / BARCODE_PIXELS_MAX))
    if shrink > 1:
        grey = grey.resize((max(1, int(grey.width / shrink)), max(1, int(grey.height / shrink))))
    try:
        found = _look(grey)
    except (RuntimeError, TypeError, ValueError):
        warnings.append("barcodes_not_read")
        return []
    if len(found) > BARCODES_MAX:
        warnings.append("barcodes_truncated")
    scale = picture.facts["width"] / grey.width
    return [_barcode(code, scale) for code in found[:BARCODES_MAX]]


def _look(grey: PIL.Image.Image) -> list[Any]:
    """Read the codes; a small picture without any is sharpened and read again, for photographs."""
    found = zxingcpp.read_barcodes(grey, text_mode=zxingcpp.TextMode.Plain)
    if found or grey.width * grey.height > SHARPENED_PIXELS_MAX:
        return found
    sharp = grey.filter(PIL.ImageFilter.UnsharpMask(radius=2, percent=200, threshold=0))
    return zxingcpp.read_barcodes(sharp, text_mode=zxingcpp.TextMode.Plain)


def _barcode(code: Any, scale: float) -> dict[str, Any]:
    place = code.position
    corners = (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
    return {
        "text": code.text[:BARCODE_CHARS_MAX],
        "format": code.format.name,
        "position": [[round(corner.x * scale), round(corner.y * scale)] for corner in corners],
        "rotation": code.orientation,
    }
