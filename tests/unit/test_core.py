"""Ids, keys, codecs, settings, identity, matching, summaries, bodies: the pure rules."""

import asyncio
import gzip
import logging
import random
import stat
import tracemalloc
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import brotli
import orjson
import pytest
import zstandard
from faust.serializers import codecs as faust_codecs
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from hookstream.app.errors import (
    BadRequestError,
    ContentEncodingError,
    PayloadTooLargeError,
    SettingsError,
)
from hookstream.app.ids import event_time_ms, new_event_id, partition_of, partition_of_event
from hookstream.app.logs import QuietLogger
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.event_keys import message_id, ordering_key
from hookstream.app.routing.matching import compile_condition, compile_types, facts
from hookstream.app.settings import Settings, load_settings, settings_table
from hookstream.app.testing import make_event
from hookstream.app.web import body
from hookstream.app.web.body import decode_aside, decode_body
from hookstream.app.web.problem import problem_response
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.errors import CodecError, UnknownVersionError
from hookstream.proto.envelope_pb2 import Envelope
from tests.support import TESTS
from tests.support.cost import least_cpu

GOLDEN = TESTS / "support" / "fixtures" / "golden" / "envelope_v1.bin"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["title", "name", "sender", "login", "pull_request", "repository", "full_name", "a"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def tool(**changes: Any) -> Tool:
    return replace(
        Tool("t", "default", "none", (), SignatureOptions(), "payload", (), 1000, "tool", ""),
        **changes,
    )


@given(st.integers(0, 2**48 - 1), st.integers(0, 4095), st.integers(0, 2**70))
def test_event_id_is_a_uuid7_that_carries_time_and_partition(
    now_ms: int, partition: int, bits: int
) -> None:
    made = new_event_id(now_ms, partition, bits)
    assert uuid.UUID(made).version == 7
    assert uuid.UUID(made).variant == uuid.RFC_4122
    assert (event_time_ms(made), partition_of_event(made)) == (now_ms, partition)


@pytest.mark.parametrize(
    "text",
    ["", "x", "0ceaf9ac-5d18-46c0-b80b-adc912ef7086", "01A20BDB-FB6F-7016-A39A-1BA28763CCB5"],
)
def test_what_is_no_id_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        event_time_ms(text)


def test_partition_of_a_key_never_changes() -> None:
    assert partition_of(32, "default", "github") == 22
    assert partition_of(32, "a", "bc") != partition_of(32, "ab", "c")


def test_all_keys_of_a_partition_share_a_hash_slot() -> None:
    made = [
        keys.events(7),
        keys.updates(7),
        keys.audit(7),
        keys.changelog(7),
        keys.dead(7),
        keys.lease(7),
        keys.source_positions(7),
        keys.seqs(7),
        keys.acks(7),
        keys.feed(7, "t", "c}"),
        keys.blob(keys.events(7), "e"),
        keys.blob(keys.updates(7), "e2"),
    ]
    assert len({key_slot(key.encode()) for key in made}) == 1
    assert len(set(made)) == len(made)


@given(
    st.builds(
        Event,
        event_id=st.uuids().map(str),
        tenant=st.text(),
        tool_id=st.text(),
        provider=st.text(),
        type=st.text(),
        message_id=st.text(),
        delivery_id=st.text(),
        received_at_ms=st.integers(0, 2**62),
        headers=st.dictionaries(st.text(), st.text()),
        content_type=st.text(),
        trace_context=st.text(),
        payload=st.binary(),
        dedup_window_ms=st.integers(0, 2**62),
        registry_version=st.integers(0, 2**62),
        replay_id=st.text(),
        replay_context_id=st.text(),
        _parsed=st.builds(list),
    )
)
def test_event_comes_back_as_it_was(event: Event) -> None:
    assert decode_event(encode_event(event)) == event
    stored = faust_codecs.dumps("hookstream_envelope", event)
    assert faust_codecs.loads("hookstream_envelope", stored) == event


def test_envelope_of_the_first_version_is_read_for_ever() -> None:
    event = decode_event(GOLDEN.read_bytes())
    assert event.event_id == "019b76da-a800-7003-8000-00000000002a"
    assert (event.tool_id, event.type, event.payload) == ("github", "push", b'{"ref":"main"}')
    assert event.headers == {"x-github-event": "push"}
    assert (event.dedup_window_ms, event.registry_version) == (86_400_000, 9)


def test_unknown_version_and_garbage_are_told_apart() -> None:
    with pytest.raises(UnknownVersionError, match="upgrade"):
        decode_event(Envelope(schema_version=99).SerializeToString())
    with pytest.raises(CodecError):
        decode_event(b"\xff\xff\xff")


def test_misspelt_setting_is_an_error_with_a_hint() -> None:
    with pytest.raises(SettingsError, match="Did you mean HOOKSTREAM_WEB_PORT"):
        load_settings({"HOOKSTREAM_WEB_PROT": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("WEB_PORT", "0"), ("WEB_PORT", "x"), ("PARTITIONS", "5000"), ("REDIS_TIMEOUT_SECONDS", "9")],
)
def test_value_out_of_range_is_an_error_that_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"HOOKSTREAM_{name}"):
        load_settings({f"HOOKSTREAM_{name}": value})


def test_every_setting_is_in_the_table() -> None:
    for name in Settings.model_fields:
        assert f"`HOOKSTREAM_{name.upper()}`" in settings_table()


def test_admin_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = load_settings({"HOOKSTREAM_STATE_DIR": str(tmp_path / "s")})
    key = first.api_key()
    assert len(key) > 30
    assert load_settings({"HOOKSTREAM_STATE_DIR": str(tmp_path / "s")}).api_key() == key
    assert stat.S_IMODE((tmp_path / "s" / "admin.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_each_strategy_hashes_what_it_says() -> None:
    def made(body: bytes, delivery: str, number: int, **changes: Any) -> str:
        return message_id(tool(**changes), "e", delivery, body, orjson.loads(body), str(number))

    a, b = b'{"id": 1, "x": 1}', b'{"id": 1, "x": 2}'
    assert made(a, "d1", 1) == made(a, "d2", 2) != made(b, "d1", 3)
    assert made(a, "d1", 1).startswith("t:e:")
    delivery = {"strategy": "delivery"}
    assert made(a, "d1", 1, **delivery) == made(b, "d1", 2, **delivery)
    assert made(a, "d1", 1, **delivery) != made(a, "d2", 2, **delivery)
    assert made(a, "", 1, **delivery) == made(a, "", 2, **delivery) != made(b, "", 3, **delivery)
    fields = {"strategy": "fields", "fields": ("id",)}
    assert made(a, "", 1, **fields) == made(b, "", 2, **fields)
    missing = {"strategy": "fields", "fields": ("nope",)}
    assert made(a, "", 1, **missing) != made(b, "", 2, **missing)
    assert made(a, "", 1, strategy="none") != made(a, "", 2, strategy="none")


@given(json_values, st.sampled_from(["tool", "field", "none"]))
def test_ordering_key_is_found_in_any_payload(data: Any, by: str) -> None:
    key = ordering_key(tool(order_by=by, order_field="pull_request.title"), "m", data)
    assert key[:2] == ("default", "t")
    partition_of(32, *key)


@pytest.mark.parametrize(
    ("patterns", "event_type", "matches"),
    [
        (["pull_request.*"], "pull_request.opened", True),
        (["pull_request.*"], "pull_request_review.submitted", False),
        (["*"], "anything", True),
        (["push", "issues.*"], "push", True),
        (["push"], "push.x", False),
    ],
)
def test_type_globs(patterns: list[str], event_type: str, matches: bool) -> None:
    assert compile_types(patterns).matches(event_type) is matches


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ('payload.action == "opened"', True),
        ("payload.pull_request.draft == false", True),
        (
            'event.type.startsWith("pull_request.") && payload.labels.exists(l, l.name == "bug")',
            True,
        ),
        ("payload.missing.deeply == 1", False),
        ('payload.milestone.title == "x"', False),
        ("payload.action > 3", False),
        ('payload.labels[1].name == "bug"', False),
        ("payload.action", False),
    ],
)
def test_condition_over_event_and_payload(source: str, holds: bool) -> None:
    event = make_event(
        {
            "action": "opened",
            "pull_request": {"draft": False},
            "labels": [{"name": "bug"}],
            "milestone": None,
        },
        type="pull_request.opened",
    )
    assert compile_condition(source).holds(facts(event)) is holds


def test_condition_of_a_body_that_is_not_json_does_not_match() -> None:
    assert not compile_condition("payload.a == 1").holds(facts(make_event(b"\xff\x00")))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("payload.", "not valid CEL"),
        ("nobody.a == 1", "names nobody"),
        ("explode(payload)", "calls explode"),
        ("x" * 5000, "longer than"),
    ],
)
def test_broken_condition_is_refused_with_the_reason(source: str, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        compile_condition(source)


def test_form_is_seen_as_its_fields() -> None:
    form = "application/x-www-form-urlencoded"
    assert make_event(b"a=1&b=2", content_type=form).data() == {"a": "1", "b": "2"}
    assert make_event(b"payload=%7B%22a%22%3A1%7D", content_type=form).data() == {"a": 1}


BODY = b'{"a": "' + b"x" * 5000 + b'"}'


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("GZIP", gzip.compress(BODY[:9], mtime=0) + gzip.compress(BODY[9:], mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY)[2:-4]),
        ("zstd", zstandard.compress(BODY)),
        ("zstd", zstandard.compress(BODY[:9]) + zstandard.compress(BODY[9:])),
        ("br", brotli.compress(BODY)),
        ("br", brotli.compress(BODY, quality=11, lgwin=24)),
        ("Br", brotli.compress(BODY, quality=0, lgwin=10)),
        ("gzip, br", brotli.compress(gzip.compress(BODY, mtime=0))),
        ("br, identity,x-gzip", gzip.compress(brotli.compress(BODY), mtime=0)),
        ("gzip,gzip", gzip.compress(gzip.compress(BODY, mtime=0), mtime=0)),
    ],
)
def test_content_encoding_is_undone(encoding: str, packed: bytes) -> None:
    assert decode_body(packed, encoding, 10_000) == BODY


PACKERS: dict[str, Any] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    # its best takes seconds for what is large, and is undone alike
    "br": partial(brotli.compress, quality=5),
}


@pytest.mark.parametrize("name", PACKERS)
def test_compression_bomb_is_refused(name: str) -> None:
    bomb = PACKERS[name](b"\0" * 50_000_000)
    with pytest.raises(PayloadTooLargeError):
        decode_body(bomb, name, 100_000)
    # also below another encoding, each of which is bounded
    with pytest.raises(PayloadTooLargeError):
        decode_body(zstandard.compress(bomb), f"{name}, zstd", 100_000)


@pytest.mark.parametrize("name", PACKERS)
def test_body_that_is_cut_off_or_garbage_is_refused(name: str) -> None:
    pack = PACKERS[name]
    for packed in (pack(BODY)[:-3], pack(BODY)[:8], b"garbage"):
        with pytest.raises(BadRequestError):
            decode_body(packed, name, 100_000)
    with pytest.raises(BadRequestError):
        decode_body(pack(BODY) + b"more", name, 100_000)
    with pytest.raises(BadRequestError):
        decode_body(pack(BODY) + b"\0" * 200_000, name, 100_000)
    # wherever it is cut, and where what is there gives all of the text
    packed = pack(random.Random(1).randbytes(300) + b"0" * 300_000)
    for cut in range(1, len(packed)):
        with pytest.raises(BadRequestError):
            decode_body(packed[:cut], name, 1_000_000)


ZSTD_FORMS = {
    "checksum": zstandard.ZstdCompressor(write_checksum=True),
    "no size": zstandard.ZstdCompressor(write_content_size=False),
    "several blocks": zstandard.ZstdCompressor(level=1),
}


@pytest.mark.parametrize("form", ZSTD_FORMS)
@pytest.mark.parametrize("size", [0, 1, 300, 70_000, 400_000])
def test_zstd_is_whole_or_refused(form: str, size: int) -> None:
    text = random.Random(size).randbytes(size)
    one = ZSTD_FORMS[form].compress(text)
    skipped = b"\x5f\x2a\x4d\x18\x03\x00\x00\x00abc"
    for packed, times in ((one, 1), (skipped + one, 1), (one + skipped, 1), (one * 3, 3)):
        assert decode_body(packed, "zstd", 2_000_000) == text * times
        cuts = range(1, len(packed)) if len(packed) < 2_000 else (1, 2, 3, 4, 5, 9, 70_000)
        for cut in cuts:
            # between two frames it is as whole as it can be known to be
            if len(packed) - cut not in (len(one), len(one) * 2, len(skipped)):
                with pytest.raises(BadRequestError):
                    decode_body(packed[:-cut], "zstd", 2_000_000)
    with pytest.raises(BadRequestError):
        decode_body(one + b"\0", "zstd", 2_000_000)


def test_many_zstd_blocks_cost_no_time() -> None:
    # each of no bytes: a frame of 5 MB would have 1.7 million of them
    frame = zstandard.compress(b"")[:6] + b"\0\0\0" * 1_700_000 + b"\1\0\0"
    frames = zstandard.compress(b"") * 500_000

    def refused() -> None:
        for packed in (frame, frames):
            with pytest.raises(BadRequestError, match="more than 65536 zstd blocks"):
                decode_body(packed, "zstd", 5_242_880)

    assert least_cpu(refused, 0.5) < 0.5


@pytest.mark.parametrize(
    "encoding", ["compress", "gzip, x-br", "aes128gcm,gzip", "gzip," * 4, "br;q=1", "x" * 500]
)
def test_other_content_encodings_are_refused_with_those_that_are_taken(encoding: str) -> None:
    with pytest.raises(ContentEncodingError) as refused:
        decode_body(BODY, encoding, 10_000)
    response = problem_response(refused.value)
    assert response.status == 415
    assert response.headers["Accept-Encoding"] == "gzip, deflate, br, zstd"


@pytest.mark.parametrize("size", [1, 65_536, 98_273, 1_000_000])
def test_brotli_that_grows_is_had_whole(size: int) -> None:
    # a few bytes are taken in at once, and come out in many pieces
    for plain in (b"\0" * size, random.Random(size).randbytes(size)):
        packed = brotli.compress(plain, quality=1)
        assert decode_body(packed, "br", size) == plain
        with pytest.raises(PayloadTooLargeError):
            decode_body(packed, "br", size - 1)
        with pytest.raises(BadRequestError):
            decode_body(packed[:-1], "br", size)


def test_brotli_ends_where_its_stream_does_and_has_no_larger_window_than_the_web_s() -> None:
    packed = brotli.compress(BODY)
    for more in (b"x", packed, b"\0" * 200_000):
        with pytest.raises(BadRequestError):
            decode_body(packed + more, "br", 100_000)
    # the first byte of a "large window", which would have up to 1 GiB
    with pytest.raises(BadRequestError):
        decode_body(b"\x11" + packed, "br", 100_000)
    assert decode_body(b"", "br", 10) == b""


def test_what_takes_long_to_be_undone_is_so_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    aside = []

    class Unpackers(ThreadPoolExecutor):
        def submit(self, function: Any, *given: Any, **named: Any) -> Any:
            aside.append(given[1])
            return super().submit(function, *given, **named)

    pool = Unpackers(1)
    monkeypatch.setattr(body, "_UNPACKERS", pool)
    grown = b" " * 200_000
    for encoding, packed, plain in (
        ("br", brotli.compress(b"{}"), b"{}"),
        ("br,br", brotli.compress(brotli.compress(b"{}")), b"{}"),
        ("br", brotli.compress(grown), grown),
        ("gzip", gzip.compress(grown), grown),
    ):
        assert asyncio.run(decode_aside(packed, encoding, 200_000)) == plain
    assert aside == ["br", "br,br", "br", "gzip"]
    with pytest.raises(PayloadTooLargeError, match="over 199999 bytes"):
        asyncio.run(decode_aside(gzip.compress(grown), "gzip", 199_999))
    pool.shutdown()


@pytest.mark.parametrize("name", PACKERS)
def test_a_refused_body_is_not_remembered_by_its_error(name: str) -> None:
    """Clients may take long to be answered, and be many."""
    good = PACKERS[name](random.Random(1).randbytes(3_000_000))
    broken = good[:1_500_000] + bytes(9) + good[1_500_009:-9]
    tracemalloc.start()
    try:
        errors = []
        for _ in range(5):
            with pytest.raises(PayloadTooLargeError) as large:
                decode_body(good, name, 2_000_000)
            errors.append(large.value)
            with pytest.raises(BadRequestError) as bad:
                decode_body(broken, name, 4_000_000)
            errors.append(bad.value)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
    assert len(errors) == 10


def test_gzip_members_are_joined_and_bounded() -> None:
    one = gzip.compress(b"ab", mtime=0)
    assert decode_body(one * 1024, "gzip", 10_000) == b"ab" * 1024
    assert decode_body(one * 3, "gzip", 6) == b"ab" * 3
    with pytest.raises(PayloadTooLargeError):
        decode_body(one * 3, "gzip", 5)
    with pytest.raises(BadRequestError, match="members"):
        decode_body(one * 1025, "gzip", 10_000)
    with pytest.raises(BadRequestError, match="cut off"):
        decode_body(one * 3 + one[:-1], "gzip", 10_000)


def test_many_empty_gzip_members_cost_no_time() -> None:
    body = gzip.compress(b"", mtime=0) * 262_000 + gzip.compress(b"{}")

    def refused() -> None:
        with pytest.raises(BadRequestError, match="more than 1024 gzip members"):
            decode_body(body, "gzip", 5_242_880)

    assert least_cpu(refused, 0.5) < 0.5


def test_large_gzip_is_read_across_chunks() -> None:
    text = random.Random(1).randbytes(300_000)
    assert decode_body(gzip.compress(text) * 2, "gzip", 600_000) == text * 2
    assert decode_body(zlib.compress(text), "deflate", 600_000) == text


def test_line_that_is_not_wanted_is_not_put_together(caplog: pytest.LogCaptureFixture) -> None:
    put_together: list[str] = []

    def formatter(severity: int, message: str, *args: object, **_: object) -> str:
        put_together.append(message)
        return f"agent: {message}"

    quiet = QuietLogger(logging.getLogger("hookstream.tests.quiet"), formatter)
    with caplog.at_level(logging.INFO, "hookstream.tests.quiet"):
        quiet.debug("%r yielded", 1)
        quiet.info("%d batches", 2)
    assert put_together == ["%d batches"]
    assert [(r.getMessage(), r.filename) for r in caplog.records] == [
        ("agent: 2 batches", "test_core.py")
    ]
