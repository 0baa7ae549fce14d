"""Names, addresses and dates of birth: by the names of fields, and by what stands before them.

A name in a sentence looks like any other word: whoever wants those found adds a model with the
interface of :class:`Detector`.
"""

# ruff: noqa: E501 (patterns: a line says what belongs together)

import re
from collections.abc import Iterator
from typing import Final

from hookstream.app.privacy.detector import Place, Span

__all__ = ["People"]

_NAME: Final = re.compile(
    r"(?:\w+_)?(?:first_name|firstname|last_name|lastname|given_name|givenname|family_name|familyname|middle_name|maiden_name"
    r"|surname|real_name|real_name_normalized|legal_name|full_legal_name|cardholder_name|cardholder|holder_name|customer_name|contact_name|recipient_name"
    r"|billing_name|shipping_name|patient_name|employee_name|account_holder|account_holder_name|payer_name|author_name"
    r"|committer_name|sender_name|vorname|nachname|prenom|nom_de_famille|apellido|apellidos|nombre_completo|cognome"
    r"|imie|nazwisko|sobrenome)"
)
#: Around ``name`` and the like these say that a person's is meant.
_PERSON: Final = re.compile(
    r"(?:\w+_)?(?:customer|author|committer|person|people|contact|contacts|owner|recipient|patient|employee|payer|payee"
    r"|billing_details|billing_address|shipping|shipping_address|billing|profile|cardholder|buyer|subscriber|invitee|guest"
    r"|attendee|signer|signers|member|kunde|client|cliente)"
)
_OF_PERSON: Final = frozenset(
    {"name", "full_name", "fullname", "display_name", "nom", "nombre", "nome"}
)
_ADDRESS: Final = re.compile(
    r"(?:\w+_)?(?:street|street_address|street_name|address_line_?[1-4]|address_?[1-4]|address|line[1-4]|street_?[1-4]|postal_code|zip|zip_code"
    r"|zipcode|postcode|formatted_address|full_address|home_address|mailing_address|strasse|straße|hausnummer|plz|code_postal|rue"
    r"|calle|codigo_postal|indirizzo|cap|endereco|logradouro|cep|ulica|kod_pocztowy)"
)
_OF_ADDRESS: Final = frozenset(
    {"city", "town", "locality", "district", "suburb", "ort", "ville", "ciudad"}
)
_ADDRESSES: Final = re.compile(r"(?:\w+_)?(?:address|addresses|shipping|billing)")
_BIRTH: Final = re.compile(
    r"(?:\w+_)?(?:birth_date|birthdate|birthday|date_of_birth|dob|geburtsdatum|geburtstag|date_de_naissance"
    r"|fecha_de_nacimiento|data_di_nascita|data_de_nascimento|data_urodzenia)"
)
#: What are no postal addresses: of networks, of wallets, of pages, of mailboxes.
_OTHER_ADDRESS: Final = re.compile(
    r"[0-9a-fA-F.:]+|0x\w+|\w{20,}|[^\s@]+@\S+|\w+://\S+|[\w-]+(?:\.[\w-]+)+"
)
#: Whose names say that they are none, whatever is in them.
_OTHERS: Final = re.compile(
    r"(?:\w+_)?(?:ip|email|e_?mail|mac|wallet|remote|contract|network|host|server|web)_?address"
)
_LETTER: Final = re.compile(r"[^\W\d_]")

_GIVEN: Final = r"[A-ZÀ-ÖØ-ÞŁŚŻŹĆŃÓ][\w'’-]{1,30}"
_TITLES: Final = re.compile(
    rf"(?<!\w)(?:Mr|Mrs|Ms|Dr|Herr|Herrn|Frau|Mme|Monsieur|Madame|Sr|Sra|Señor|Señora|Sig|Sig\.ra|Signor|Signora|Pan|Pani"
    rf"|Senhor|Senhora)\.? ({_GIVEN}(?: {_GIVEN}){{0,2}})"
)
_STREETS: Final = re.compile(
    rf"(?<!\w)(?:[0-9]{{1,5}}[A-Za-z]? (?:{_GIVEN} ){{1,3}}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Drive|Boulevard|Blvd|Court|Square)\b\.?"
    rf"|(?:{_GIVEN}-){{0,2}}[A-ZÄÖÜ][\wäöüß-]{{2,30}}(?:straße|strasse|weg|gasse|platz|allee|str\.) [0-9]{{1,4}}[a-z]?(?!\w)"
    rf"|[0-9]{{1,4}}(?: ?bis)?,? (?:rue|avenue|boulevard|place|allée|chemin|impasse) (?:de la |du |de |des |d'|l'|la |le )?{_GIVEN}(?:[ -]{_GIVEN}){{0,3}}"
    rf"|(?:Calle|Avenida|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua|Travessa|ul\.|al\.|pl\.) (?:de la |de |del |da |do |dos )?{_GIVEN}(?: {_GIVEN}){{0,3}},? [0-9]{{1,4}}[a-z]?(?!\w))"
)


class People:
    """By fields; and names behind titles, streets with their numbers."""

    kinds = frozenset({"name", "address", "birth_date"})
    rank = 7
    texts = (
        r"(?:^|[^A-Za-z])(?:Mr|Mrs|Ms|Dr|Herrn?|Frau|Mme|Monsieur|Madame|Sra?|Se\xc3\xb1ora?|Sig|Sig\.ra"
        r"|Signora?|Pani?|Senhora?)\.? (?:[A-Z]|\xc3|\xc5)"
        r"|[0-9][A-Za-z]? .*(?:Street|St|Avenue|Ave|Road|Rd|Lane|Drive|Boulevard|Blvd|Court|Square)\b"
        r"|(?:stra(?:\xc3\x9f|ss)e|weg|gasse|platz|allee|str\.) [0-9]"
        r"|[0-9](?: ?bis)?,? (?:rue|avenue|boulevard|place|all\xc3\xa9e|chemin|impasse) "
        r"|(?:Calle|Avenida|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua|Travessa|ul\.|al\.|pl\.) .*[0-9]"
    )
    #: Names of fields alone: they are in most payloads.
    names = (
        r"(?i:(?:name|firstname|lastname|givenname|familyname|surname|holder|vorname|nachname|prenom|nom|nom_de_famille|apellidos?"
        r"|nombre|nombre_completo|cognome|nome|imie|nazwisko|street|street_?[1-4]|address|address_?[1-4]|line_?[1-4]|postal_?code|zip|zip_?code|postcode"
        r"|strasse|stra\xc3\x9fe|hausnummer|plz|code_postal|rue|calle|codigo_postal|indirizzo|cap|endereco|logradouro|cep|ulica"
        r"|kod_pocztowy|city|town|locality|district|suburb|ort|ville|ciudad|birth_?date|birthday|date_?of_?birth|dob|geburtsdatum"
        r"|geburtstag|naissance|nacimiento|nascita|nascimento|urodzenia|street_?address|street_?name)\\?\"\s*:)"
    )

    def concerns(self, place: Place) -> bool:
        """By its name, and that of the object around it."""
        field, parent = place.field, place.parent
        return bool(
            _BIRTH.fullmatch(field)
            or (_ADDRESS.fullmatch(field) and not _OTHERS.fullmatch(field))
            or _NAME.fullmatch(field)
            or (field in _OF_ADDRESS and _ADDRESSES.fullmatch(parent))
            or (field in _OF_PERSON and _PERSON.fullmatch(parent))
        )

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text."""
        if not text or len(text) < 2:
            return
        kind = _kind_of(text, place)
        if kind:
            yield Span(0, len(text), kind)
            return
        if place.number:
            return
        for found in _TITLES.finditer(text):
            yield Span(found.start(1), found.end(1), "name")
        for found in _STREETS.finditer(text):
            yield Span(found.start(), found.end(), "address")


def _kind_of(text: str, place: Place) -> str:
    """The kind that the field says the whole of a text is; "" for none."""
    field, parent = place.field, place.parent
    if _BIRTH.fullmatch(field):
        return "birth_date" if any(c.isdigit() for c in text) else ""
    if _OTHERS.fullmatch(field):
        return ""
    if _ADDRESS.fullmatch(field) or (field in _OF_ADDRESS and _ADDRESSES.fullmatch(parent)):
        if _OTHER_ADDRESS.fullmatch(text) and not text.isdecimal() and not text.isalpha():
            return ""
        return "address"
    if place.number or not _LETTER.search(text):
        return ""
    is_name = _NAME.fullmatch(field) or (field in _OF_PERSON and _PERSON.fullmatch(parent))
    return "name" if is_name else ""
