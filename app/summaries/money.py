"""Amounts in a currency's smallest unit, as people write them."""

from typing import Final

__all__ = ["write_amount"]

#: Digits after the point of those that have not two (ISO 4217, list one of 2024, "CcyMnrUnts").
_DIGITS: Final = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0,
    "RWF": 0, "UGX": 0, "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "CLF": 4, "UYW": 4,
}  # fmt: skip


def write_amount(amount: int, currency: str, sent: str = "") -> str:
    """``1299`` of ``eur`` as ``12.99 EUR``.

    ``sent``: currencies to which the sender gives other digits than ISO 4217, as in ``ISK2 MGA0``.
    Digits that the currency does not have are shown where they are not zero: 500 of ``ISK2`` is
    ``5 ISK``.
    """
    code = currency[:16].upper()
    own = _DIGITS.get(code, 2)
    known = {word[:3]: word[3:] for word in sent.split()}
    digits = int(known[code]) if known.get(code) in ("0", "2", "3", "4") else own
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 10**digits)
    if digits > own and part % 10 ** (digits - own) == 0:
        part //= 10 ** (digits - own)
        digits = own
    fraction = f".{part:0{digits}d}" if digits else ""
    return f"{sign}{whole}{fraction} {code}".strip()
