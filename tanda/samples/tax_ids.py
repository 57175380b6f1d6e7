"""Tax numbers with right check digits for companies that do not exist.

Every function takes the digits without the check digit; the rules are those that each tax office publishes.
"""

from itertools import cycle

_RFC_VALUES = "0123456789ABCDEFGHIJKLMN&OPQRSTUVWXYZ Ñ"


def nif(letter: str, digits: str) -> str:
    """Spain: a company's letter (A or B) and seven digits."""
    odd = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[::2])
    even = sum(int(digit) for digit in digits[1::2])
    return f"{letter}{digits}{-(odd + even) % 10}"


def luhn(digits: str) -> str:
    """A SIREN's eight digits or an Italian partita IVA's ten, followed by their check digit."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[::-1][::2])
    plain = (int(digit) for digit in digits[::-1][1::2])
    return f"{digits}{-(sum(doubled) + sum(plain)) % 10}"


def french_vat(siren: str) -> str:
    """France: the key and the SIREN's nine digits."""
    return f"FR{(12 + 3 * (int(siren) % 97)) % 97:02d}{siren}"


def german_vat(digits: str) -> str:
    """Germany: eight digits, ISO 7064 MOD 11,10."""
    product = 10
    for digit in digits:
        product = (((int(digit) + product) % 10 or 10) * 2) % 11
    return f"DE{digits}{(11 - product) % 10}"


def british_vat(digits: str) -> str:
    """United Kingdom: seven digits and two check digits, modulus 97."""
    weighted = sum(int(digit) * weight for digit, weight in zip(digits, range(8, 1, -1), strict=True))
    return f"GB{digits}{-weighted % 97:02d}"


def rfc(letters_and_date: str, homoclave: str) -> str:
    """Mexico: three letters and ``yymmdd``, then two characters and the check digit."""
    written = f" {letters_and_date}{homoclave}"
    weighted = sum(
        _RFC_VALUES.index(sign) * weight for sign, weight in zip(written, range(13, 1, -1), strict=True)
    )
    return f"{written.strip()}{'0A987654321'[weighted % 11]}"


def nit(digits: str) -> str:
    """Colombia: nine digits; the check digit is written apart, so it is given alone."""
    weights = (3, 7, 13, 17, 19, 23, 29, 37, 41)
    rest = sum(int(d) * w for d, w in zip(reversed(digits), weights, strict=False)) % 11
    return str(rest if rest < 2 else 11 - rest)


def ruc(digits: str) -> str:
    """Ecuador: a private company's nine digits (province, 9, number), then the establishment 001."""
    weighted = sum(int(d) * w for d, w in zip(digits, (4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True))
    return f"{digits}{-weighted % 11 % 10}001"


def access_key(digits: str) -> str:
    """Ecuador: a receipt's 48 digits and their check digit, modulus 11 with weights 2 to 7."""
    weighted = sum(int(d) * w for d, w in zip(reversed(digits), cycle(range(2, 8)), strict=False))
    check = 11 - weighted % 11
    return f"{digits}{ {11: 0, 10: 1}.get(check, check) }".replace(" ", "")
