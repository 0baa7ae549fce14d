"""Sealed content opens for its place and by its key only, and what is not sealed is left alone."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.testing import make_event
from hookstream.codecs.envelope import decode_event, encode_event, read_kept, take_out_payload
from hookstream.codecs.errors import CodecError, ErasedError, MissingBlobError, UnknownKeyError
from hookstream.codecs.payload import Packing
from hookstream.codecs.sealed import (
    ADDED_BYTES,
    KEYS,
    KeyBook,
    MonthKey,
    is_sealed,
    key_ids,
    month_after,
    month_of,
    month_of_event,
    open_sealed,
    payload_place,
)
from hookstream.codecs.warm_block import pack_block, read_block
from tests.support.data_keys import new_key

BODY = b'{"text": "%s"}' % (b"lorem ipsum dolor " * 40)


@given(st.binary(max_size=2000), st.binary(max_size=40))
def test_what_is_sealed_opens_for_its_place_only(data: bytes, place: bytes) -> None:
    key = new_key()
    sealed = key.seal(data, place)
    assert is_sealed(sealed)
    assert key_ids((sealed, None, b"{}")) == {key.key_id}
    assert len(sealed) == len(data) + ADDED_BYTES
    assert open_sealed(sealed, place) == data
    with pytest.raises(CodecError, match="sealed for something else"):
        open_sealed(sealed, place + b"x")
    # nonces are random
    assert key.seal(data, place) != sealed


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_bit_is_noticed(at: int, change: int) -> None:
    key = new_key()
    sealed = bytearray(key.seal(BODY[:160], b"here"))
    sealed[at % len(sealed)] ^= change
    with pytest.raises(CodecError):
        open_sealed(bytes(sealed), b"here")


def test_an_unknown_key_is_asked_for_and_a_destroyed_one_is_not() -> None:
    key = new_key(known=False)
    sealed = key.seal(BODY, b"")
    with pytest.raises(UnknownKeyError, match=str(key.key_id)) as unknown:
        open_sealed(sealed, b"")
    assert pickle.loads(pickle.dumps(unknown.value)).key_id == key.key_id
    assert KEYS.missing({key.key_id}) == {key.key_id}
    KEYS.add(key)
    assert open_sealed(sealed, b"") == BODY
    assert KEYS.destroy(key.key_id)
    assert not KEYS.destroy(key.key_id)
    with pytest.raises(ErasedError, match=str(key.key_id)):
        open_sealed(sealed, b"")
    # whoever comes with it once more does not bring it back
    KEYS.add(key)
    assert KEYS.missing({key.key_id}) == set()
    with pytest.raises(ErasedError):
        open_sealed(sealed, b"")


def test_of_two_keys_of_a_month_the_newer_one_seals_until_it_is_destroyed() -> None:
    book = KeyBook()
    first, second = (new_key("t", "2026-01", known=False) for _ in range(2))
    book.add(first)
    book.add(second)
    assert book.newest("t", "2026-01") is second
    book.destroy(second.key_id)
    assert book.newest("t", "2026-01") is None
    assert book.get(first.key_id) is first


def test_a_retired_key_opens_and_seals_nothing_more_whenever_it_comes() -> None:
    book = KeyBook()
    first, second = (new_key("t", "2026-01", known=False) for _ in range(2))
    book.add(first)
    book.retire(first.key_id)
    book.retire(second.key_id)
    book.add(second)
    assert book.newest("t", "2026-01") is None
    assert (book.get(first.key_id), book.get(second.key_id)) == (first, second)
    third = new_key("t", "2026-01", known=False)
    book.add(third)
    book.retire(first.key_id)
    assert book.newest("t", "2026-01") is third


def test_keys_that_were_lent_are_forgotten_and_others_stay() -> None:
    book, mine, lent = KeyBook(), new_key(known=False), new_key(known=False)
    book.add(mine)
    with book.lent([mine, lent]):
        assert book.get(lent.key_id) is lent
    assert book.get(lent.key_id) is None
    assert book.get(mine.key_id) is mine


def test_a_key_reaches_a_child_process_and_shows_itself_nowhere() -> None:
    key = MonthKey(7, "t", "2026-11", bytes(range(32)))
    copy: MonthKey = pickle.loads(pickle.dumps(key))
    assert copy.open(key.seal(BODY, b"x"), b"x") == BODY
    assert repr(key) == "MonthKey(7, 't', '2026-11')"


def test_months_are_those_of_utc() -> None:
    assert month_of(1_798_761_599_999) == "2026-12"
    assert month_of(1_798_761_600_000) == "2027-01"
    assert [month_after(month) for month in ("2026-11", "2026-12", "9999-11")] == [
        "2026-12",
        "2027-01",
        "9999-12",
    ]
    event = make_event(BODY)
    assert month_of_event(event.event_id) == month_of(event.received_at_ms)


@pytest.mark.parametrize("packing", [Packing(), Packing(compress=False)])
def test_a_payload_is_sealed_for_its_event(packing: Packing) -> None:
    key, event = new_key(), make_event(BODY)
    place = payload_place(event.tenant, event.event_id)
    packed = packing.pack(BODY)
    sealed = packed.sealed(key, place)
    assert sealed.data is not None
    assert packed.data is not None
    # compressed first, else there would be nothing to gain
    assert len(sealed.data) == len(packed.data) + ADDED_BYTES
    data = encode_event(event, sealed)
    assert b"lorem" not in data
    read = decode_event(data)
    assert read.stored is not None
    assert (read.stored.key_id, read.payload_bytes, read.payload) == (key.key_id, len(BODY), BODY)
    # of another event it does not open
    other = encode_event(make_event(BODY, number=2), sealed)
    with pytest.raises(CodecError, match="sealed for something else"):
        _ = decode_event(other).payload
    # it stays what it is where only the envelope is taken apart
    taken, blob, payload = take_out_payload(data, lambda name: f"blob:{name}")
    assert (blob, payload) == (f"blob:{event.event_id}", sealed.data)
    away = decode_event(taken)
    assert away.stored is not None
    assert isinstance(away.stored.problem(), MissingBlobError)
    away.stored.data = payload
    assert away.payload == BODY
    assert b"".join(read_kept(data).whole()).endswith(BODY)


def test_a_payload_whose_key_is_away_says_which() -> None:
    key, event = new_key(known=False), make_event(BODY)
    sealed = Packing().pack(BODY).sealed(key, payload_place(event.tenant, event.event_id))
    read = decode_event(encode_event(event, sealed))
    assert read.stored is not None
    assert isinstance(read.stored.problem(), UnknownKeyError)
    assert read.stored.dictionary_id == 0
    KEYS.add(key)
    assert read.stored.problem() is None
    assert read.payload == BODY
    read.release()
    KEYS.destroy(key.key_id)
    assert isinstance(read.stored.problem(), ErasedError)


def test_a_block_is_compressed_and_then_sealed_for_its_name() -> None:
    key = new_key()
    events = [(f"{n}-0", [b"envelope of %d " % n, BODY]) for n in range(50)]
    plain, sealed = pack_block(events), pack_block(events, key, b"block\0one")
    assert len(sealed) == len(plain) + ADDED_BYTES
    assert read_block(sealed, b"block\0one") == read_block(plain)
    with pytest.raises(CodecError, match="sealed for something else"):
        read_block(sealed, b"block\0other")
