"""What it costs to look for a person in all that is kept, and what an index to find them by would.

``.venv/bin/python -m bench.erasure``. Events are GitHub's example payloads, packed with a
dictionary as in :mod:`bench.sealing`, in which nobody is who is looked for: most of a scan is that.
Microseconds of CPU an event. An index that finds what a scan finds has all words of five characters
and more, since an id may be any; one of what detectors find has mail addresses, phones and such.
"""

import json
import re
from datetime import UTC, datetime
from hashlib import blake2b

from bench.sealing import example_events, microseconds, warm_entries
from hookstream.app.erasure.targets import Target
from hookstream.app.privacy.classes import ClassJudge
from hookstream.app.privacy.subjects import MIN_CHARACTERS, Subject, readings
from hookstream.app.stores.erasures import SUBJECT, Erasure
from hookstream.codecs.envelope import Event, decode_event, encode_event, read_kept
from hookstream.codecs.payload import Packing
from hookstream.codecs.warm_block import pack_block, read_block

__all__ = ["main", "measured"]

KEY = bytes(range(32))
PERSON = ("jane.doe@example.com", "+49 170 1234567", "cus-jane-9Xk2Lp77")
#: Bytes of a hash in an index, and of what names an event there: an id, at least.
HASH_BYTES, NAME_BYTES = 8, 16
#: A hundred of them take a minute.
EVENTS = 100
_WORD = re.compile(rf"[\w.@+-]{{{MIN_CHARACTERS},}}")


def _target(newest: Event) -> Target:
    made = Erasure(
        newest.event_id, "default", SUBJECT, {"salt": "00"}, "", False, "running", "",
        datetime.now(UTC),
    )  # fmt: skip
    return Target(made, Subject.of(KEY, PERSON))


def _words(event: Event) -> set[str]:
    return {word.casefold() for text in readings(event.payload) for word in _WORD.findall(text)}


def _hashes(event: Event) -> set[bytes]:
    return {
        blake2b(word.encode(), digest_size=HASH_BYTES, key=KEY).digest() for word in _words(event)
    }


def measured() -> dict[str, object]:
    """All figures."""
    events, dictionary = example_events()
    # each is looked through thirty times, by each way
    events = events[:EVENTS]
    target, packing, judge = _target(events[-1]), Packing(), ClassJudge()
    packed = [packing.pack(event.payload, dictionary) for event in events]
    hot = [encode_event(event, one) for event, one in zip(events, packed, strict=True)]
    block = pack_block(warm_entries(events, [b"".join(read_kept(one).whole()) for one in hot]))
    count = len(events)

    def look(data: bytes) -> bool:
        event = decode_event(data)
        return target.takes_event(event, opened=bool(event.payload))

    assert not any(map(look, hot))
    words = [len(_words(event)) for event in events]
    search = microseconds(lambda at: target.takes_event(events[at]), count)
    scan = microseconds(lambda at: look(hot[at]), count)
    unpack = microseconds(lambda _: read_block(block, b""), 1) / count
    return {
        "events": count,
        "payload_bytes": round(sum(len(event.payload) for event in events) / count),
        "search_us": search,
        "hot_us": scan,
        "warm_us": round(scan + unpack, 2),
        "hot_events_a_second": round(1e6 / scan),
        "index of all words": {
            "words": round(sum(words) / count, 1),
            "us": microseconds(lambda at: _hashes(events[at]), count),
            "bytes": round(sum(words) / count * (HASH_BYTES + NAME_BYTES)),
        },
        "index of finds": {"us": microseconds(lambda at: judge.has("any", events[at]), count)},
        "packed_bytes": round(sum(len(one.data or b"") for one in packed) / count, 1),
    }


def main() -> None:
    """Print them."""
    print(json.dumps(measured(), indent=1))


if __name__ == "__main__":
    main()
