"""What sealing costs an event: microseconds, and bytes in each tier with it and without.

``.venv/bin/python -m bench.sealing``. Events are GitHub's example payloads, each tool's dictionary
trained on a third of them and used for the rest. For warm and cold it also says what it would come
to if each payload were sealed by itself, so that one can be erased or read alone.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from hookstream.app.archive import parquet
from hookstream.app.archive.rows import ArchivedEvent
from hookstream.app.testing import make_event
from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.envelope import Event, encode_event, read_kept
from hookstream.codecs.payload import Packing, StoredPayload
from hookstream.codecs.sealed import KEYS, MonthKey, month_of, open_sealed, payload_place
from hookstream.codecs.training import train
from hookstream.codecs.warm_block import pack_block
from tests.support.fixtures import github_examples

__all__ = ["example_events", "main", "measured", "microseconds", "warm_entries"]

ROUNDS = 30
#: Events of a block and of an object: as many as one of a busy tool has.
EVENTS = 500


def example_events() -> tuple[list[Event], Dictionary]:
    """Events of one tool, and the dictionary that they are packed with."""
    examples = list({example.body: example for example in github_examples()}.values())
    dictionary = train([example.body for example in examples[::3]])
    assert dictionary is not None
    BOOK.add(dictionary)
    rest = [example for at, example in enumerate(examples) if at % 3][:EVENTS]
    made = [
        make_event(one.body, number=n, provider="github", type=f"event{n % 12}")
        for n, one in enumerate(rest)
    ]
    return made, dictionary


def microseconds(work: Callable[[int], object], count: int) -> float:
    """CPU time of one piece of work, of ``count`` that are numbered: the median of many rounds."""
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for at in range(count):
            work(at)
        found.append((time.process_time() - begun) / count * 1e6)
    return round(median(found), 2)


def _mean(sizes: Iterable[int]) -> float:
    known = list(sizes)
    return round(sum(known) / len(known), 1)


def _sealed(event: Event, packed: StoredPayload, key: MonthKey) -> StoredPayload:
    return packed.sealed(key, payload_place(event.tenant, event.event_id))


def warm_entries(
    events: Sequence[Event], data: Sequence[bytes]
) -> list[tuple[str, Sequence[bytes]]]:
    """What a warm block is made of."""
    return [(f"{e.received_at_ms}-0", [one]) for e, one in zip(events, data, strict=True)]


def _cold(events: Sequence[Event], data: Sequence[bytes], key: MonthKey | None) -> float:
    archived = [
        ArchivedEvent(0, f"{event.received_at_ms}-0", one)
        for event, one in zip(events, data, strict=True)
    ]
    keys = None if key is None else {key.month: key}
    made = parquet.encode_by_hour("default", "tool", archived, keys)
    return round(sum(len(one.data) for one in made) / len(events), 1)


def measured() -> dict[str, object]:
    """All figures; bytes are those of an event."""
    events, dictionary = example_events()
    key = MonthKey(1, "default", month_of(events[0].received_at_ms), bytes(range(32)))
    KEYS.add(key)
    packing = Packing()
    packed = [packing.pack(event.payload, dictionary) for event in events]
    sealed = [_sealed(event, one, key) for event, one in zip(events, packed, strict=True)]
    places = [payload_place(event.tenant, event.event_id) for event in events]
    values = [one.data or b"" for one in sealed]
    hot = [encode_event(event, one) for event, one in zip(events, packed, strict=True)]
    hot_sealed = [encode_event(event, one) for event, one in zip(events, sealed, strict=True)]
    whole = [b"".join(read_kept(one).whole()) for one in hot_sealed]
    count = len(events)
    return {
        "events": count,
        "packed_bytes": _mean(len(one.data or b"") for one in packed),
        "seal_us": microseconds(
            lambda at: key.seal(packed[at].data or b"", payload_place("default", "x" * 36)), count
        ),
        "open_us": microseconds(lambda at: open_sealed(values[at], places[at]), count),
        "hot": {"off": _mean(map(len, hot)), "on": _mean(map(len, hot_sealed))},
        "warm": {
            "off": round(len(pack_block(warm_entries(events, whole))) / count, 1),
            "on": round(len(pack_block(warm_entries(events, whole), key, b"place")) / count, 1),
            "each by itself": round(len(pack_block(warm_entries(events, hot_sealed))) / count, 1),
        },
        "cold": {
            "off": _cold(events, whole, None),
            "on": _cold(events, whole, key),
            "each by itself": _cold(events, hot_sealed, None),
        },
    }


def main() -> None:
    """Print them."""
    print(json.dumps(measured(), indent=1))


if __name__ == "__main__":
    main()
