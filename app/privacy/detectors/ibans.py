"""International bank account numbers (ISO 13616): their country's form, and the check digits."""

import re
from collections.abc import Iterator
from typing import Final

from stdnum import iban

from hookstream.app.privacy.detector import Place, Span
from hookstream.app.privacy.places import is_identifier

__all__ = ["Ibans"]

#: Countries that have IBANs.
_COUNTRIES: Final = (
    "AD|AE|AL|AT|AZ|BA|BE|BG|BH|BI|BR|BY|CH|CR|CY|CZ|DE|DJ|DK|DO|EE|EG|ES|FI|FK|FO|"
    "FR|GB|GE|GI|GL|GR|GT|HN|HR|HU|IE|IL|IQ|IS|IT|JO|KW|KZ|LB|LC|LI|LT|LU|LV|LY|MC|"
    "MD|ME|MK|MN|MR|MT|MU|NI|NL|NO|OM|PK|PL|PS|PT|QA|RO|RS|RU|SA|SC|SD|SE|SI|SK|SM|"
    "SO|ST|SV|TL|TN|TR|UA|VA|VG|XK|YE"
)
_RUN: Final = re.compile(
    rf"(?<![A-Za-z0-9_-])(?:{_COUNTRIES})[0-9]{{2}}"
    r"(?:[A-Z0-9]{10,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)(?![A-Za-z0-9_])"
)
#: What follows in a text after groups may be four letters long, too.
_LAST: Final = re.compile(r" [A-Z0-9]{1,4}\Z")


class Ibans:
    """Together or in groups of four."""

    kinds = frozenset({"iban"})
    rank = 1
    texts = rf"\b(?:{_COUNTRIES})[0-9]{{2}}(?:[A-Z0-9]{{10}}|(?: [A-Z0-9]{{4}}){{2}})"
    names = ""

    def concerns(self, place: Place) -> bool:
        """No field says it."""
        return False

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text."""
        if len(text) < 15 or is_identifier(place.field):
            return
        for found in _RUN.finditer(text):
            number = found[0]
            while len(number) >= 15:
                if iban.is_valid(number):
                    yield Span(found.start(), found.start() + len(number), "iban")
                    break
                if (shorter := _LAST.sub("", number)) == number:
                    break
                number = shorter
