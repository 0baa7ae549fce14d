"""An event is taken apart and put together again, whatever it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.archive import parquet
from hookstream.app.archive.rows import ArchivedEvent, folder_of, join, parse_entry, split
from hookstream.codecs.envelope import decode_event
from hookstream.codecs.errors import ErasedError
from hookstream.codecs.sealed import KEYS, MonthKey
from hookstream.proto.envelope_pb2 import Envelope
from tests.support.canary import holds
from tests.support.data_keys import new_key

TEXT = st.text(max_size=20)
NUMBER = st.integers(-(1 << 63), (1 << 63) - 1)
# Made once: what is made within an example is checked in each.
TEXTS, VERSION, ENCODING = (
    st.lists(TEXT, max_size=3),
    st.sampled_from([1, 2, 9]),
    st.sampled_from([0, 1]),
)
HEADERS = st.dictionaries(TEXT, st.one_of(TEXT, st.none()), max_size=4)
PARTS = st.tuples(st.integers(0, 4095), st.integers(0, (1 << 63) - 1), st.integers(0, 99))


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    delivery = draw(TEXT)
    # None: as the delivery's id
    headers = {name: delivery if text is None else text for name, text in draw(HEADERS).items()}
    return Envelope(
        schema_version=draw(VERSION),
        event_id=str(draw(st.uuids())),
        tenant=draw(TEXT),
        tool_id=draw(TEXT),
        provider=draw(TEXT),
        type=draw(TEXT),
        message_id=draw(TEXT),
        delivery_id=delivery,
        received_at_ms=draw(st.integers(0, 253_402_300_799_999)),
        headers=headers,
        content_type=draw(TEXT),
        trace_context=draw(TEXT),
        payload=draw(st.binary(max_size=50)),
        dedup_window_ms=draw(NUMBER),
        registry_token=draw(NUMBER),
        payload_encoding=draw(ENCODING),
        payload_blob=draw(TEXT),
        schema_errors=draw(TEXTS),
        enrichment=draw(st.binary(max_size=20)),
        batch_index=draw(st.integers(0, 99)),
    )


@given(st.lists(envelopes(), min_size=1, max_size=5), st.data())
def test_every_event_comes_back_as_it_was(made: list[Envelope], data: st.DataObject) -> None:
    events = []
    for envelope in made:
        partition, ms, seq = data.draw(PARTS)
        events.append(ArchivedEvent(partition, f"{ms}-{seq}", envelope.SerializeToString()))
    rows = [split(event) for event in events]
    for envelope, row in zip(made, rows, strict=True):
        assert Envelope.FromString(join(row)) == envelope
    writer = parquet.ObjectWriter("t", "x")
    writer.add(rows)
    encoded = writer.finish()
    parquet.check_rows(encoded, encoded.data)
    size = len(encoded.data)
    footer = parquet.read_footer(encoded.data[-encoded.footer_bytes :], size)
    span = parquet.span_of(footer, 0, size)
    group = parquet.read_group(footer, 0, encoded.data[span.start : span.end], span, size)
    assert sorted(group.rows()) == sorted(rows)


@given(envelopes(), st.integers(0, 10_000))
def test_a_value_that_is_another_is_noticed(envelope: Envelope, place: int) -> None:
    writer = parquet.ObjectWriter("t", "x")
    writer.add([split(ArchivedEvent(1, "5-0", envelope.SerializeToString()))])
    encoded = writer.finish()
    broken = bytearray(encoded.data)
    broken[place % len(broken)] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        parquet.check_rows(encoded, bytes(broken))


def test_values_are_compared_and_not_only_bytes() -> None:
    def encoded(payload: bytes) -> parquet.Encoded:
        envelope = Envelope(event_id="0" * 8 + "-0000" * 3 + "-" + "0" * 12, payload=payload)
        writer = parquet.ObjectWriter("t", "x")
        writer.add([split(ArchivedEvent(1, "5-0", envelope.SerializeToString()))])
        return writer.finish()

    one, other = encoded(b"one"), encoded(b"two")
    # an encoder that writes something else than it was given
    mixed = parquet.Encoded(
        **{
            name: getattr(other if name in ("data", "sha256", "footer_bytes") else one, name)
            for name in parquet.Encoded.__slots__
        }
    )
    with pytest.raises(ValueError, match="other values"):
        parquet.check_rows(mixed, mixed.data)


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 253_402_300_799_999))
def test_a_folder_is_four_names_whatever_tenant_and_tool_are(
    tenant: str, tool_id: str, at_ms: int
) -> None:
    # lone surrogates are no names of anything: PostgreSQL and protobuf refuse them
    folder = folder_of(tenant, tool_id, at_ms)
    parts = folder.split("/")
    assert [part.partition("=")[0] for part in parts] == ["tenant", "tool", "day", "hour"]
    assert folder.isascii()
    assert not set("\\ ~\"'*?") & set(folder)


@pytest.mark.parametrize(
    "text", ["", "-", "5", "5-", "-5", "a-1", "5-1-2", "-1-0", "9223372036854775808-0"]
)
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_entry(text)


def test_decode_event_reads_what_comes_back() -> None:
    envelope = Envelope(
        schema_version=1,
        event_id="01926c3f-0000-7000-8000-000000000000",
        payload=b"{}",
        received_at_ms=5,
    )
    row = split(ArchivedEvent(0, "5-1", envelope.SerializeToString()))
    assert decode_event(join(row)) == decode_event(envelope.SerializeToString())


def test_payloads_of_a_group_are_compressed_together_and_then_sealed() -> None:
    key = new_key()
    rows = []
    for n in range(40):
        payload = b'{"n": %d, "text": "%s"}' % (n, b"lorem ipsum " * 30) if n % 7 else b""
        envelope = Envelope(
            event_id=f"{n:08x}-0000-7000-8000-000000000000", type=f"t{n % 3}", payload=payload
        )
        rows.append(split(ArchivedEvent(1, f"{n}-0", envelope.SerializeToString())))

    def made(sealed_by: MonthKey | None) -> tuple[parquet.Encoded, parquet.Group]:
        writer = parquet.ObjectWriter("t", "x", sealed_by)
        writer.add(rows)
        encoded = writer.finish()
        parquet.check_rows(encoded, encoded.data)
        size = len(encoded.data)
        footer = parquet.read_footer(encoded.data[-encoded.footer_bytes :], size)
        assert parquet.sealed_by(footer) == (sealed_by.key_id if sealed_by else 0)
        span = parquet.span_of(footer, 0, size)
        data = encoded.data[span.start : span.end]
        return encoded, parquet.read_group(footer, 0, data, span, size)

    plain, _ = made(None)
    sealed, group = made(key)
    assert sorted(group.rows()) == sorted(rows)
    assert group.find(1, 5, 0) == join(rows[5])
    assert sealed.payload_bytes == plain.payload_bytes
    assert holds(plain.data, "lorem ipsum")
    assert not holds(sealed.data, "lorem ipsum")
    assert len(sealed.data) < len(plain.data) + 250
    KEYS.destroy(key.key_id)
    with pytest.raises(ErasedError):
        made(key)


def test_months_whose_key_is_not_given_are_asked_for() -> None:
    envelope = Envelope(event_id="0" * 8 + "-0000" * 3 + "-" + "0" * 12, payload=b"x")
    event = ArchivedEvent(1, "5-0", envelope.SerializeToString())
    with pytest.raises(parquet.LackingKeyError, match="1970-01"):
        parquet.encode_by_hour("t", "x", [event], {})
    [one] = parquet.encode_by_hour("t", "x", [event], {"1970-01": new_key("t", "1970-01")})
    assert one.events == 1
