"""Forms are read as the standard library reads them, in time that their sender cannot choose."""

import binascii
from urllib.parse import parse_qsl, quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.codecs import form
from hookstream.codecs.form import FORM, MAX_BARE_PERCENTS, MAX_FORM_FIELDS, form_pairs
from hookstream.codecs.readable import read_payload

#: Pieces that mean something to a form, or to quoted-printable.
PIECES = st.sampled_from(
    [b"&", b"=", b"%", b"+", b"%41", b"%3D", b"%C3%A9", b"%0A", b"%", b"\n", b"=\r\n", b" ", b"a"]
)


@given(st.one_of(st.binary(max_size=40), st.lists(PIECES, max_size=30).map(b"".join)))
def test_a_form_is_what_the_standard_library_makes_of_it(body: bytes) -> None:
    try:
        expected = parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        expected = None
    try:
        found = form_pairs(body)
    except ValueError:
        found = None
    assert found == expected


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_what_is_escaped_comes_back(name: bytes, value: bytes) -> None:
    body = quote_from_bytes(name).encode() + b"=" + quote_from_bytes(value, safe="").encode()
    [(found, said)] = form_pairs(body + b"&x=", "surrogateescape")[:1]
    assert found.encode(errors="surrogateescape") == name
    assert said.encode(errors="surrogateescape") == value


def test_the_number_of_escapes_makes_no_turn_of_a_loop_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, real = 0, binascii.a2b_qp

    def decode(data: bytes) -> bytes:
        nonlocal calls
        calls += 1
        return real(data)

    monkeypatch.setattr(form.binascii, "a2b_qp", decode)
    assert form_pairs(b"a=" + b"%41" * 1_000_000) == [("a", "A" * 1_000_000)]
    assert calls == 1


def test_a_form_has_bounds() -> None:
    assert len(form_pairs(b"&".join([b"a=1"] * MAX_FORM_FIELDS))) == MAX_FORM_FIELDS
    for body in (
        b"&" * MAX_FORM_FIELDS,
        b"a=" + b"%" * (MAX_BARE_PERCENTS + 1),
        b"a=\xff",
        b"a=%FF",
    ):
        with pytest.raises(ValueError):
            form_pairs(body)
    assert read_payload(b"a=1&b=%FF&a=2", FORM) == {"a": "1", "b": "\ufffd"}
    assert read_payload(b"payload=%7B%22a%22%3A1%7D", FORM) == {"a": 1}
