"""What a batch's payloads need before its stages see them; when a tool gets a dictionary."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.payloads.payloads import Payloads
from hookstream.app.payloads.trainer import MOST_EVENTS, next_look
from hookstream.app.status import Status
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.readable import make_readable
from hookstream.app.testing import make_event
from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.envelope import Event, decode_event, encode_event, take_out_payload
from hookstream.codecs.payload import Packing, StoredPayload
from hookstream.codecs.routed import Routed
from hookstream.codecs.training import train
from hookstream.codecs.zstd import compress
from hookstream.proto.envelope_pb2 import Envelope
from tests.support.fixtures import github_examples

BODIES = [example.body for example in github_examples()]


class Shelf:
    """Dictionaries that can be fetched, and what was asked for."""

    def __init__(self, *there: Dictionary) -> None:
        self.there = {dictionary.dictionary_id: dictionary for dictionary in there}
        self.asked: list[set[int]] = []

    def current(self, tool_id: str) -> Dictionary | None:
        return None

    async def fetch(self, ids: Iterable[int]) -> None:
        if missing := BOOK.missing(ids):
            self.asked.append(missing)
        for number in missing & set(self.there):
            BOOK.add(self.there[number])


class Blobs:
    """As much of a Redis client as blobs take."""

    def __init__(self, **blobs: bytes) -> None:
        self.blobs = blobs
        self.trips = 0
        self._asked: list[str] = []

    def pipeline(self, transaction: bool) -> "Blobs":
        return self

    def get(self, key: str) -> None:
        self._asked.append(key)

    async def execute(self) -> list[bytes | None]:
        self.trips += 1
        asked, self._asked = self._asked, []
        return [self.blobs.get(key) for key in asked]


def payloads(shelf: Shelf, blobs: Blobs | None = None) -> Payloads:
    return Payloads(blobs or Blobs(), shelf, Packing(min_bytes=0))  # type: ignore[arg-type]


def stored(packed: StoredPayload | None, number: int, body: bytes = b"") -> Entry:
    """An entry as the reader has it."""
    raw = encode_event(make_event(body, number=number), packed)
    return Entry(f"{number}-1", raw, decode_event(raw))


@pytest.fixture
def dictionary(request: pytest.FixtureRequest) -> Dictionary:
    """One that is in no book yet."""
    start = sum(map(ord, request.node.name)) % 100
    made = train(BODIES[start : start + 60])
    assert made is not None
    BOOK._known.pop(made.dictionary_id, None)
    return made


async def test_a_batch_asks_for_all_of_its_dictionaries_at_once(dictionary: Dictionary) -> None:
    shelf = Shelf(dictionary)
    pack = Packing().pack
    entries = [stored(pack(body, dictionary), n, body) for n, body in enumerate(BODIES[:50])]
    await make_readable(payloads(shelf), entries)
    assert shelf.asked == [{dictionary.dictionary_id}]
    assert [entry.value.payload for entry in entries] == BODIES[:50]
    assert all(entry.status is Status.ACCEPTED for entry in entries)


async def test_event_whose_dictionary_is_away_waits_and_its_neighbours_do_not(
    dictionary: Dictionary,
) -> None:
    pack = Packing().pack
    good, bad = stored(pack(BODIES[0]), 0, BODIES[0]), stored(pack(BODIES[1], dictionary), 1)
    made = payloads(Shelf())
    await make_readable(made, [good, bad])
    assert (good.status, good.failure) == (Status.ACCEPTED, None)
    assert bad.failure is not None
    assert (bad.failure.stage, bad.failure.final) == ("decode", False)
    assert str(dictionary.dictionary_id) in bad.failure.error
    # whoever still looks at it does not stumble, and its bytes are as they came
    assert (bad.value.payload, bad.value.event_id) == (b"", decode_event(bad.raw).event_id)
    # its size is on record, for it is known
    assert bad.value.payload_bytes == len(BODIES[1])
    # it comes again, and the dictionary has come
    again = Entry("9-1", bad.raw, decode_event(bad.raw))
    made = payloads(Shelf(dictionary))
    await make_readable(made, [again])
    assert again.value.payload == BODIES[1]


async def test_blobs_come_in_one_round_trip_and_a_missing_one_is_final() -> None:
    pairs = []
    blobs = Blobs()
    for number, body in enumerate(BODIES[:10]):
        raw = encode_event(make_event(body, number=number), Packing().pack(body))
        rest, name, payload = take_out_payload(raw, lambda event_id: f"b:{event_id}")
        blobs.blobs[name] = payload
        pairs.append((Entry(f"{number}-1", rest, decode_event(rest)), body))
    gone = pairs[3][0]
    event: Event = gone.value
    assert event.stored is not None
    del blobs.blobs[event.stored.blob]
    await make_readable(payloads(Shelf(), blobs), [entry for entry, _ in pairs])
    assert blobs.trips == 1
    assert gone.failure is not None
    assert (gone.failure.final, event.stored.blob in gone.failure.error) == (True, True)
    assert all(entry.value.payload == body for entry, body in pairs if entry is not gone)


async def test_event_changed_beside_its_payload_is_kept_as_it_came() -> None:
    body = BODIES[0]
    raw = encode_event(make_event(body), Packing().pack(body))
    rest, name, payload = take_out_payload(raw, lambda event_id: f"b:{event_id}")
    made = payloads(Shelf(), Blobs(**{name: payload}))
    for data in (raw, rest):
        entry = Entry("1-1", data, decode_event(data))
        await make_readable(made, [entry])
        marked = replace(entry.value, schema_errors=("x",))
        assert marked.payload == body
        before, after = Envelope.FromString(data), Envelope.FromString(made.encode(marked))
        assert list(after.schema_errors) == ["x"]
        after.ClearField("schema_errors")
        assert after == before
        # another payload leaves nothing of the old one behind
        other = decode_event(made.encode(replace(marked, payload=b"{}")))
        assert (other.stored, other.payload) == (None, b"{}")


async def test_damage_is_found_where_it_is_looked_for_and_is_final() -> None:
    def damaged() -> Entry:
        cut_off = StoredPayload(1, 9000, compress(b"x" * 9000)[:-2])
        event = decode_event(stored(cut_off, 1).raw)
        return Entry("1-1", b"raw", Routed(1, "1-1", "1-1", event, ()))

    made = payloads(Shelf())
    passed, found = damaged(), damaged()
    await make_readable(made, [passed])
    assert passed.failure is None
    await make_readable(made, [found], unpack=True)
    assert found.failure is not None
    assert found.failure.final
    assert found.value.event.payload == b""


async def test_entries_that_hold_no_packed_event_pass() -> None:
    made = payloads(Shelf())
    entries = [stored(None, 0, b"{}"), Entry("2-1", b"", None), Entry("3-1", b"", object())]
    await make_readable(made, entries, unpack=True)
    assert [entry.failure for entry in entries] == [None] * 3
    assert made.seen == {"test": 1}


@given(st.integers(32, 1000), st.integers(0, 10**7))
def test_a_tool_is_looked_at_ever_more_rarely_but_always_again(least: int, seen: int) -> None:
    later = next_look(seen, least, trained=True)
    assert seen < later <= seen + max(MOST_EVENTS, 16 * least)
    looks = 0
    at = next_look(0, least, trained=False)
    assert at == least
    while at < 10**6:
        at = next_look(at, least, trained=True)
        looks += 1
    assert looks < 40
