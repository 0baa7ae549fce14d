"""Masking whatever comes: masked again it is the same, and JSON stays JSON."""

import random
from collections import Counter
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.privacy.forms import masked
from hookstream.app.privacy.kinds import KINDS
from hookstream.app.privacy.masking import Masker
from hookstream.app.privacy.pseudonyms import Pseudonyms
from tests.support.privacy_corpus import fixture_event
from tests.support.privacy_items import FIELDS, LANGUAGES, made

NAMES = sorted({name for names in FIELDS.values() for name in names} | {"id", "title", "user"})
TEXTS = st.text(max_size=40) | st.builds(
    lambda kind, language, seed, before, after: (
        f"{before} {made(kind, language, random.Random(seed), field=False)} {after}"
    ),
    st.sampled_from(KINDS),
    st.sampled_from(LANGUAGES),
    st.integers(0, 10_000),
    st.text(max_size=10),
    st.text(max_size=10),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), inner, max_size=4)
        | st.builds(lambda value: orjson.dumps(value).decode(), inner)
    ),
    max_leaves=12,
)
MASK = Masker(dict.fromkeys(KINDS, "mask"))
NAME = Masker(dict.fromkeys(KINDS, "pseudonym"), pseudonyms=Pseudonyms(b"k" * 32, "default"))
#: How many of a value's letters and digits a masked form may have, at most.
KEPT = {"email": 30, "phone": 4, "card": 4, "iban": 6, "ip": 9, "address": 0, "birth_date": 0}


@given(VALUES)
def test_masked_again_it_is_the_same(value: Any) -> None:
    once = MASK.value(value, Counter())
    counts: Counter[tuple[str, str]] = Counter()
    assert MASK.value(once, counts) == once
    assert not counts
    assert orjson.loads(orjson.dumps(once)) == once


@given(st.sampled_from(sorted(FIELDS)), st.sampled_from(LANGUAGES), st.integers(0, 10_000))
def test_a_pseudonym_gets_no_other_one(kind: str, language: str, seed: int) -> None:
    value = {FIELDS[kind][0]: made(kind, language, random.Random(seed), field=True)}
    once = NAME.value(value, Counter())
    assert once != value
    assert NAME.value(once, Counter()) == once


@given(VALUES)
def test_what_the_bytes_do_not_show_is_not_there(value: Any) -> None:
    """The pass over a payload's bytes leaves nothing out that a walk over all values would find."""
    event = fixture_event("generic", orjson.dumps(value))
    walked = MASK.value(event.data(), Counter())
    assert MASK.event(event).event.data() == walked


@given(st.sampled_from(KINDS), st.sampled_from(LANGUAGES), st.integers(0, 10_000))
def test_a_masked_form_has_no_more_than_it_promises(kind: str, language: str, seed: int) -> None:
    value = made(kind, language, random.Random(seed), field=True)
    shown = masked(kind, value)
    kept = sum(char.isalnum() for char in shown)
    if kind.startswith("national_id."):
        assert kept == 0
    elif kind.startswith("secret."):
        assert value not in shown
        assert kept <= 40
    elif kind == "name":
        assert kept == len(value.split())
    else:
        assert kept <= KEPT[kind]
    assert masked(kind, shown) == shown
