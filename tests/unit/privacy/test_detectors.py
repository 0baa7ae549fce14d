"""Single detectors: what they find, and what looks like it."""

import pytest

from hookstream.app.privacy.detector import NOWHERE, Place
from hookstream.app.privacy.finder import DETECTORS, Finder
from hookstream.app.privacy.kinds import KINDS
from hookstream.app.privacy.places import field_name

FINDER = Finder(KINDS)


def found(text: str, field: str = "", parent: str = "") -> list[tuple[str, str]]:
    place = Place(field, parent) if field else NOWHERE
    spans = FINDER.whole.spans(text, place)
    return [(span.kind, text[span.start : span.end]) for span in spans]


def test_every_kind_has_one_detector() -> None:
    assert sorted(kind for detector in DETECTORS for kind in detector.kinds) == sorted(KINDS)
    assert [detector.rank for detector in DETECTORS] == list(range(len(DETECTORS)))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("mail jane.doe+x@example.co.uk now", "email", "jane.doe+x@example.co.uk"),
        ("mailto:müller@bücher.example", "email", "müller@bücher.example"),
        ("ring +49 30 901820 tomorrow", "phone", "+49 30 901820"),
        ("Tel. 030 901820", "phone", "030 901820"),
        ("card 4111 1111 1111 1111, thanks", "card", "4111 1111 1111 1111"),
        ("3782-822463-10005", "card", "3782-822463-10005"),
        ("IBAN DE89 3704 0044 0532 0130 00 of", "iban", "DE89 3704 0044 0532 0130 00"),
        ("from 203.0.113.7:443", "ip", "203.0.113.7"),
        ("from 2001:db8::8a2e:370:7334 at", "ip", "2001:db8::8a2e:370:7334"),
        ("SSN 536-90-4399", "national_id.us", "536-90-4399"),
        ("PESEL: 44051401359", "national_id.pl", "44051401359"),
        ("CPF 390.533.447-05", "national_id.br", "390.533.447-05"),
        ("Dear Mrs. Jane Whitfield, hello", "name", "Jane Whitfield"),
        ("wohnt Hauptstraße 12 in", "address", "Hauptstraße 12"),
        ("amqp://svc:s3cr3t@mq.example.com/", "secret.url", "svc:s3cr3t"),
        ("AKIAIOSFODNN7EXAMPLE", "secret.aws", "AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_it_is_found_in_a_text(text: str, kind: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "git@github.com:acme/app.git",
        "actions/checkout@v4.1.2 and left-pad@1.3.0",
        "4111 1111 1111 1112",
        "https://example.com/orders/4111111111111111",
        "DE89 3704 0044 0532 0130 01",
        "127.0.0.1 and ::1 and 0.0.0.0",
        "version 1.2.3.4.5",
        "12:30:45 and 02:42:ac:11:00:02",
        "44051401359",
        "ticket 123456789, build 20261130123456",
        "2026-11-30T12:00:00.000+00:00",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "e83c5163316f89bfbde7d9ab23ca2e25604af290",
        "1,299.00 EUR + 19 % = +1299",
        "password: hunter",
    ],
)
def test_it_is_none(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("field", "parent", "text", "kind"),
    [
        ("first_name", "customer", "Jane", "name"),
        ("name", "billing_details", "Jane Doe", "name"),
        ("postal_code", "address", "94103", "address"),
        ("city", "shipping_address", "Berlin", "address"),
        ("date_of_birth", "", "1980-01-02", "birth_date"),
        ("client_secret", "", "abcdefgh", "secret.field"),
        ("phone", "user", "(555) 555-5555", "phone"),
        ("tax_id", "", "44051401359", "national_id.pl"),
    ],
)
def test_its_field_says_it(field: str, parent: str, text: str, kind: str) -> None:
    assert found(text, field, parent) == [(kind, text)]


@pytest.mark.parametrize(
    ("field", "parent", "text"),
    [
        ("name", "repository", "acme"),
        ("full_name", "repository", "acme/app"),
        ("login", "sender", "ann"),
        ("next_page_token", "", "abcdefgh"),
        ("id", "", "4111111111111111"),
        ("password", "", "[FILTERED]"),
        ("address", "", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ],
)
def test_its_field_says_that_it_is_none(field: str, parent: str, text: str) -> None:
    assert found(text, field, parent) == []


def test_names_of_fields_are_the_same_however_they_are_written() -> None:
    assert {field_name(n) for n in ("cardNumber", "card-number", "Card Number")} == {"card_number"}
