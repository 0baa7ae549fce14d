"""Whatever stands around a value, it is found; and without its key nothing is."""

import json

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.privacy.subjects import Subject

KEY = b"k" * 32
MAIL = "jane.doe@example.com"
SUBJECT = Subject.of(KEY, [MAIL, "+49 170 1234567"])
OTHER = Subject.read(b"x" * 32, SUBJECT.kept())

around = st.text(max_size=200)
edges = st.sampled_from(['"', " ", "<", ">", ":", ";", ",", "\n", "(", ")", "|", "="])


@given(around, edges, edges, around)
def test_a_mail_address_between_other_text_is_found(
    before: str, left: str, right: str, behind: str
) -> None:
    text = f"{before}{left}{MAIL}{right}{behind}"
    data = text.encode("utf-8", "surrogatepass")
    assert SUBJECT.found_in(data)
    assert SUBJECT.found_in(json.dumps({"a": text}).encode())
    assert not OTHER.found_in(data)


@given(st.lists(st.sampled_from([" ", "-", "", ".", "/", "("]), min_size=12, max_size=12))
def test_a_phone_number_is_found_however_it_is_parted(parts: list[str]) -> None:
    digits = "491701234567"
    text = "".join(digit + part for digit, part in zip(digits, parts, strict=True))
    assert SUBJECT.found_in(f"tel: +{text.rstrip(' -./(')}!".encode())


@given(st.binary(max_size=2000))
def test_any_bytes_can_be_looked_through(data: bytes) -> None:
    assert not SUBJECT.found_in(data)
