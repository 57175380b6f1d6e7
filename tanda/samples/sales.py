"""Invented companies and what they sell each other, in November 2026.

Amounts come out right by construction: quantities are such that every line is a whole number, so that a tax
in whole per cent has two decimals and sums need no rounding.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from tanda.samples import tax_ids

_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Company:
    """A seller or a buyer."""

    name: str
    #: As its own country writes it; with the country's prefix where that is a VAT number.
    tax_id: str
    #: ISO 3166, two letters.
    country: str
    street: str
    postcode: str
    city: str

    @property
    def vat(self) -> str:
        """The tax number with its country, as invoices across borders write it."""
        return self.tax_id if self.tax_id.startswith(self.country) else self.country + self.tax_id


@dataclass(frozen=True)
class Item:
    """One line of an invoice."""

    description: str
    quantity: Decimal
    #: UN/ECE recommendation 20.
    unit: str
    price: Decimal
    #: Per cent.
    rate: Decimal

    @property
    def net(self) -> Decimal:
        return (self.quantity * self.price).quantize(_CENT)

    @property
    def tax(self) -> Decimal:
        return (self.net * self.rate / 100).quantize(_CENT)


@dataclass(frozen=True)
class Sale:
    """What one document is about."""

    number: str
    day: date
    due: date
    seller: Company
    buyer: Company
    #: ISO 4217
    currency: str
    items: list[Item]
    #: Per cent that the buyer keeps back for the tax office.
    withheld_rate: Decimal = Decimal(0)
    #: The document that this one corrects.
    corrects: str | None = None

    @property
    def net(self) -> Decimal:
        return sum((item.net for item in self.items), Decimal("0.00"))

    @property
    def tax(self) -> Decimal:
        return sum((item.tax for item in self.items), Decimal("0.00"))

    @property
    def withheld(self) -> Decimal:
        return (self.net * self.withheld_rate / 100).quantize(_CENT)

    @property
    def total(self) -> Decimal:
        return self.net + self.tax - self.withheld

    def taxes(self) -> list[tuple[Decimal, Decimal, Decimal]]:
        """(rate, base, tax) for each rate, the highest first."""
        rates = sorted({item.rate for item in self.items}, reverse=True)
        return [
            (
                rate,
                sum((i.net for i in self.items if i.rate == rate), Decimal("0.00")),
                sum((i.tax for i in self.items if i.rate == rate), Decimal("0.00")),
            )
            for rate in rates
        ]


def _es(name: str, digits: str, street: str, postcode: str, city: str) -> Company:
    return Company(name, tax_ids.nif("B", digits), "ES", street, postcode, city)


LUNA = _es("Papelería Luna Cobalto S.L.", "8731206", "Calle del Tintero 14", "28012", "Madrid")
BRUJULAS = _es("Aceites Tres Brújulas S.L.", "2390417", "Camino del Olivar 3", "23003", "Jaén")
NANDU = _es("Estudio Ñandú Arquitectura S.L.P.", "6617823", "Rúa das Hortas 9", "15704", "Santiago")
ONDARRA = _es("Talleres Hierro y Niebla S.L.", "9504378", "Barrio Etxeluze 22", "48600", "Sopela")
FINCH = Company(
    "Harbour & Finch Stationers Ltd",
    tax_ids.british_vat("9247361"),
    "GB",
    "7 Lantern Quay",
    "BS1 4QA",
    "Bristol",
)
PHARE = Company(
    "Librairie du Phare Cobalt SARL",
    tax_ids.french_vat(tax_ids.luhn("84310275")),
    "FR",
    "12 rue des Goélands",
    "29200",
    "Brest",
)
MOND = Company(
    "Kobaltmond Werkzeuge GmbH", tax_ids.german_vat("31740926"), "DE", "Ankerstraße 5", "24103", "Kiel"
)
NUBE = Company(
    "CAFE NUBE VERDE",
    tax_ids.rfc("CNV150312", "7K"),
    "MX",
    "Av. de las Jacarandas 210",
    "06700",
    "Ciudad de México",
)
AJOLOTE = Company(
    "IMPRENTA EL AJOLOTE AZUL", tax_ids.rfc("IAA091104", "Q3"), "MX", "Calle Canal 18", "44100", "Guadalajara"
)
COBALTO = Company(
    "Officine Luna Cobalto S.r.l.",
    "IT" + tax_ids.luhn("0418273065"),
    "IT",
    "Via delle Ancore 8",
    "16124",
    "Genova",
)
GRILLO = Company(
    "Cartoleria Grillo & Figli S.n.c.",
    "IT" + tax_ids.luhn("0925617340"),
    "IT",
    "Corso Faro 31",
    "34121",
    "Trieste",
)
FARO = Company(
    "Distribuidora Faro Violeta S.A.S.", "901482736", "CO", "Carrera 11 # 84-09", "110221", "Bogotá, D.C."
)
CUMBIA = Company("Panadería La Cumbia S.A.S.", "900617254", "CO", "Calle 30 # 8-41", "080001", "Barranquilla")
VOLCAN = Company(
    "FLORES VOLCAN AZUL CIA. LTDA.",
    tax_ids.ruc("179274861"),
    "EC",
    "Av. de los Cóndores N34-12",
    "170135",
    "Quito",
)
TORTUGA = Company(
    "HOSTAL LA TORTUGA LENTA S.A.", tax_ids.ruc("099361427"), "EC", "Malecón 120", "090313", "Guayaquil"
)

#: (description, unit, price, the quantity's step): a step of the price is a whole number.
_GOODS = {
    "es": (
        ("Papel reciclado A4 80 g, caja de 5 paquetes", "XBX", "21.50", 2),
        ("Cuaderno de tapa dura, 96 hojas", "C62", "4.25", 4),
        ("Tóner negro, 3.000 páginas", "C62", "68.00", 1),
        ("Aceite de oliva virgen extra, 5 l", "C62", "47.50", 2),
        ("Horas de montaje en taller", "HUR", "38.00", 1),
        ("Portes a península", "C62", "12.00", 1),
        ("Bolígrafo azul, punta de 0,7 mm", "C62", "0.75", 20),
        ("Diseño de cartelería para feria", "HUR", "52.00", 1),
    ),
    "en": (
        ("Recycled paper A4 80 gsm, box of 5 reams", "XBX", "19.50", 2),
        ("Hard-cover notebook, 96 sheets", "C62", "3.75", 4),
        ("Black toner, 3,000 pages", "C62", "61.00", 1),
        ("On-site maintenance", "HUR", "64.00", 1),
        ("Freight and packing", "C62", "18.00", 1),
        ("Blue ballpoint pen, 0.7 mm", "C62", "0.60", 5),
    ),
    "it": (
        ("Carta riciclata A4, scatola da 5 risme", "XBX", "20.50", 2),
        ("Quaderno rigido, 96 fogli", "C62", "4.75", 4),
        ("Riparazione bilance da banco", "HUR", "45.00", 1),
        ("Trasporto", "C62", "15.00", 1),
    ),
}


def make_sale(
    entropy: Random,
    number: str,
    seller: Company,
    buyer: Company,
    *,
    currency: str = "EUR",
    rates: tuple[str, ...] = ("21",),
    language: str = "es",
    corrects: str | None = None,
    withheld_rate: str = "0",
    scale: int = 1,
) -> Sale:
    """A sale of two to five items; ``scale`` multiplies prices, for currencies of small units."""
    day = date(2026, 11, entropy.randint(2, 20))
    chosen = entropy.sample(_GOODS[language], entropy.randint(2, min(5, len(_GOODS[language]))))
    items = [
        Item(
            description=description,
            quantity=Decimal(step * entropy.randint(1, 12)),
            unit=unit,
            price=Decimal(price) * scale,
            rate=Decimal(rates[index % len(rates)]),
        )
        for index, (description, unit, price, step) in enumerate(chosen)
    ]
    due = day + timedelta(days=30)
    return Sale(number, day, due, seller, buyer, currency, items, Decimal(withheld_rate), corrects)
