"""Payment cards: the ranges of their networks (ISO/IEC 7812), their lengths, and Luhn's digit."""

import re
from collections.abc import Iterator
from typing import Final

from stdnum import luhn

from hookstream.app.privacy.detector import Place, Span
from hookstream.app.privacy.places import is_identifier

__all__ = ["Cards", "is_card"]

#: All digits, or groups with the same character between them: of four, or 4-6-5 and 4-6-4.
_RUN: Final = re.compile(
    r"(?<![\w.+/=#&-])(?:[2-6][0-9]{13,18}|[2-6][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    r"|3[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})(?![\w-]|\.[0-9])"
)
#: First digits of networks, and how many digits their cards have.
_NETWORKS: Final = (
    (re.compile("4"), (16, 19)),  # Visa
    (re.compile("5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),  # Mastercard
    (re.compile("3[47]"), (15,)),  # American Express
    (re.compile("6011|65|64[4-9]|62"), (16, 17, 18, 19)),  # Discover, UnionPay
    (re.compile("35(?:2[89]|[3-8])"), (16,)),  # JCB
    (re.compile("3(?:0[0-5]|095|[68])"), (14,)),  # Diners Club
    (re.compile("50|5[678]|6[0-9]"), (16,)),  # Maestro
)
_CARD_FIELDS: Final = frozenset(
    {
        "pan",
        "card",
        "card_number",
        "cardnumber",
        "credit_card",
        "card_no",
        "account_number",
        "number",
    }
)


class Cards:
    """Digits, together or in groups of which all are separated by the same character."""

    kinds = frozenset({"card"})
    rank = 2
    texts = (
        r"(?:^|[^0-9A-Za-z_.+/=#&-])(?:4|5[0-8]|2[2-7]|3[0-8]|6)[0-9]{2,3}"
        r"(?:[0-9]{9,15}|(?:[ -][0-9]{4}){2,3}|[ -][0-9]{6}[ -])"
    )
    names = ""

    def concerns(self, place: Place) -> bool:
        """A number of JSON counts in a field of cards only."""
        return place.field in _CARD_FIELDS

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text. A number of JSON counts in a field of cards only."""
        if len(text) < 13 or is_identifier(place.field):
            return
        if place.number and place.field not in _CARD_FIELDS:
            return
        for found in _RUN.finditer(text):
            if is_card(re.sub("[ -]", "", found[0])):
                yield Span(found.start(), found.end(), "card")


def is_card(digits: str) -> bool:
    """Whether digits are those of a card: of a network, as long as its cards, with Luhn's digit."""
    fits = any(
        len(digits) in lengths and first.match(digits) is not None for first, lengths in _NETWORKS
    )
    # 0000 and the like have a right check digit, too
    return fits and len(set(digits)) > 1 and bool(luhn.is_valid(digits))
