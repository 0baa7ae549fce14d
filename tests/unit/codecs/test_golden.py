"""Bytes of every released version are read for ever, and newer minor versions lose nothing here."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from faust.serializers import codecs as faust_codecs

from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.envelope import (
    FINISHED_VERSION,
    KNOWN_VERSIONS,
    NOTE_VERSION,
    PLAIN_VERSION,
    decode_event,
    encode_event,
    read_kept,
)
from hookstream.codecs.errors import CodecError, UnknownVersionError
from hookstream.codecs.routed import (
    Finished,
    Routed,
    Target,
    decode_changes,
    decode_routed,
    encode_routed,
    routed_origin,
)
from hookstream.proto.envelope_pb2 import Envelope
from hookstream.proto.pipeline_pb2 import FinishedUpdates, RoutedEvent
from tests.support import TESTS

GOLDEN = TESTS / "support" / "fixtures" / "golden"
#: A field of a number that no schema here has, as a newer build may write it: 999, "new".
NEW_FIELD = b"\xba\x3e\x03new"


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def test_routed_event_of_the_first_version_is_read_for_ever() -> None:
    routed = decode_routed(golden("routed_v1.bin"))
    assert (routed.origin_partition, routed.origin_entry_id) == (3, "1767225600000-4")
    assert routed.origin_floor == "1767225600000-1"
    assert routed.targets == (Target("agent-1", "high", "pulls"), Target("agent-2", "low", "all"))
    assert routed.event == decode_event(golden("envelope_v1.bin"))


def test_changelog_of_the_first_version_is_read_for_ever() -> None:
    changes = [(b"k" * 16, b"v" * 40), (b"gone", b"")]
    assert decode_changes(golden("changelog_v1.bin")) == ("dedup", changes)


def test_audit_of_the_first_version_is_read_for_ever() -> None:
    batch = faust_codecs.loads("hookstream_audit", golden("audit_v1.bin"))
    [event], [delivery] = batch.events, batch.deliveries
    assert (batch.partition, event.tool_id, event.status) == (3, "github", "duplicate")
    assert event.duplicate_of == "019b76da-a800-7003-8000-000000000029"
    assert (event.error, event.stage, event.payload_bytes) == ("ValueError: x", "route", 14)
    assert (delivery.context_id, delivery.seq, delivery.kind) == ("agent-1", 7, "digest")


def test_golden_bytes_are_there_for_every_version_that_is_read() -> None:
    for version in KNOWN_VERSIONS - {FINISHED_VERSION, NOTE_VERSION}:
        for kind in ("envelope", "routed"):
            found = golden(f"{kind}_v{version}.bin")
            envelope = found if kind == "envelope" else RoutedEvent.FromString(found).envelope
            assert Envelope.FromString(envelope).schema_version == version


def test_finished_updates_of_the_first_form_are_read_for_ever() -> None:
    found = golden(f"routed_v{FINISHED_VERSION}.bin")
    assert decode_routed(found) == Routed(
        3,
        "1767225600000-4",
        "1767225600000-1",
        Finished(
            "019b76da-a800-7003-8000-00000000002a",
            "default",
            "github",
            "pull_request.opened",
            "",
            1767225600000,
            ("github:acme/shop#7",),
            (b'{"summary":"long"}', b'{"summary":"short"}'),
        ),
        (Target("agent-1", "high", "pulls", 0), Target("agent-2", "low", "all", 1)),
        ("1767225600000-2",),
    )
    assert routed_origin(found)[1] == "1767225600000-4"
    # as it is remembered by who wrote it, it is what others read
    known = decode_routed(found)
    where = (known.origin_partition, known.origin_entry_id, known.origin_floor)
    assert isinstance(known.event, Finished)
    assert encode_routed(*where, known.event, known.targets, known.origin_pins) == found
    assert decode_routed(found) == known
    # a release before this one keeps it for one that can read it, as any newer version
    envelope = RoutedEvent.FromString(found).envelope
    assert Envelope.FromString(envelope) == Envelope(schema_version=FINISHED_VERSION)
    with pytest.raises(CodecError, match="its event id is none"):
        decode_event(envelope)


@pytest.mark.parametrize("spoilt", [{"event_id": "x"}, {"updates": []}])
def test_finished_updates_that_nobody_of_ours_wrote_are_refused(spoilt: dict[str, Any]) -> None:
    message = RoutedEvent.FromString(golden(f"routed_v{FINISHED_VERSION}.bin"))
    for name, value in spoilt.items():
        message.finished.ClearField(name)
        message.finished.MergeFrom(FinishedUpdates(**{name: value}))
    with pytest.raises(CodecError, match=r"event id is none|among its 0"):
        decode_routed(message.SerializeToString())


def test_packed_payloads_of_the_second_version_are_read_for_ever() -> None:
    plain = decode_event(golden("envelope_v1.bin"))
    body = orjson.dumps({"order": {"id": 7, "status": "paid"}, "text": "0123456789" * 40})
    packed = decode_event(golden("envelope_v2.bin"))
    assert packed == replace(plain, payload=body)
    assert (packed.stored is not None, packed.payload_bytes) == (True, len(body))
    assert decode_routed(golden("routed_v2.bin")).event == packed
    BOOK.add(Dictionary.of(golden("dictionary.bin")))
    with_dictionary = decode_event(golden("envelope_v2_dictionary.bin"))
    assert with_dictionary.stored is not None
    assert with_dictionary.stored.dictionary_id == 2068610666
    assert with_dictionary == packed
    away = decode_event(golden("envelope_v2_blob.bin"))
    assert away.stored is not None
    assert away.stored.blob == "{hs:42}:blob:019b76da-a800-7003-8000-00000000002a"
    away.stored.data = golden("blob.bin")
    assert away == packed


def test_notes_of_imported_events_are_read_for_ever() -> None:
    found = golden(f"envelope_v{NOTE_VERSION}.bin")
    note = decode_event(found)
    plain = decode_event(golden("envelope_v1.bin"))
    assert note == replace(plain, payload=b"", headers={}, delivery_id="", is_note=True)
    assert Envelope.FromString(encode_event(note)) == Envelope.FromString(found)
    assert not read_kept(found).is_event
    assert read_kept(golden("envelope_v1.bin")).is_event


def test_old_worker_reads_a_newer_envelope_and_keeps_what_it_does_not_know() -> None:
    event = decode_event(golden("envelope_v1.bin") + NEW_FIELD)
    assert event == decode_event(golden("envelope_v1.bin"))
    # a stage changes the event: what the newer build wrote is still there
    changed = encode_event(replace(event, type="changed", headers={}, payload=b""))
    assert NEW_FIELD in changed
    again = Envelope.FromString(changed)
    assert (again.type, dict(again.headers), again.payload) == ("changed", {}, b"")
    assert again.schema_version == PLAIN_VERSION
    # nor is it lost where the payload came packed, or lies elsewhere
    for kind in ("v2", "v2_blob"):
        event = decode_event(golden(f"envelope_{kind}.bin") + NEW_FIELD)
        if event.stored and event.stored.blob:
            event.stored.data = golden("blob.bin")
        marked = replace(event, schema_errors=("x",))
        kept = encode_event(marked, marked.stored)
        assert NEW_FIELD in kept
        before, after = Envelope.FromString(event._envelope), Envelope.FromString(kept)
        assert (after.payload, after.payload_blob) == (before.payload, before.payload_blob)
        changed = Envelope.FromString(encode_event(replace(event, payload=b"{}")))
        assert (changed.payload, changed.payload_blob, changed.payload_bytes) == (b"{}", "", 0)
    routed = decode_routed(golden("routed_v1.bin") + NEW_FIELD)
    assert routed == decode_routed(golden("routed_v1.bin"))


def test_new_worker_reads_an_older_envelope_with_defaults() -> None:
    assert decode_event(golden("envelope_v1.bin")).schema_errors == ()


def test_unknown_major_version_says_which_and_garbage_is_no_version() -> None:
    newer = Envelope(schema_version=7, event_id="x").SerializeToString()
    with pytest.raises(UnknownVersionError, match=r"version 7.*upgrade") as refused:
        decode_event(newer)
    assert refused.value.version == 7
    routed = encode_routed(2, "9-1", "9-0", newer, [])
    with pytest.raises(UnknownVersionError):
        decode_routed(routed)
    assert routed_origin(routed) == (2, "9-1", "9-0", ())
    with pytest.raises(CodecError) as garbage:
        decode_event(b"")
    assert not isinstance(garbage.value, UnknownVersionError)


def test_enrichment_is_read_for_ever() -> None:
    plain = decode_event(golden("envelope_v1.bin"))
    enriched = decode_event(golden("envelope_v1_enriched.bin"))
    assert enriched.enrichment == {"geo": {"country": "DE"}, "team": "red"}
    assert replace(enriched, enriched=b"") == plain
