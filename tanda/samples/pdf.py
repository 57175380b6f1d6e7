"""Writes small PDFs by hand: pages of text in Helvetica, and a file embedded as Factur-X wants it.

PDF 1.7 with one object after another, the catalog last, so that a truncated copy has none.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tanda.samples.sales import Sale

#: A4 in points.
PAGE = (595, 842)
_WORDS = {
    "es": ("FACTURA", "Fecha", "Vencimiento", "Cliente", "Concepto", "Cant.", "Precio", "Importe"),
    "en": ("INVOICE", "Date", "Due date", "Bill to", "Description", "Qty", "Price", "Amount"),
}
_SUMS = {"es": ("Base imponible", "IVA", "Total"), "en": ("Subtotal", "VAT", "Total")}


@dataclass(frozen=True)
class Text:
    """One piece of text; ``x`` and ``y`` in points from the page's lower left."""

    x: int
    y: int
    text: str
    size: int = 10
    bold: bool = False
    #: ``x`` is where the text ends.
    right: bool = False


@dataclass(frozen=True)
class Embedded:
    """A file inside the PDF."""

    name: str
    data: bytes


def write_pdf(pages: Sequence[Sequence[Text]], title: str, embedded: Embedded | None = None) -> bytes:
    """The whole file."""
    return _Writer().write(pages, title, embedded)


def invoice_page(sale: Sale, language: str) -> list[Text]:
    """One page that says what the sale says."""
    title, day, due, to, what, quantity, price, amount = _WORDS[language]
    number = f"{title} {sale.number}"
    page = [
        Text(50, 780, sale.seller.name, 14, bold=True),
        *(Text(50, 764, sale.seller.street), Text(50, 751, f"{sale.seller.postcode} {sale.seller.city}")),
        Text(50, 738, f"{'NIF' if language == 'es' else 'VAT'}: {sale.seller.tax_id}"),
        Text(545, 780, number, 14, bold=True, right=True),
        *(Text(380, 751, f"{day}: {sale.day:%d/%m/%Y}"), Text(380, 738, f"{due}: {sale.due:%d/%m/%Y}")),
        Text(50, 700, f"{to}: {sale.buyer.name}", bold=True),
        Text(50, 687, f"{sale.buyer.tax_id} - {sale.buyer.street}, {sale.buyer.city}"),
        *(Text(50, 650, what, bold=True), Text(380, 650, quantity, bold=True, right=True)),
        *(Text(460, 650, price, bold=True, right=True), Text(545, 650, amount, bold=True, right=True)),
    ]
    y = 632
    for item in sale.items:
        page += [
            *(Text(50, y, item.description), Text(380, y, str(item.quantity), right=True)),
            Text(460, y, written(item.price, language), right=True),
            Text(545, y, written(item.net, language), right=True),
        ]
        y -= 16
    return page + _sums(sale, language, y - 20)


def written(amount: object, language: str) -> str:
    """An amount as people write it: ``1.234,50`` or ``1,234.50``."""
    english = f"{amount:,.2f}"
    return english.translate(str.maketrans(",.", ".,")) if language == "es" else english


def _sums(sale: Sale, language: str, y: int) -> list[Text]:
    net, tax, total = _SUMS[language]
    rows = [(net, sale.net), *((f"{tax} {rate}%", amount) for rate, _, amount in sale.taxes())]
    sums = [
        part
        for index, (label, amount) in enumerate(rows)
        for part in (
            Text(380, y - 16 * index, label),
            Text(545, y - 16 * index, written(amount, language), right=True),
        )
    ]
    last = y - 16 * len(rows) - 4
    shown = f"{written(sale.total, language)} {sale.currency}"
    return [*sums, Text(380, last, total, 12, bold=True), Text(545, last, shown, 12, bold=True, right=True)]


class _Writer:
    """Numbers objects in the order in which they are added."""

    def __init__(self) -> None:
        self._out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        self._starts: list[int] = []

    def write(self, pages: Sequence[Sequence[Text]], title: str, embedded: Embedded | None) -> bytes:
        fonts = [self._font("Helvetica"), self._font("Helvetica-Bold")]
        contents = [self._stream("/Filter /FlateDecode", zlib.compress(_content(page), 9)) for page in pages]
        # The page tree comes after its pages, whose numbers are known before they are written.
        tree = len(self._starts) + len(contents) + 1
        kids = [self._page(tree, content, fonts) for content in contents]
        self._add(f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{k} 0 R' for k in kids)}] >>")
        extra = "" if embedded is None else self._embed(embedded)
        info = self._add(f"<< /Title {_string(title)} /Producer (Tanda samples) >>")
        root = self._add(f"<< /Type /Catalog /Pages {tree} 0 R {extra}>>")
        return self._end(root, info)

    def _add(self, body: str | bytes) -> int:
        self._starts.append(len(self._out))
        number = len(self._starts)
        raw = body.encode("cp1252") if isinstance(body, str) else body
        self._out += b"%d 0 obj\n%s\nendobj\n" % (number, raw)
        return number

    def _stream(self, entries: str, data: bytes) -> int:
        head = f"<< {entries} /Length {len(data)} >>\nstream\n".encode("cp1252")
        return self._add(head + data + b"\nendstream")

    def _font(self, name: str) -> int:
        return self._add(f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>")

    def _page(self, tree: int, content: int, fonts: list[int]) -> int:
        plain, bold = fonts
        return self._add(
            f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {PAGE[0]} {PAGE[1]}] /Contents {content} 0 R "
            f"/Resources << /Font << /F1 {plain} 0 R /F2 {bold} 0 R >> >> >>"
        )

    def _embed(self, embedded: Embedded) -> str:
        """Factur-X 1.0: an associated file whose relationship is ``Data``, and metadata that names it."""
        size = f"/Params << /Size {len(embedded.data)} >>"
        packed = zlib.compress(embedded.data, 9)
        file = self._stream(f"/Type /EmbeddedFile /Subtype /text#2Fxml {size} /Filter /FlateDecode", packed)
        name = _string(embedded.name)
        streams = f"<< /F {file} 0 R /UF {file} 0 R >>"
        spec = self._add(f"<< /Type /Filespec /F {name} /UF {name} /AFRelationship /Data /EF {streams} >>")
        metadata = self._stream("/Type /Metadata /Subtype /XML", _metadata(embedded.name))
        return (
            f"/Names << /EmbeddedFiles << /Names [{name} {spec} 0 R] >> >> /AF [{spec} 0 R] "
            f"/Metadata {metadata} 0 R "
        )

    def _end(self, root: int, info: int) -> bytes:
        count, table = len(self._starts) + 1, len(self._out)
        rows = "".join(f"{start:010d} 00000 n \n" for start in self._starts)
        self._out += f"xref\n0 {count}\n0000000000 65535 f \n{rows}".encode()
        self._out += f"trailer\n<< /Size {count} /Root {root} 0 R /Info {info} 0 R >>\n".encode()
        self._out += f"startxref\n{table}\n%%EOF\n".encode()
        return bytes(self._out)


def _string(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"({escaped})"


def _content(page: Sequence[Text]) -> bytes:
    parts = [
        f"BT /F{2 if t.bold else 1} {t.size} Tf {_start(t)} {t.y} Td {_string(t.text)} Tj ET" for t in page
    ]
    return "\n".join(parts).encode("cp1252")


def _start(text: Text) -> str:
    """Where the text begins; Helvetica's digits are 0.556 em wide, its other signs are near that."""
    width = sum(_WIDTHS.get(sign, 0.556) for sign in text.text) * text.size
    return f"{text.x - width if text.right else text.x:.1f}"


#: Helvetica's widths in em that matter for amounts (Adobe's Helvetica.afm).
_WIDTHS = {".": 0.278, ",": 0.278, " ": 0.278, "-": 0.333}


def _metadata(name: str) -> bytes:
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">
<fx:DocumentType>INVOICE</fx:DocumentType><fx:DocumentFileName>{name}</fx:DocumentFileName>
<fx:Version>1.0</fx:Version><fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
