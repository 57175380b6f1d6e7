"""Opens pictures from strangers: allow-listed formats, pixels counted before any is decoded."""

import contextlib
import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import msgspec
import PIL.Image
import PIL.ImageOps

#: A4 at 600 dpi is 35 MP; 40 MP of RGB is 120 MB of memory.
PIXELS_MAX = 40_000_000
THUMBNAIL_SIDE_PX_MAX = 512
THUMBNAIL_QUALITY = 80
FRAMES_COUNTED_BYTES_MAX = 4 * 1024 * 1024
#: What pixels are needed for: reading barcodes. A JPEG decodes to a fraction of its size for free.
DRAFT_SIDE_PX = 2_000
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_ORIENTATION = 0x0112
_RESIZABLE = ("L", "RGB", "RGBA")
#: Scanners go to 9,600; anything else is a broken header.
DPI_MAX = 20_000

# Pillow imports its plug-ins on first use; in a forked child that would be for every file anew.
PIL.Image.init()

#: Everything that Pillow's plug-ins are known to raise on a broken file.
BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError),
    *(ArithmeticError, RuntimeError, struct.error, zlib.error, AssertionError, MemoryError),
)


class PictureRefused(Exception):
    """The picture is not read; ``code`` and ``message`` are meant for the user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Picture(msgspec.Struct, frozen=True):
    """A decoded first frame, upright, and what its header says."""

    pixels: PIL.Image.Image
    facts: dict[str, Any]


def open_picture(path: Path) -> Picture:
    """Open, check and decode a picture's first frame, or raise :class:`PictureRefused`."""
    with warnings.catch_warnings():
        # Broken metadata makes Pillow warn; the picture may be sound all the same.
        warnings.simplefilter("ignore")
        try:
            with PIL.Image.open(path, formats=FORMATS) as image:
                return _read(image, path.stat().st_size)
        except PIL.Image.DecompressionBombError as exc:
            raise _too_large("hundreds of millions of") from exc
        except PIL.UnidentifiedImageError as exc:
            raise PictureRefused(
                "malformed_image", "The image's header cannot be read; the file is damaged or not an image."
            ) from exc
        except BROKEN as exc:
            raise _refusal(exc) from exc


def thumbnail(picture: Picture) -> bytes | None:
    """Return a WebP of at most 512 px a side without any metadata, or None where that fails."""
    try:
        pixels = picture.pixels
        if pixels.mode not in _RESIZABLE:
            pixels = pixels.convert("RGBA" if picture.facts["has_alpha"] else "RGB")
        shrink = max(1.0, max(pixels.size) / THUMBNAIL_SIDE_PX_MAX)
        size = (max(1, round(pixels.width / shrink)), max(1, round(pixels.height / shrink)))
        small = pixels.resize(size, reducing_gap=2.0).convert("RGBA" if pixels.mode == "RGBA" else "RGB")
        small.info.clear()
        target = io.BytesIO()
        small.save(target, "WEBP", quality=THUMBNAIL_QUALITY, exif=b"", icc_profile=b"", xmp=b"")
        return target.getvalue()
    except BROKEN:
        return None


def _read(image: PIL.Image.Image, file_bytes: int) -> Picture:
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureRefused("malformed_image", f"The image is {width} x {height} pixels, so there is none.")
    if width * height > PIXELS_MAX:
        raise _too_large(f"{width * height / 1e6:.1f} million")
    # The header's facts come first: a draft changes the size and the mode.
    facts: dict[str, Any] = {"format": image.format, "mode": image.mode, "dpi": _dpi(image)}
    facts["has_alpha"] = image.has_transparency_data
    pixels, orientation = _pixels(image)
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    frames, exact = _frames(image, file_bytes)
    facts |= {"width": width, "height": height, "orientation": orientation}
    return Picture(pixels, facts | {"frames": frames, "frames_exact": exact})


def _pixels(image: PIL.Image.Image) -> tuple[PIL.Image.Image, int]:
    """Decode, and turn upright by the orientation that the second value is.

    Nothing else is copied: a picture at the limit takes 160 MB.
    """
    image.draft(None, (DRAFT_SIDE_PX, DRAFT_SIDE_PX))
    image.load()
    orientation = _orientation(image)
    upright = image.copy()
    if orientation != 1:
        with contextlib.suppress(*BROKEN):
            upright = PIL.ImageOps.exif_transpose(image)
    # A palette with transparency is the one mode that converts to grey badly.
    palette = upright.mode == "P" and upright.has_transparency_data
    return (upright.convert("RGBA") if palette else upright), orientation


def _orientation(image: PIL.Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except BROKEN:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _dpi(image: PIL.Image.Image) -> list[float] | None:
    """Return dots per inch, across and down, where they are believable."""
    try:
        across, down = (float(value) for value in image.info.get("dpi", ()))
    except BROKEN:
        return None
    sane = all(math.isfinite(value) and 1 < value <= DPI_MAX for value in (across, down))
    return [round(across, 2), round(down, 2)] if sane else None


def _frames(image: PIL.Image.Image, file_bytes: int) -> tuple[int, bool]:
    """Count the frames where that is cheap; the second value says whether the count is exact.

    Counting walks the file's blocks and decodes nothing, but a large file may hold a million of them.
    """
    try:
        if not getattr(image, "is_animated", False):
            return 1, True
        if file_bytes > FRAMES_COUNTED_BYTES_MAX:
            return 2, False
        return max(1, int(getattr(image, "n_frames", 1))), True
    except BROKEN:
        return 1, False


def _too_large(pixels: str) -> PictureRefused:
    return PictureRefused(
        "image_too_large", f"The image has {pixels} pixels; the limit is {PIXELS_MAX // 10**6} million."
    )


def _refusal(exc: BaseException) -> PictureRefused:
    reason = " ".join(str(exc).split())[:200] or type(exc).__name__
    if isinstance(exc, MemoryError):
        return PictureRefused("image_too_large", "The image does not fit into the memory a file may use.")
    if "truncated" in reason.lower():
        return PictureRefused("truncated_image", "The image is cut off before its end; upload it again.")
    if "too large" in reason.lower():
        return PictureRefused(
            "decompression_bomb", "The image's text or colour data inflates beyond what is accepted."
        )
    return PictureRefused("malformed_image", f"The image is damaged: {reason}.")
