"""Telephone numbers, by libphonenumber's tables (the port ``phonenumbers``)."""

# ruff: noqa: E501 (patterns: a line says what belongs together)

import re
from collections.abc import Iterator
from typing import Final

from hookstream.app.privacy.detector import Place, Span

__all__ = ["Phones"]

#: In international form.
_PLUS: Final = re.compile(r"(?<![\w+])\+[1-9](?:[ ().\u2011/-]{0,2}[0-9]){6,14}(?![\w]|[.,][0-9])")
#: In national form, where a word before it says so.
_SAID: Final = re.compile(
    r"(?i)(?<!\w)(?:tel|tél|t[eé]l[eé]f[oó]n[eo]?|telefon|t[eé]l[eé]phone|phone|call(?: me)?(?: at| on)?|mobile|mobil|cell|fax"
    r"|rufnummer|handy|komórka|móvil|portable|cellulare|whatsapp|тел|телефон)"
    r"(?:\.|:|\s|nr|no|number|is|ist|est|es|è|to){0,8}"
    r"((?:\(?0|\(?[1-9])(?:[ ().\u2011/-]{0,2}[0-9]){6,13})(?![\w-])"
)
_FIELD: Final = re.compile(
    r"(?:\w+_)?(?:phone|phone_number|phonenumber|phone_no|mobile|mobile_number|mobile_phone|cell|cell_phone|cellphone|telephone"
    r"|telephone_number|tel|fax|fax_number|msisdn|wa_id|whatsapp_number|telefon|telefono|telefone|handy)"
)
_DIGITS: Final = re.compile("[0-9]")
_WHOLE: Final = re.compile(r"\s*\(?\+?[0-9][0-9 ().\u2011/-]{5,24}\s*")


class Phones:
    """International numbers anywhere; national ones in fields and after words that say so."""

    kinds = frozenset({"phone"})
    rank = 5
    texts = (
        r"\+[1-9](?:[ ().\xe2\x80\x91/-]{0,4}[0-9]){6}"
        r"|(?i:phone|mobil|cell|tel|t\xc3\xa9l|fax|whatsapp|handy|call|rufnummer|kom\xc3\xb3rka|m\xc3\xb3vil|portable"
        r"|\xd1\x82\xd0\xb5\xd0\xbb|\xd0\xa2\xd0\xb5\xd0\xbb)[^0-9]{1,24}[0-9]"
    )
    names = (
        r"(?i:phone|mobile|cell|tel|telefono|telefone|telefon|fax|msisdn|wa_id|handy|number|no)"
        r"\\?\"\s*:\s*\[?\s*\\?\"?[(]?\+?[0-9]"
    )

    def concerns(self, place: Place) -> bool:
        """By its name."""
        return _FIELD.fullmatch(place.field) is not None

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text."""
        if len(text) < 7:
            return
        if (
            _FIELD.fullmatch(place.field)
            and _WHOLE.fullmatch(text)
            and 7 <= len(_DIGITS.findall(text)) <= 15
        ):
            yield Span(0, len(text), "phone")
            return
        if place.number:
            return
        if "+" in text:
            for found in _PLUS.finditer(text):
                if _is_possible(found[0]):
                    yield Span(found.start(), found.end(), "phone")
        for found in _SAID.finditer(text):
            if 7 <= len(_DIGITS.findall(found[1])) <= 15:
                yield Span(found.start(1), found.end(1), "phone")


def _is_possible(text: str) -> bool:
    # some 10 MB of tables, for who has numbers
    import phonenumbers

    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(text)))
    except phonenumbers.NumberParseException:
        return False
