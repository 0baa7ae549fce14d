"""Made personal data, of which every item is labelled: values by kind, from a seed.

No value is anybody's: numbers are drawn and given their check digits; names and streets are of lists.
"""

# ruff: noqa: E501 (a line is what belongs together)

import base64
import random
from collections.abc import Callable
from importlib import import_module
from typing import Final

import phonenumbers
from stdnum import iban, luhn

__all__ = ["FIELDS", "LANGUAGES", "SENTENCES", "WORDS", "made"]

LANGUAGES: Final = ("en", "de", "fr", "es", "it", "pl")
GIVEN: Final = {
    "en": ("Jane", "Oliver", "Grace", "Liam"), "de": ("Jürgen", "Anke", "Lukas", "Käthe"),
    "fr": ("Élodie", "Benoît", "Chloé", "Mathieu"), "es": ("Iñaki", "Lucía", "Andrés", "Begoña"),
    "it": ("Chiara", "Niccolò", "Giulia", "Matteo"), "pl": ("Łukasz", "Zofia", "Bożena", "Michał"),
}  # fmt: skip
FAMILY: Final = {
    "en": ("Whitfield", "O'Connor", "Baker", "Hughes"), "de": ("Müller", "Groß", "Schäfer", "Vogt"),
    "fr": ("Lefèvre", "Dubois", "Garnier", "Moreau"), "es": ("Muñoz", "García", "Ibáñez", "Ortega"),
    "it": ("Rossi", "De Luca", "Bianchi", "Esposito"), "pl": ("Wiśniewski", "Zając", "Dąbrowska", "Lis"),
}  # fmt: skip
TITLES: Final = {
    "en": ("Mr.", "Mrs.", "Dr."), "de": ("Herr", "Frau", "Dr."), "fr": ("Mme", "Monsieur", "Madame"),
    "es": ("Sr.", "Sra.", "Señora"), "it": ("Sig.", "Signora", "Sig.ra"), "pl": ("Pan", "Pani", "Pani"),
}  # fmt: skip
STREETS: Final = {
    "en": ("{} Baker Street", "{} Old Mill Road", "{} Lincoln Avenue"),
    "de": ("Hauptstraße {}", "Lindenweg {}", "Goetheplatz {}"),
    "fr": ("{} rue de la Paix", "{} avenue Victor Hugo", "{}, boulevard Voltaire"),
    "es": ("Calle Mayor, {}", "Avenida de la Constitución {}", "Plaza Nueva {}"),
    "it": ("Via Roma {}", "Corso Garibaldi, {}", "Piazza Dante {}"),
    "pl": ("ul. Długa {}", "al. Jana Pawła {}", "ul. Marszałkowska {}"),
}  # fmt: skip
REGIONS: Final = {
    "en": ("US", "GB"),
    "de": ("DE", "AT"),
    "fr": ("FR", "BE"),
    "es": ("ES", "MX"),
    "it": ("IT", "CH"),
    "pl": ("PL", "CZ"),
}
#: What stands around a value in a text, by language.
SENTENCES: Final = {
    "en": ("Please look at {} before the release.", "The log has {} in it, remove that.", "Customer wrote: {}", "Steps: open the page, enter {}, press Save."),
    "de": ("Bitte vor dem Release {} prüfen.", "Im Protokoll steht {}, das muss weg.", "Kunde schreibt: {}", "Schritte: Seite öffnen, {} eingeben, speichern."),
    "fr": ("Merci de vérifier {} avant la mise en ligne.", "Le journal contient {}, à supprimer.", "Le client écrit : {}", "Étapes : ouvrir la page, saisir {}, valider."),
    "es": ("Revisad {} antes de publicar.", "En el registro aparece {}, hay que quitarlo.", "El cliente escribe: {}", "Pasos: abrir la página, poner {}, guardar."),
    "it": ("Controllare {} prima del rilascio.", "Nel registro compare {}, da togliere.", "Il cliente scrive: {}", "Passi: aprire la pagina, inserire {}, salvare."),
    "pl": ("Proszę sprawdzić {} przed wydaniem.", "W logu jest {}, trzeba to usunąć.", "Klient pisze: {}", "Kroki: otwórz stronę, wpisz {}, zapisz."),
}  # fmt: skip
#: What a text says before a value that means nothing by itself.
WORDS: Final = {
    "phone": {"en": "phone {}", "de": "Tel. {}", "fr": "tél. {}", "es": "teléfono {}", "it": "telefono {}", "pl": "telefon {}"},
    "national_id.us": "SSN {}", "national_id.gb": "NI number {}", "national_id.fr": "NIR {}",
    "national_id.de": "Steuer-ID {}", "national_id.es": "DNI {}", "national_id.it": "codice fiscale {}",
    "national_id.nl": "BSN {}", "national_id.be": "rijksregisternummer {}", "national_id.pl": "PESEL {}",
    "national_id.se": "personnummer {}", "national_id.fi": "HETU {}", "national_id.br": "CPF {}",
    "national_id.cl": "RUT {}", "national_id.mx": "CURP {}", "national_id.in": "Aadhaar {}",
    "national_id.tr": "TC kimlik no {}", "national_id.cn": "resident id {}", "national_id.za": "SA ID {}",
    "national_id.ca": "SIN {}", "secret.field": "password: {}",
}  # fmt: skip
#: Fields that hold a value of the kind.
FIELDS: Final = {
    "email": ("email", "contactEmail", "from"), "phone": ("phone", "mobile_number", "phoneNumber"),
    "card": ("card_number", "pan", "value"), "iban": ("iban", "account", "bankAccount"),
    "ip": ("ip", "ip_address", "remoteAddr"), "name": ("first_name", "lastName", "cardholder_name"),
    "address": ("street", "address_line1", "postal_code"), "birth_date": ("date_of_birth", "birthDate", "dob"),
    "national_id.us": ("ssn", "tax_id"), "national_id.gb": ("nino", "national_insurance_number"),
    "national_id.fr": ("nir", "insee_number"), "national_id.de": ("steuer_id", "taxId"),
    "national_id.es": ("dni", "nif"), "national_id.it": ("codice_fiscale", "tax_id"),
    "national_id.nl": ("bsn", "national_id"), "national_id.be": ("rijksregisternummer", "national_id"),
    "national_id.pl": ("pesel", "personal_id"), "national_id.se": ("personnummer", "personalNumber"),
    "national_id.fi": ("hetu", "identity_number"), "national_id.br": ("cpf", "tax_id"),
    "national_id.cl": ("rut", "id_number"), "national_id.mx": ("curp", "national_id"),
    "national_id.in": ("aadhaar", "aadhaarNumber"), "national_id.tr": ("tckn", "kimlik_no"),
    "national_id.cn": ("resident_id", "id_card_number"), "national_id.za": ("sa_id_number", "id_number"),
    "national_id.ca": ("sin", "social_insurance_number"), "secret.field": ("password", "client_secret", "apiKey"),
}  # fmt: skip
_ALNUM: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def made(kind: str, language: str, rng: random.Random, *, field: bool) -> str:
    """A value of a kind, as somebody of a language may write it."""
    if kind.startswith("national_id."):
        return _national_id(kind.partition(".")[2], rng)
    maker: Callable[[str, random.Random], str] = _MAKERS[kind]
    value = maker(language, rng)
    if kind == "name" and field:
        return value.partition(" ")[2]
    if kind == "address" and field and rng.random() < 0.3:
        return _digits(rng, 5)
    return value


def _digits(rng: random.Random, count: int) -> str:
    return str(rng.randrange(1, 10)) + "".join(str(rng.randrange(10)) for _ in range(count - 1))


def _letters(rng: random.Random, count: int, of: str = _ALNUM) -> str:
    return "".join(rng.choice(of) for _ in range(count))


def _email(language: str, rng: random.Random) -> str:
    given = rng.choice(GIVEN[language]).lower()
    host = rng.choice(
        ("example.com", "mail.example.org", "bücher.example", "firma-test.de", "poczta.example.pl")
    )
    form = rng.choice(("{}", "{}.{}", "{}+news", "{}_{}", "{}.{}"))
    return form.format(given, _digits(rng, 3)) + "@" + host


def _phone(language: str, rng: random.Random) -> str:
    region = rng.choice(REGIONS[language])
    while True:
        example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        text = str(example.national_number)
        at = len(text) - 4
        number = phonenumbers.PhoneNumber(example.country_code, int(text[:at] + _digits(rng, 4)))
        if phonenumbers.is_valid_number(number):
            break
    forms = phonenumbers.PhoneNumberFormat
    form = rng.choice((forms.E164, forms.INTERNATIONAL, forms.INTERNATIONAL, forms.NATIONAL))
    return str(phonenumbers.format_number(number, form))


def _card(language: str, rng: random.Random) -> str:
    first, length = rng.choice(
        (
            ("4", 16),
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2221", 16),
            ("2720", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("3528", 16),
            ("36", 14),
            ("62", 16),
            ("4", 19),
        )
    )
    body = first + "".join(str(rng.randrange(10)) for _ in range(length - len(first) - 1))
    number = body + str(luhn.calc_check_digit(body))
    if length == 16 and rng.random() < 0.5:
        return rng.choice(" -").join(number[at : at + 4] for at in range(0, 16, 4))
    if length == 15 and rng.random() < 0.5:
        return f"{number[:4]} {number[4:10]} {number[10:]}"
    return number


def _iban(language: str, rng: random.Random) -> str:
    country, form = rng.choice(
        (
            ("DE", "18n"),
            ("FR", "20n1c2n"),
            ("ES", "20n"),
            ("PL", "24n"),
            ("GB", "4a14n"),
            ("NL", "4a10n"),
            ("AT", "16n"),
            ("CH", "5n12c"),
            ("BE", "12n"),
            ("SE", "20n"),
            ("NO", "11n"),
            ("LU", "3n13c"),
            ("MT", "4a5n18c"),
        )
    )
    while True:
        body, count = "", ""
        for char in form:
            if char.isdecimal():
                count += char
                continue
            of = {
                "n": "0123456789",
                "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                "c": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            }[char]
            body += _letters(rng, int(count), of)
            count = ""
        number = country + str(iban.calc_check_digits(f"{country}00{body}")) + body
        if iban.is_valid(number):
            break
    return str(iban.format(number)) if rng.random() < 0.5 else number


def _ip(language: str, rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(
            ("203.0.113.{}", "198.51.100.{}", "192.0.2.{}", "81.2.69.{}", "10.20.30.{}")
        ).format(rng.randrange(1, 255))
    return rng.choice(
        ("2001:db8::{:x}", "2001:db8:85a3:0:0:8a2e:370:{:x}", "fd12:3456:789a:1::{:x}")
    ).format(rng.randrange(1, 65535))


def _name(language: str, rng: random.Random) -> str:
    return f"{rng.choice(TITLES[language])} {rng.choice(GIVEN[language])} {rng.choice(FAMILY[language])}"


def _address(language: str, rng: random.Random) -> str:
    return rng.choice(STREETS[language]).format(rng.randrange(1, 200))


def _birth_date(language: str, rng: random.Random) -> str:
    year, month, day = rng.randrange(1930, 2010), rng.randrange(1, 13), rng.randrange(1, 29)
    return rng.choice(
        (f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month}/{day}/{year}")
    )


def _jwt(language: str, rng: random.Random) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    body = (
        base64.urlsafe_b64encode(f'{{"sub":"{_digits(rng, 9)}","iat":1700000000}}'.encode())
        .decode()
        .rstrip("=")
    )
    return f"{head}.{body}.{_letters(rng, 43)}"


def _private_key(language: str, rng: random.Random) -> str:
    name = rng.choice(("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"))
    lines = "\n".join(_letters(rng, 64) for _ in range(3))
    return f"-----BEGIN {name}-----\n{lines}\n-----END {name}-----"


def _field(language: str, rng: random.Random) -> str:
    return _letters(rng, 6) + _digits(rng, 3) + _letters(rng, 6)


_MAKERS: Final = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "ip": _ip,
    "name": _name,
    "address": _address,
    "birth_date": _birth_date,
    "secret.aws": lambda _, r: (
        r.choice(("AKIA", "ASIA")) + _letters(r, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    ),
    "secret.github": lambda _, r: r.choice(
        (
            f"ghp_{_letters(r, 36)}",
            f"ghs_{_letters(r, 36)}",
            f"github_pat_{_letters(r, 22)}_{_letters(r, 59)}",
        )
    ),
    "secret.gitlab": lambda _, r: f"glpat-{_letters(r, 20)}",
    "secret.slack": lambda _, r: r.choice(
        (
            f"xoxb-{_digits(r, 12)}-{_digits(r, 12)}-{_letters(r, 24)}",
            f"xapp-1-A{_digits(r, 9)}-{_digits(r, 12)}-{_letters(r, 32)}",
        )
    ),
    "secret.stripe": lambda _, r: r.choice(
        (f"sk_live_{_letters(r, 24)}", f"rk_test_{_letters(r, 24)}", f"whsec_{_letters(r, 32)}")
    ),
    "secret.google": lambda _, r: "AIza" + _letters(r, 35),
    "secret.ai": lambda _, r: r.choice(
        (f"sk-ant-api03-{_letters(r, 60)}", f"sk-proj-{_letters(r, 48)}")
    ),
    "secret.jwt": _jwt,
    "secret.private_key": _private_key,
    "secret.url": lambda _, r: f"svc{_digits(r, 2)}:{_letters(r, 12)}",
    "secret.field": _field,
}


def _national_id(country: str, rng: random.Random) -> str:
    """Drawn until its country's check digits fit."""
    if country == "gb":
        return f"{rng.choice('ABCEGHJKLM')}{rng.choice('ABCEGHJKLM')} {_digits(rng, 2)} {_digits(rng, 2)} {_digits(rng, 2)} {rng.choice('ABCD')}"
    forms, modules = _NATIONAL[country]
    checks = [import_module(f"stdnum.{module}").is_valid for module in modules]
    while True:
        text = "".join(_drawn(char, rng) for char in rng.choice(forms))
        if any(check(text) for check in checks) and len(set(text)) > 3:
            return text


def _drawn(char: str, rng: random.Random) -> str:
    return {
        "#": lambda: str(rng.randrange(10)),
        "@": lambda: rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "Y": lambda: f"{rng.randrange(40, 99)}",
        "M": lambda: f"{rng.randrange(1, 13):02}",
        "D": lambda: f"{rng.randrange(1, 29):02}",
        "S": lambda: rng.choice("12"),
        "H": lambda: rng.choice("HM"),
        "V": lambda: rng.choice("BCDFGLMNPRST"),
    }.get(char, lambda: char)()


_NATIONAL: Final = {
    "us": (("###-##-####",), ("us.ssn",)),
    "fr": (("SYM75###" + "#" * 5, "S Y M 75 ### ### ##"), ("fr.nir",)),
    "de": (("###########", "## ### ### ###"), ("de.idnr",)),
    "es": (("########@", "########-@", "X#######@"), ("es.dni", "es.nie")),
    "it": (("VVVVVVYAD@###@", "VVVVVVYCD@###@", "VVVVVVYSD@###@"), ("it.codicefiscale",)),
    "nl": (("#########",), ("nl.bsn",)),
    "be": (("Y.M.D-###.##", "YMD#####"), ("be.nn",)),
    "pl": (("YMD#####",), ("pl.pesel",)),
    "se": (("YMD-####", "19YMD-####"), ("se.personnummer",)),
    "fi": (("DMY-###@", "DMY-####"), ("fi.hetu",)),
    "br": (("###.###.###-##", "###########"), ("br.cpf",)),
    "cl": (("##.###.###-#", "########-#"), ("cl.rut",)),
    "mx": (("VAVVYMDHDFVVV0#", "VAVVYMDHJCVVV0#"), ("mx.curp",)),
    "in": (("#### #### ####", "############"), ("in_.aadhaar",)),
    "tr": (("###########",), ("tr.tckimlik",)),
    "cn": (("11010119YMD####", "31010119YMD####"), ("cn.ric",)),
    "za": (("YMD#######",), ("za.idnr",)),
    "ca": (("### ### ###", "###-###-###", "#########"), ("ca.sin",)),
}
