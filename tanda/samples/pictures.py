"""Pictures as phones make them: a receipt on a table, with a QR code that can be read."""

import unicodedata
from io import BytesIO
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tanda.samples.cfdi import fiscal_id
from tanda.samples.pdf import written
from tanda.samples.sales import Sale

#: Exif 2.3, tag Orientation; 6 is "turn by 90 degrees clockwise to show".
_ORIENTATION = 0x0112
_TURNED = 6
_SIZE = (720, 1_000)


def receipt(sale: Sale, qr: str | None, entropy: Random) -> Image.Image:
    """A till receipt on a table top; white paper, dark text, the QR code below the total."""
    picture = table_top(entropy)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((120, 60, 600, 940), fill=(250, 249, 244))
    y = 84
    for text, size in _text(sale):
        draw.text((150, y), _as_tills_print(text), fill=(30, 30, 34), font=ImageFont.load_default(size))
        y += size + 12
    if qr is not None:
        code = _qr(qr)
        picture.paste(code, (360 - code.width // 2, 920 - code.height))
    return picture


def table_top(entropy: Random) -> Image.Image:
    """Uneven brown, as wood under a lamp."""
    grain = Image.frombytes("L", (24, 32), bytes(entropy.randint(70, 120) for _ in range(24 * 32)))
    smooth = grain.resize(_SIZE, Image.Resampling.BICUBIC)
    return Image.merge("RGB", (smooth, smooth.point(_darker), smooth.point(_dark)))


def jpeg(picture: Image.Image, *, turned: bool = False) -> bytes:
    """The file; ``turned`` stores it lying on its side with an Exif mark, as phones do."""
    out, exif = BytesIO(), Image.Exif()
    if turned:
        exif[_ORIENTATION] = _TURNED
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    picture.save(out, "jpeg", quality=82, exif=exif)
    return out.getvalue()


def png(picture: Image.Image) -> bytes:
    """The file, in few colours as a screenshot."""
    out = BytesIO()
    picture.quantize(32).save(out, "png")
    return out.getvalue()


def spanish_check_url(sale: Sale) -> str:
    """What the QR code of a Spanish invoice says (VERI*FACTU)."""
    where = "https://www2.agenciatributaria.gob.es/wlpl/TIKE-CONT/ValidarQR"
    who = f"nif={sale.seller.tax_id}&numserie={sale.number}"
    return f"{where}?{who}&fecha={sale.day:%d-%m-%Y}&importe={sale.total}"


def mexican_check_url(sale: Sale) -> str:
    """What the QR code of a printed CFDI says."""
    where = "https://verificacfdi.facturaelectronica.sat.gob.mx/default.aspx"
    parties = f"re={sale.seller.tax_id}&rr={sale.buyer.tax_id}"
    return f"{where}?id={fiscal_id(sale)}&{parties}&tt={sale.total}&fe=dGFuZGE="


def _as_tills_print(text: str) -> str:
    """Capitals without accents."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().upper()


def _text(sale: Sale) -> list[tuple[str, int]]:
    label = "RFC" if sale.seller.country == "MX" else "NIF"
    items = [(f"{item.quantity} x {item.description[:34]}", 16) for item in sale.items]
    return [
        *((sale.seller.name, 24), (f"{label} {sale.seller.tax_id}", 16), (f"{sale.seller.city}", 16)),
        *((f"Factura {sale.number}", 18), (f"{sale.day:%d/%m/%Y}  10:42", 16)),
        *items,
        (f"TOTAL  {written(sale.total, 'es')} {sale.currency}", 28),
    ]


def _darker(level: int) -> int:
    return level * 3 // 4


def _dark(level: int) -> int:
    return level // 2


def _qr(text: str) -> Image.Image:
    import zxingcpp

    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode)
    image: Any = zxingcpp.write_barcode_to_image(code, scale=5)
    drawn = memoryview(image)
    height, width = drawn.shape or (0, 0)
    return Image.frombytes("L", (width, height), drawn.tobytes())
