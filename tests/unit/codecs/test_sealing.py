"""Sealed bytes open with their key, for what they were sealed for, and not otherwise."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.codecs.errors import CodecError
from hookstream.codecs.sealing import DataKey, wrapped_key

KEY = DataKey(b"k" * 32, b"wrapped")
wrappings = st.binary(min_size=1, max_size=300)


@given(st.binary(), st.binary(), st.binary(min_size=32, max_size=32), wrappings)
def test_what_is_sealed_opens_with_its_key_and_names_the_wrapped_one(
    data: bytes, associated: bytes, key: bytes, wrapped: bytes
) -> None:
    sealed = DataKey(key, wrapped).seal(data, associated)
    assert wrapped_key(sealed) == wrapped
    assert DataKey(key, wrapped).open(sealed, associated) == data
    assert len(sealed) == len(data) + len(wrapped) + 3 + 12 + 16


@given(st.binary(max_size=50), st.data())
def test_no_bit_of_it_can_be_changed(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(KEY.seal(data, b"event"))
    at = draw.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(CodecError):
        KEY.open(bytes(sealed), b"event")


@given(st.binary(max_size=50), st.integers(0, 80))
def test_what_is_cut_off_does_not_open(data: bytes, length: int) -> None:
    sealed = KEY.seal(data, b"")
    cut = sealed[: min(length, len(sealed) - 1)]
    with pytest.raises(CodecError):
        KEY.open(cut, b"")


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_have_a_wrapped_key(data: bytes) -> None:
    try:
        found = wrapped_key(data)
    except CodecError:
        return
    assert found
    assert found in data


@pytest.mark.parametrize("associated", [b"", b"other", b"event\0"])
def test_it_opens_only_for_what_it_was_sealed_for(associated: bytes) -> None:
    with pytest.raises(CodecError, match="something else"):
        KEY.open(KEY.seal(b"data", b"event"), associated)


def test_it_opens_with_no_other_key() -> None:
    sealed = KEY.seal(b"data", b"event")
    with pytest.raises(CodecError):
        DataKey(os.urandom(32), b"wrapped").open(sealed, b"event")
    with pytest.raises(CodecError, match="not sealed by this data key"):
        DataKey(b"k" * 32, b"another").open(sealed, b"event")


def test_nothing_is_sealed_alike_twice() -> None:
    assert KEY.seal(b"data", b"") != KEY.seal(b"data", b"")


@pytest.mark.parametrize(("key", "wrapped"), [(31, 1), (33, 1), (32, 0), (32, 65536)])
def test_a_data_key_has_its_lengths(key: int, wrapped: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(bytes(key), bytes(wrapped))
