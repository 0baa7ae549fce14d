"""Numbers that states give to people, by their check digits (python-stdnum's algorithms).

A form that nothing else has counts anywhere. What is a row of digits like any other counts in a
field, or behind a word, that says what it is. Check digits alone would take a tenth of all ids.
"""

# ruff: noqa: E501 (patterns: a line says what belongs together)

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Final

from hookstream.app.privacy.detector import Place, Span

__all__ = ["NationalIds"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """One country's number.

    ``form``: what it looks like where nothing says what it is; "" where that is not enough.
    ``digits``: what it looks like where ``words`` do. ``modules``: those of stdnum that know it.
    """

    country: str
    form: str
    digits: str
    words: str
    modules: tuple[str, ...] = ()


_D = "[0-9]"
SCHEMES: Final = (
    Scheme("us", rf"{_D}{{3}}-{_D}{{2}}-{_D}{{4}}", rf"{_D}{{3}}[- ]?{_D}{{2}}[- ]?{_D}{{4}}", "ssn|social security(?: number)?", ("us.ssn", "us.itin")),
    Scheme("gb", rf"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] {_D}{{2}} {_D}{{2}} {_D}{{2}} [A-D]", rf"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?{_D}{{2}} ?{_D}{{2}} ?{_D}{{2}} ?[A-D]", "nino|ni number|national insurance(?: number)?"),
    Scheme("fr", rf"[12] ?{_D}{{2}} ?(?:0[1-9]|1[0-2]|[2-9]{_D}) ?(?:{_D}{{2}}|2[AB]) ?{_D}{{3}} ?{_D}{{3}} ?{_D}{{2}}", "", "nir|insee|(?:numéro de )?sécurité sociale|securite sociale|numero securite sociale", ("fr.nir",)),
    Scheme("de", "", rf"{_D}{{2}} ?{_D}{{3}} ?{_D}{{3}} ?{_D}{{3}}", "steuer[ -]?id(?:nr)?|steuer identifikationsnummer|steueridentifikationsnummer|identifikationsnummer|idnr", ("de.idnr",)),
    Scheme("es", rf"{_D}{{8}}-[A-HJ-NP-TV-Z]|[XYZ]-?{_D}{{7}}-[A-HJ-NP-TV-Z]", rf"(?:{_D}{{8}}|[XYZ]-?{_D}{{7}})-?[A-HJ-NP-TV-Z]", "dni|nie|nif", ("es.dni", "es.nie")),
    Scheme("it", rf"[A-Z]{{6}}{_D}{{2}}[A-EHLMPRST]{_D}{{2}}[A-Z]{_D}{{3}}[A-Z]", "", "codice fiscale|cf", ("it.codicefiscale",)),
    Scheme("nl", "", rf"{_D}{{4}}\.?{_D}{{2}}\.?{_D}{{3}}", "bsn|burgerservicenummer|sofinummer", ("nl.bsn",)),
    Scheme("be", rf"{_D}{{2}}\.{_D}{{2}}\.{_D}{{2}}-{_D}{{3}}\.{_D}{{2}}", rf"{_D}{{11}}", "rijksregisternummer|registre national|numero national|nrn|insz|niss", ("be.nn",)),
    Scheme("pl", "", rf"{_D}{{11}}", "pesel", ("pl.pesel",)),
    Scheme("se", rf"(?:19|20)?{_D}{{6}}[-+]{_D}{{4}}", rf"(?:19|20)?{_D}{{10}}", "personnummer|personal identity number", ("se.personnummer",)),
    Scheme("fi", rf"{_D}{{6}}[-+A-FU-Y]{_D}{{3}}[0-9A-FHJ-NPR-Y]", "", "hetu|henkilötunnus|henkilotunnus", ("fi.hetu",)),
    Scheme("br", rf"{_D}{{3}}\.{_D}{{3}}\.{_D}{{3}}-{_D}{{2}}", rf"{_D}{{11}}", "cpf", ("br.cpf",)),
    Scheme("cl", rf"{_D}{{1,2}}\.{_D}{{3}}\.{_D}{{3}}-[0-9Kk]", rf"{_D}{{7,8}}-?[0-9Kk]", "rut", ("cl.rut",)),
    Scheme("mx", rf"[A-Z]{{4}}{_D}{{6}}[HM][A-Z]{{5}}[0-9A-Z]{_D}", "", "curp", ("mx.curp",)),
    Scheme("in", "", rf"{_D}{{4}} ?{_D}{{4}} ?{_D}{{4}}", "aadhaar|aadhar|uidai", ("in_.aadhaar",)),
    Scheme("tr", "", rf"{_D}{{11}}", "tckn|t\\.?c\\.? kimlik(?: no)?|kimlik(?: no)?|tc kimlik no", ("tr.tckimlik",)),
    Scheme("cn", rf"[1-9]{_D}{{5}}(?:19|20){_D}{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]{_D}|3[01]){_D}{{3}}[0-9X]", "", "身份证(?:号码?)?|resident id", ("cn.ric",)),
    Scheme("za", "", rf"{_D}{{13}}", "sa id(?: number)?|south african id(?: number)?|rsa id", ("za.idnr",)),
    Scheme("ca", "", rf"{_D}{{3}}[- ]?{_D}{{3}}[- ]?{_D}{{3}}", "sin|social insurance(?: number)?", ("ca.sin",)),
)  # fmt: skip
_BEFORE, _AFTER = r"(?<![\w.+-])", r"(?![\w-]|\.[0-9])"
#: Between a word that says what it is, and the number.
_BETWEEN = r"(?:[ ]?(?:nummer|number|número|numero|numer|no|nr|num))?[.:#]{0,2}[ ](?:is[ ]|ist[ ]|est[ ]|es[ ]|è[ ]|to[ ])?"
_FREE: Final = re.compile(
    "|".join(f"(?P<{s.country}_>{_BEFORE}(?:{s.form}){_AFTER})" for s in SCHEMES if s.form)
)
_LABELLED: Final = tuple(
    (
        scheme,
        re.compile(
            rf"(?i:(?<!\w)(?:{scheme.words})){_BETWEEN}({scheme.digits or scheme.form}){_AFTER}"
        ),
        re.compile(rf"\s*({scheme.digits or scheme.form})\s*"),
    )
    for scheme in SCHEMES
)
_BY_COUNTRY: Final = {scheme.country: scheme for scheme in SCHEMES}
_WORD: Final = re.compile("(?i)" + "|".join(scheme.words for scheme in SCHEMES))
#: Names of fields that hold such a number of some country.
_FIELD_WORDS: Final = tuple(
    (scheme, re.compile(rf"(?:\w+_)?(?:{scheme.words.replace(' ', '_').replace('[_-]', '_')})(?:_(?:number|nr|no|id|value))?"))
    for scheme in SCHEMES
)  # fmt: skip
_ANY_FIELD: Final = re.compile(
    r"(?:\w+_)?(?:national_id|national_id_number|national_identifier|personal_id|personal_number|identity_number"
    r"|id_number|tax_id|tax_id_number|tin|personal_code|government_id|document_number|id_card_number)"
)
#: Those of a country without check digits, or where stdnum has none.
_UNCHECKED: Final = frozenset({"gb"})


class NationalIds:
    """Numbers of people in nineteen countries."""

    kinds = frozenset(f"national_id.{scheme.country}" for scheme in SCHEMES)
    rank = 3
    texts = (
        r"(?:^|[^0-9A-Za-z_.+-])(?:"
        + "|".join(s.form for s in SCHEMES if s.form)
        + r")(?:$|[^0-9A-Za-z_-])"
        r"|(?i:(?:^|[^a-z0-9])(?:ssn|social security|nino|ni number|national insurance|nir|insee"
        r"|s\xc3\xa9curit\xc3\xa9 sociale|securite sociale|steuer|identifikationsnummer|idnr|dni|nie|nif"
        r"|codice fiscale|cf|bsn|burgerservicenummer|sofinummer|rijksregisternummer|registre national"
        r"|numero national|nrn|insz|niss|pesel|personnummer|personal identity number|hetu|henkil|cpf|rut"
        r"|curp|aadhaa?r|uidai|tckn|t\.?c\.? kimlik|kimlik|resident id|sa id|south african id|rsa id|sin"
        r"|social insurance)[ .:#-][^0-9]{0,23}(?:[0-9]|[A-Z]{2} ?[0-9]))"
    )
    names = (
        r"(?i:(?:ssn|security|nino|ni_?number|insurance|nir|insee|sociale|steuer_?id|nummer|idnr|dni|nie|nif|fiscale"
        r"|\"cf|_cf|bsn|registre_?national|numero_?national|nrn|insz|niss|pesel|hetu|tunnus|cpf|\"rut|_rut|curp|aadhaa?r"
        r"|uidai|tckn|kimlik|resident_?id|sa_?id|rsa_?id|\"sin|_sin|national_?id|national_?identifier|personal_?id"
        r"|(?:personal|identity|id|document)_?number|tax_?id|\"tin|_tin|personal_?code|government_?id"
        r"|id_?card_?number)(?:_?(?:number|nr|no|id|value))?"
        r"\\?\"\s*:\s*\[?\s*\\?\"?[A-Z]{0,6}-?[0-9]{2})"
    )

    def concerns(self, place: Place) -> bool:
        """By its name."""
        return bool(_of_field(place.field))

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text."""
        if not len(text) >= 8:
            return
        if len(text) <= 40:
            for scheme in _of_field(place.field):
                found = _WHOLE[scheme.country].fullmatch(text)
                if found and _is_valid(scheme, found[1]):
                    yield _span(found, 1, scheme)
                    return
        if place.number:
            return
        for found in _FREE.finditer(text):
            scheme = _BY_COUNTRY[(found.lastgroup or "")[:2]]
            if _is_valid(scheme, found[0]):
                yield _span(found, 0, scheme)
        if _WORD.search(text):
            for scheme, labelled, _ in _LABELLED:
                for found in labelled.finditer(text):
                    if _is_valid(scheme, found[1]):
                        yield _span(found, 1, scheme)


_WHOLE: Final = {scheme.country: whole for scheme, _, whole in _LABELLED}


@lru_cache(4096)
def _of_field(field: str) -> tuple[Scheme, ...]:
    """The countries whose number a field of this name may hold."""
    if _ANY_FIELD.fullmatch(field):
        # a number of nine digits is one of the States unless it has somebody's check digit
        return (*SCHEMES[1:], SCHEMES[0])
    return tuple(s for s, pattern in _FIELD_WORDS if pattern.fullmatch(field))


def _span(found: "re.Match[str]", group: int, scheme: Scheme) -> Span:
    return Span(found.start(group), found.end(group), f"national_id.{scheme.country}")


def _is_valid(scheme: Scheme, text: str) -> bool:
    if scheme.country in _UNCHECKED:
        return True
    if len(set(re.sub(r"\W", "", text))) < 3:
        return False
    return any(_checks(module)(text) for module in scheme.modules)


def _checks(module: str) -> Callable[[str], bool]:
    check: Callable[[str], bool] = import_module(f"stdnum.{module}").is_valid
    return check
