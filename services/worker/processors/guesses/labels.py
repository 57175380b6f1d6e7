"""The words that stand before a fact, in English, Spanish, German, Dutch, French and Italian.

Each list goes from the most to the least specific; a pattern matches a cell's beginning.
"""

import re

Labels = tuple[re.Pattern[str], ...]


def _labels(*patterns: str) -> Labels:
    return tuple(re.compile(rf"(?:{pattern})(?![\w])\s*[:.#]*\s*", re.IGNORECASE) for pattern in patterns)


_NO = r"(?:number|no\.?|nr\.?|num\.?|núm\.?|número|numero|n[º°.]|#|id)"

NUMBER: Labels = (
    *_labels(
        rf"(?:tax )?invoice\s*{_NO}",
        rf"{_NO}\s*(?:de\s+|de la\s+)?factura",
        rf"factura\s*{_NO}",
        r"rechnungs-?\s?(?:nummer|nr\.?)",
        rf"\w*rechnung\s*(?:\(\d+\))?\s*{_NO}",
        r"factuur-?\s?(?:nummer|nr\.?)",
        rf"{_NO}\s*(?:de\s+|de la\s+)?facture",
        rf"facture\s*{_NO}",
        rf"(?:fattura|ricevuta)\s*{_NO}",
        rf"credit (?:note|memo)\s*{_NO}",
        r"(?:gutschrift|credit)s?-?\s?(?:nummer|nr\.?)",
    ),
    # A symbol cannot be followed by a word boundary.
    re.compile(r"(?:invoice|factura|facture|fattura|rechnung|factuur)\s*(?:#|n[º°])\s*:?\s*", re.IGNORECASE),
    *_labels(r"(?:tax )?invoice|factura|rechnung|factuur|facture|fattura|credit note|avoir|gutschrift"),
)

#: A line that says nothing but what the document is.
TITLE = re.compile(
    r"(?:(?:tax|commercial|vat) )?(?:invoice|factura|rechnung|factuur|facture|fattura|credit note)\.?",
    re.IGNORECASE,
)
#: What follows a bare title on the next line.
NUMBER_BELOW_TITLE = re.compile(r"(?:#|n[º°]|no\.|nr\.)\s*(?=\S)", re.IGNORECASE)

_DATE_LOCAL = (
    r"fecha\s+(?:de\s+)?(?:la\s+)?(?:factura|emisi[óo]n|expedici[óo]n)",
    r"rechnungsdatum|ausstellungsdatum",
    r"factuurdatum",
    r"date\s+(?:de\s+(?:la\s+)?facture|de\s+facturation|d['’]émission)",
    r"data\s+(?:fattura|documento|emissione)",
    r"fecha|datum|data|le",
)
#: These languages write the day first.
DATE_DAY_FIRST: Labels = _labels(*_DATE_LOCAL)
DATE: Labels = (
    *_labels(r"invoice\s+date|date\s+of\s+(?:issue|invoice)|issue\s+date|issued(?:\s+on)?|billing\s+date"),
    *DATE_DAY_FIRST,
    *_labels(r"date"),
)

_TAX = r"(?:vat|tax|iva|btw|mwst\.?|ust\.?|tva|gst|igv)"
_NET_WORDS = (
    rf"(?:total|totaal|gesamt|summe|amount|importe|montant)?\s*"
    rf"(?:excl(?:uding|usief|\.)?|before|ohne|zonder|sin|hors)\s*{_TAX}",
    r"total\s+(?:net|neto|netto|ht|h\.t\.)|net\s+(?:total|amount)|netto(?:betrag|bedrag|summe)?",
    rf"(?:rechnungs)?summe\s+(?:ohne|exkl\.?)\s*{_TAX}",
    r"base\s+imponible|montant\s+ht|imponibile|taxable\s+amount|importe\s+neto|valor\s+neto",
)
NET: Labels = _labels("|".join(_NET_WORDS), r"sub-?\s?total|subtotaal|zwischensumme|sous-total|subtotale")

_NOT_A_TOTAL = (
    rf"(?!\s*(?:\(?\s*(?:excl|ht\b|net|sin|ohne|hors|before)|{_TAX}|(?:of\s+)?(?:hours|items|qty|quantity|units)"
    r"|discount|descuento|weight|savings|paid|impuestos|taxes))"
)
TOTAL: Labels = (
    *_labels(
        r"grand\s+total|invoice\s+total|total\s+(?:invoice\s+)?amount|total\s+for\s+this\s+invoice",
        r"total\s+(?:de\s+la\s+)?factura|importe\s+total|total\s+general",
        r"gesamtbetrag|rechnungsbetrag|endbetrag|bruttobetrag|bruttosumme|gesamtsumme",
        r"totaalbedrag|factuurbedrag|totaal\s+incl\w*\.?(?:\s+btw)?",
        r"total\s+ttc|montant\s+(?:total|ttc)|total\s+général",
        r"totale\s+(?:fattura|documento|complessivo)",
        rf"total\s*\(?\s*(?:incl\w*\.?|inc\.?|con|mit|inkl\.?)\s*{_TAX}",
    ),
    re.compile(rf"(?:total|totaal|gesamt|totale|summe)\b{_NOT_A_TOTAL}\s*[:.*]*\s*", re.IGNORECASE),
)
PAYABLE: Labels = _labels(
    r"total\s+amount\s+due|(?:total|amount|balance|due)\s+(?:due|payable)|pay(?:able)?\s+this\s+amount"
    r"|total\s+a\s+pagar|importe\s+a\s+pagar|(?:zu\s+zahlen(?:der\s+betrag)?|zahlbetrag)"
    r"|(?:totaal\s+)?te\s+betalen|net\s+à\s+payer|totale\s+da\s+pagare"
)

#: A company below or behind one of these is the customer.
BUYER = re.compile(
    r"(?:bill(?:ing)?|delivery)\s+address|adresse\s+de\s+(?:livraison|facturation)|käufer|buyer|acheteur|koper"
    r"|(?:bill(?:ed)?|ship(?:ped)?|sold|invoice[d]?|deliver(?:ed)?)\s+to|customer|client|attn|attention"
    r"|facturar\s+a|cliente|destinatario|kunde|rechnungs(?:empfänger|adresse)|klant|afleveradres|factuuradres"
    r"|destinataire|adress[ée]\s+[àa]|facturé\s+à|adquir|comprador|an:|to:|para:",
    re.IGNORECASE,
)
#: A heading over the issuer's own data.
SELLER = re.compile(
    r"(?:seller|vendor|supplier|issuer|issued\s+by|from|verkäufer|lieferant|rechnungssteller|vendedor|emisor"
    r"|proveedor|vendeur|fournisseur|émetteur|leverancier|verkoper|fornitore|cedente)\s*:?",
    re.IGNORECASE,
)
NAME: Labels = _labels(r"name|nombre|raz[óo]n\s+social|firma|nom|naam|company|denominazione")

#: Who prints these gives the own ones.
OWN_IDS = re.compile(
    r"(?:vat|iban|bic|swift|kvk|btw|hr[ab]|ust-?id|steuer-?nr|registergericht|siret|siren|rcs|tva|n\.?i\.?f|c\.?i\.?f"
    r"|n\.?i\.?t|r\.?u\.?c|r\.?f\.?c|p\.?\s?iva|partita|coc|ein|abn|gstin)\b",
    re.IGNORECASE,
)
