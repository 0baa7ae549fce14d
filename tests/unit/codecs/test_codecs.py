"""Payloads come back as they were, whatever packed them; what cannot be read says so, cheaply."""

import contextlib
import threading
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import zstandard
from faust.serializers import codecs as faust_codecs
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.testing import make_event
from hookstream.codecs import payload as payloads
from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.envelope import (
    MAX_ENRICHMENT_BYTES,
    RecentEvents,
    decode_event,
    encode_event,
    take_out_payload,
    with_replay,
)
from hookstream.codecs.errors import CodecError, MissingBlobError, UnknownDictionaryError
from hookstream.codecs.payload import Packing, StoredPayload
from hookstream.codecs.training import train, try_dictionary
from hookstream.codecs.zstd import MAX_BYTES, ZstdCodec, compress, decompress
from hookstream.proto.envelope_pb2 import Envelope
from tests.support.fixtures import github_examples

BODIES = [example.body for example in github_examples()]
PACKING = Packing(min_bytes=0)


def trained(bodies: list[bytes]) -> Dictionary:
    made = train(bodies)
    assert made is not None
    return made


PULLS = trained([e.body for e in github_examples() if e.event == "pull_request"] * 2)
ALL = trained(BODIES)
BOOK.add(PULLS)
BOOK.add(ALL)

dictionaries = st.sampled_from([None, PULLS, ALL])
bodies = st.one_of(st.binary(max_size=3000), st.sampled_from(BODIES))


@given(bodies, dictionaries, st.integers(0, 300), st.booleans())
def test_payload_comes_back_as_it_was(
    body: bytes, dictionary: Dictionary | None, min_bytes: int, on: bool
) -> None:
    packed = Packing(on, min_bytes).pack(body, dictionary)
    assert packed.open() == body
    event = make_event(body)
    again = decode_event(encode_event(event, packed))
    assert again.payload_bytes == len(body)
    assert again == event
    assert again.payload == body


@given(bodies, dictionaries)
def test_what_does_not_shrink_is_left_alone(body: bytes, dictionary: Dictionary | None) -> None:
    packed = PACKING.pack(body, dictionary)
    assert packed.data is not None
    assert len(packed.data) <= len(body)
    if packed.encoding == payloads.RAW:
        assert packed.data is body
    again = PACKING.pack(packed.data, dictionary)
    assert again.encoding == payloads.RAW or len(packed.data) > 500


def test_small_payloads_and_those_switched_off_are_left_alone() -> None:
    body = b'{"a": "' + b"x" * 100 + b'"}'
    for packing in (Packing(min_bytes=len(body) + 1), Packing(compress=False, min_bytes=0)):
        assert packing.pack(body, ALL).data is body
    assert Packing(min_bytes=len(body)).pack(body).encoding == payloads.ZSTD


def test_payload_that_is_left_alone_is_an_envelope_that_older_builds_read() -> None:
    event = make_event(b"\x00" * 10)
    data = encode_event(event, Packing().pack(event.payload))
    assert data == encode_event(event)
    assert Envelope.FromString(data).schema_version == 1
    packed = encode_event(make_event(BODIES[0]), PACKING.pack(BODIES[0]))
    assert Envelope.FromString(packed).schema_version == 2


def test_nothing_is_unpacked_before_somebody_looks() -> None:
    event = decode_event(encode_event(make_event(BODIES[0]), PACKING.pack(BODIES[0], ALL)))
    assert event.stored is not None
    assert event.stored._opened is None
    assert (event.payload_bytes, event.stored._opened) == (len(BODIES[0]), None)
    assert event.data() == orjson.loads(BODIES[0])
    assert event.stored._opened == BODIES[0]
    # a stage puts another payload in its place
    assert replace(event, payload=b"{}").stored is None
    assert replace(event, type="x").payload == BODIES[0]


@pytest.fixture(scope="module")
def bomb() -> bytes:
    packed = zstandard.ZstdCompressor().compress(bytes(256 * 1024 * 1024))
    assert len(packed) < 50_000
    return packed


@pytest.mark.parametrize("size", [0, 1, 1000, MAX_BYTES + 1])
def test_bomb_is_refused_before_it_takes_memory(bomb: bytes, size: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="unpacked"):
            decompress(bomb, max(size, 0) if size <= MAX_BYTES else MAX_BYTES)
        with pytest.raises(CodecError):
            StoredPayload(payloads.ZSTD, size, bomb).open()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_frame_that_hides_its_size_or_lies_about_it_is_refused() -> None:
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 10_000)
    with pytest.raises(CodecError, match="unknown size"):
        decompress(hidden)
    honest = compress(b"x" * 1000)
    # the size is in the two bytes behind the frame's descriptor
    lying = honest[:5] + (10).to_bytes(2, "little") + honest[7:]
    with pytest.raises(CodecError):
        decompress(lying)
    with pytest.raises(CodecError, match="should have"):
        StoredPayload(payloads.ZSTD, 999, honest).open()


@given(st.sampled_from(BODIES[:20]), dictionaries, st.data())
def test_cut_off_and_damaged_frames_are_errors(
    body: bytes, dictionary: Dictionary | None, data: st.DataObject
) -> None:
    packed = compress(body, dictionary)
    cut = data.draw(st.integers(0, len(packed) - 1))
    at = data.draw(st.integers(0, len(packed) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = packed[:at] + bytes([packed[at] ^ (1 << bit)]) + packed[at + 1 :]
    for wrong in (packed[:cut], packed + b"\0", packed + packed):
        with pytest.raises(CodecError):
            decompress(wrong)
    with contextlib.suppress(CodecError):
        assert decompress(damaged) == body


@given(st.binary(max_size=200))
def test_garbage_is_an_error_and_nothing_else(data: bytes) -> None:
    for wrong in (data, b"\x28\xb5\x2f\xfd" + data):
        try:
            decompress(wrong)
        except CodecError:
            continue
        pytest.fail("garbage was read")
    with pytest.raises(CodecError):
        Dictionary.of(data)


def test_unknown_dictionary_says_which() -> None:
    strange = trained(BODIES[:100])
    packed = PACKING.pack(BODIES[0], strange)
    assert packed.dictionary_id == strange.dictionary_id
    event = decode_event(encode_event(make_event(BODIES[0]), packed))
    assert event.stored is not None
    assert isinstance(event.stored.problem(), UnknownDictionaryError)
    with pytest.raises(UnknownDictionaryError, match=str(strange.dictionary_id)):
        event.data()
    # all else can be read, and it is no less once the dictionary has come
    assert event.type == "unknown"
    BOOK.add(strange)
    assert event.stored.problem() is None
    assert event.payload == BODIES[0]


def test_encoding_of_a_later_build_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(CodecError, match="upgrade"):
        StoredPayload(77, 1, b"x").open()


def test_dictionary_id_follows_from_the_content() -> None:
    assert trained(BODIES).dictionary_id == ALL.dictionary_id
    assert Dictionary.of(ALL.content) == ALL
    assert PULLS.dictionary_id != ALL.dictionary_id


def test_dictionary_of_the_same_id_and_other_content_is_noticed() -> None:
    other = bytearray(PULLS.content)
    other[4:8] = ALL.dictionary_id.to_bytes(4, "little")
    false = Dictionary.of(bytes(other))
    packed = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(false.content), write_checksum=True
    ).compress(BODIES[0])
    with pytest.raises(CodecError):
        decompress(packed)


def test_codecs_compose_by_a_bar() -> None:
    chain = faust_codecs.get_codec("json|hookstream_zstd|binary")
    assert chain.loads(chain.dumps({"a": [1] * 100})) == {"a": [1] * 100}
    own = ZstdCodec(dictionary=ALL) | faust_codecs.get_codec("binary")
    assert own.loads(own.dumps(BODIES[0])) == BODIES[0]
    assert len(own.dumps(BODIES[0])) < len(ZstdCodec().dumps(BODIES[0]))


def test_each_thread_has_its_own_objects() -> None:
    wrong: list[Exception] = []

    def work() -> None:
        try:
            for body in BODIES * 3:
                for dictionary in (None, ALL, PULLS):
                    assert decompress(compress(body, dictionary)) == body
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@given(bodies, dictionaries)
def test_payload_taken_out_is_found_in_its_blob(body: bytes, dictionary: Dictionary | None) -> None:
    event = make_event(body)
    whole = encode_event(event, PACKING.pack(body, dictionary))
    rest, blob, payload = take_out_payload(whole, lambda event_id: f"blob:{event_id}")
    assert (blob, len(rest) < 400) == (f"blob:{event.event_id}", True)
    away = decode_event(rest)
    assert away.payload_bytes == len(body)
    with pytest.raises(MissingBlobError, match=blob):
        away.data()
    assert away.stored is not None
    away.stored.data = payload
    assert away == event
    # a replay keeps the reference, and nothing is taken out twice
    again = with_replay(rest, replay_id="r", replay_context_id="c", registry_version=7)
    assert take_out_payload(again, str) == (again, "", b"")
    shown = decode_event(again)
    assert (shown.replay_id, shown.replay_context_id, shown.registry_version) == ("r", "c", 7)
    assert shown.stored is not None
    assert shown.stored.blob == blob


def test_dictionary_is_judged_by_what_it_has_not_seen() -> None:
    trial = try_dictionary(BODIES, None)
    assert trial is not None
    assert trial.worth_it
    assert trial.ratio > 10
    BOOK.add(trial.dictionary)
    again = try_dictionary(BODIES, trial.dictionary)
    assert again is not None
    assert not again.worth_it


@pytest.mark.parametrize(
    "samples",
    [[], [b"x"] * 1000, [b"%d" % n for n in range(1000)], BODIES[:31], [b"y" * 200_000] * 40],
)
def test_too_little_to_learn_from_gives_none(samples: list[bytes]) -> None:
    assert try_dictionary(samples, None) is None


def test_event_with_another_payload_is_parsed_anew() -> None:
    event = make_event({"n": 1})
    assert event.data() == {"n": 1}
    other = replace(event, payload=b'{"n": 2}')
    form = replace(event, payload=b"n=3", content_type="application/x-www-form-urlencoded")
    assert [one.data() for one in (other, event, form)] == [{"n": 2}, {"n": 1}, {"n": "3"}]
    assert event.data() is event.data()


def test_events_that_were_kept_are_not_decoded_again_and_the_oldest_go() -> None:
    recent = RecentEvents(most=2, payload_bytes=100)
    made = [
        encode_event(make_event(b"x" * size, number=number))
        for number, size in enumerate((1, 1, 1, 101))
    ]
    events = [decode_event(data) for data in made]
    for data, event in zip(made, events, strict=True):
        recent.keep(data, event)
    assert len(recent) == 2
    found = [recent.decode(bytes(bytearray(data))) for data in made]
    assert [a is b for a, b in zip(found, events, strict=True)] == [False, True, True, False]
    assert found == events
    with pytest.raises(CodecError):
        recent.decode(b"\xff")


def test_what_a_stage_changes_in_a_parsed_payload_is_not_kept() -> None:
    recent = RecentEvents()
    data = encode_event(make_event({"n": 1}))
    event = decode_event(data)
    event.data()["n"] = 2
    recent.keep(data, event)
    assert recent.decode(data).data() == {"n": 1}


def test_enrichment_is_added_name_by_name_and_travels() -> None:
    event = make_event({"n": 1})
    assert event.enrichment == {}
    once = event.enrich(geo={"country": "DE"}, team="red")
    twice = once.enrich(team="blue", at=datetime(2026, 1, 1, tzinfo=UTC))
    assert once.enrichment == {"geo": {"country": "DE"}, "team": "red"}
    expected = {"geo": {"country": "DE"}, "team": "blue", "at": "2026-01-01T00:00:00+00:00"}
    assert twice.enrichment == expected
    again = decode_event(encode_event(twice))
    assert (again.enrichment, again.payload) == (expected, event.payload)
    assert event.enrichment == {}, "the event that it was made from stays"
    again.enrichment["geo"]["country"] = "FR"
    assert again.enrichment == expected, "what is given is a copy"


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("x" * MAX_ENRICHMENT_BYTES, "16384 at most"),
        ({1, 2}, "not for JSON"),
        ("\ud800", "not for JSON"),
        ({1: 2}, "not for JSON"),
        (deep(500), "not for JSON"),
    ],
)
def test_enrichment_that_cannot_be_kept_says_which_and_why(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=rf"^enrich\(geo\): .*{says}"):
        make_event({}).enrich(team="red").enrich(geo=value)


def test_enrichment_is_bounded_with_what_is_there() -> None:
    event = make_event({}).enrich(a="x" * (MAX_ENRICHMENT_BYTES - 100))
    with pytest.raises(ValueError, match="at most"):
        event.enrich(b="x" * 100)
    assert event.enrich(a="short", b="x" * 100).enrichment["a"] == "short"
