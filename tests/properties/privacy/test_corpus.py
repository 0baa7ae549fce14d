"""Detectors on the labelled corpus, and on all that providers' fixtures have."""

import re
from collections import Counter

import pytest

from hookstream.app.privacy.kinds import KINDS
from tests.support import ROOT
from tests.support.privacy_corpus import STRUCTURED, corpus, found_in, scores
from tests.support.privacy_items import LANGUAGES
from tests.unit.providers.test_fixtures import cases

FIXTURES = ROOT / "tests" / "unit" / "providers" / "fixtures"
#: What nobody wants hidden: ids of tickets, hashes, UUIDs, times, amounts, versions.
ORDINARY = re.compile(
    r"#?[A-Z]{1,10}-[0-9]{1,6}|[0-9a-f]{7,64}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.+Z-]*)?|1[0-9]{9}(?:[0-9]{3})?|[0-9]{1,6}[.,][0-9]{2}"
    r"|v?[0-9]+\.[0-9]+\.[0-9]+(?:-\w+)?"
)


def test_the_corpus_has_what_it_says() -> None:
    items = corpus()
    assert len(items) >= 2000
    assert len({item.kind for item in items}) == len(KINDS) >= 20
    assert {item.language for item in items} == set(LANGUAGES)
    assert len({item.provider for item in items}) > 50


def test_structured_kinds_are_found_and_nothing_else_is() -> None:
    found, told = scores()
    by_kind = {score.kind: score for score in found}
    for kind in STRUCTURED:
        assert by_kind[kind].precision >= 0.99, (kind, told)
        assert by_kind[kind].recall >= 0.98, (kind, told)
    for kind in KINDS:
        assert min(by_kind[kind].precision, by_kind[kind].recall) >= 0.9, (kind, told)


@pytest.fixture(scope="module")
def in_fixtures() -> dict[tuple[str, str], Counter[tuple[str, str]]]:
    """All that is found in providers' fixtures, of every kind."""
    return {
        (name, file): found_in(name, (FIXTURES / name / file).read_bytes(), _content_type(file))
        for name, file in cases()
    }


def _content_type(file: str) -> str:
    if file.endswith(".form"):
        return "application/x-www-form-urlencoded"
    return "text/xml" if file.endswith(".xml") else "application/json"


def test_no_ticket_hash_time_uuid_or_amount_of_a_fixture_is_hidden(
    in_fixtures: dict[tuple[str, str], Counter[tuple[str, str]]],
) -> None:
    hidden = [
        (*case, kind, value)
        for case, found in in_fixtures.items()
        for kind, value in found
        if ORDINARY.fullmatch(value) and kind not in ("address", "birth_date", "phone")
    ]
    assert hidden == []


def test_what_comes_along_hides_of_fixtures_what_is_a_secret(
    in_fixtures: dict[tuple[str, str], Counter[tuple[str, str]]],
) -> None:
    hidden = {
        (name, kind, value)
        for (name, _), found in in_fixtures.items()
        for kind, value in found
        if kind.partition(".")[0] in ("secret", "card", "iban", "national_id")
    }
    assert hidden == {
        ("figma", "secret.field", "5eCReT-a"),
        ("slack", "secret.field", "xwfp-valid"),
        ("workos", "secret.field", "m5Oztg3jdK4NJLgs8uIlIprMw"),
    }
