"""What codecs make of GitHub's example payloads: bytes and time an event.

    .venv/bin/python -m bench.codecs            # the table
    .venv/bin/python -m bench.codecs --write    # and bench/results/codecs.json, docs/performance.md

A dictionary is judged by payloads that it was not trained on. Three splits:

- ``unseen``: trained on a random half (or on some of it), judged by the other. The first table's
  figures are of one such split; median and worst are those of seven.
- ``unseen-kinds``: trained on half of the event names (``push``, ``issues``, …), judged by the
  others: how it does when a tool begins to send something new.
- ``seen``: judged by what it was trained on. An upper bound, given for comparison.

Rows "zstd's own search" have dictionaries whose parameters zstd looked for itself, instead of ours.

These are examples, many of them of the same few repositories and people, so they are more alike
than a busy tool's traffic; and less so than that of one repository.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lz4.frame
import orjson
import zstandard

from hookstream.app.ids import new_event_id
from hookstream.app.testing import make_event
from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.payload import Packing
from hookstream.codecs.training import DICTIONARY_BYTES, SEGMENT_BYTES, train
from hookstream.codecs.zstd import LEVEL, compress, decompress
from tests.support.fixtures import github_examples

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "codecs.json"
PAGE = HERE.parent / "docs" / "performance.md"
LEVELS = (-1, 1, 3, 6, 9)
SIZES_KB = (4, 8, 16, 32, 64, 110)
SEEDS = range(1, 8)
REPEATS = 41
Bodies = Sequence[bytes]


@dataclass(frozen=True)
class Row:
    """``ratio``: raw bytes to one stored byte; times: µs of CPU an event, median of all rounds."""

    codec: str
    level: int | None
    dictionary_bytes: int
    ratio: float
    bytes_per_event: float
    write_us: float
    read_us: float


def time_us(function: Callable[[bytes], object], items: Bodies) -> float:
    """Median over rounds of the CPU time that an item takes: others use this machine too."""
    rounds = []
    for _ in range(REPEATS):
        start = time.thread_time_ns()
        for item in items:
            function(item)
        rounds.append((time.thread_time_ns() - start) / len(items) / 1000)
    return statistics.median(rounds)


def measure(
    codec: str,
    write: Callable[[bytes], bytes],
    read: Callable[[bytes], bytes],
    bodies: Bodies,
    level: int | None = None,
    dictionary: Dictionary | None = None,
) -> Row:
    """One row of the table; every payload is read back and compared."""
    stored = [write(body) for body in bodies]
    assert [read(data) for data in stored] == list(bodies)
    total = sum(map(len, stored))
    return Row(
        codec,
        level,
        len(dictionary.content) if dictionary else 0,
        round(sum(map(len, bodies)) / total, 2),
        round(total / len(bodies), 1),
        round(time_us(write, bodies), 2),
        round(time_us(read, stored), 2),
    )


def zstd_row(
    bodies: Bodies, level: int, dictionary: Dictionary | None = None, note: str = ""
) -> Row:
    """zstd as the codec does it: with size, dictionary id and checksum in the frame."""
    if dictionary:
        BOOK.add(dictionary)
    name = "zstd, dictionary" + note if dictionary else "zstd"
    return measure(
        name, lambda body: compress(body, dictionary, level), decompress, bodies, level, dictionary
    )


def ratio(bodies: Bodies, dictionary: Dictionary | None) -> float:
    """Raw bytes to one stored byte, at the level in use."""
    stored = sum(len(compress(body, dictionary)) for body in bodies)
    return round(sum(map(len, bodies)) / stored, 2)


def split(bodies: Bodies, seed: int) -> tuple[Bodies, Bodies]:
    """Two random halves."""
    mixed = random.Random(seed).sample(list(bodies), len(bodies))
    return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


def split_kinds() -> tuple[Bodies, Bodies]:
    """Two halves that share no event name."""
    halves: tuple[list[bytes], list[bytes]] = ([], [])
    for example in github_examples():
        halves[hashlib.sha256(example.event.encode()).digest()[0] % 2].append(example.body)
    return halves


def dictionary_of(
    bodies: Bodies, kilobytes: int = DICTIONARY_BYTES // 1024, segment: int = SEGMENT_BYTES
) -> Dictionary:
    """A dictionary of these payloads, as the trainer makes it."""
    made = train(bodies, kilobytes * 1024, segment)
    assert made is not None
    return made


def table(bodies: Bodies) -> list[Row]:
    """All codecs on payloads that no dictionary was trained on."""
    seen, unseen = split(bodies, 1)
    return [
        measure("none", lambda body: body, lambda data: data, unseen),
        measure("lz4", lz4.frame.compress, lz4.frame.decompress, unseen, 0),
        *(zstd_row(unseen, level) for level in LEVELS),
        *(zstd_row(unseen, LEVEL, dictionary_of(seen, size)) for size in SIZES_KB),
        *(zstd_row(unseen, level, dictionary_of(seen)) for level in LEVELS if level != LEVEL),
        *(
            zstd_row(unseen, LEVEL, dictionary_of(seen, size, 0), ", zstd's own search")
            for size in SIZES_KB
        ),
    ]


def splits(bodies: Bodies) -> dict[str, float]:
    """Ratios of the dictionary in use by how it was judged."""
    found: dict[str, float] = {}
    halves = [split(bodies, seed) for seed in SEEDS]
    for count in (None, 128, 64, 32):
        label = "a random half" if count is None else f"{count} payloads"
        for name, segment in (("", SEGMENT_BYTES), (", zstd's own search", 0)):
            ratios = [
                ratio(unseen, dictionary_of(seen[:count], segment=segment))
                for seen, unseen in halves
            ]
            found[f"unseen, trained on {label}: median{name}"] = statistics.median(ratios)
            found[f"unseen, trained on {label}: worst{name}"] = min(ratios)
    one, other = split_kinds()
    found["unseen-kinds, one way"] = ratio(other, dictionary_of(one))
    found["unseen-kinds, other way"] = ratio(one, dictionary_of(other))
    found["seen"] = ratio(bodies, dictionary_of(bodies))
    found["without a dictionary"] = ratio(bodies, None)
    return found


def by_size(bodies: Bodies) -> list[dict[str, float]]:
    """Small JSON, cut out of the examples' own objects: where compressing begins to pay."""
    seen, unseen = split(bodies, 1)
    dictionary = dictionary_of(seen)
    parts: list[bytes] = []
    for body in unseen:
        parts += [
            orjson.dumps({name: value}) for name, value in orjson.loads(body).items() if value
        ]
    rows = []
    for low, high in ((16, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 4096)):
        some = [part for part in dict.fromkeys(parts) if low <= len(part) < high]
        if len(some) < 5:
            continue
        packing = Packing(min_bytes=0)
        packed = sum(len(packing.pack(part, dictionary).data or b"") for part in some)
        rows.append(
            {
                "from_bytes": low,
                "below_bytes": high,
                "payloads": len(some),
                "ratio": round(sum(map(len, some)) / packed, 2),
                "write_us": round(time_us(lambda part: compress(part, dictionary), some), 2),
            }
        )
    return rows


def event_of(body: bytes, number: int) -> Event:
    """An event with metadata as a receiver gives it: ids and hashes do not shrink."""
    bits = random.Random(number)
    return make_event(
        body,
        event_id=new_event_id(1_767_225_600_000 + number, 3, bits.getrandbits(62)),
        tool_id="github",
        provider="github",
        type="pull_request.opened",
        message_id=f"github:pull_request.opened:{bits.getrandbits(128):032x}",
        delivery_id=str(uuid.UUID(int=bits.getrandbits(128))),
        headers={"x-github-event": "pull_request", "user-agent": "GitHub-Hookshot/0a1b2c3"},
        dedup_window_ms=86_400_000,
        registry_version=12,
    )


def whole_events(bodies: Bodies) -> dict[str, float]:
    """What an event costs as it is stored, metadata and all, from Event to bytes and back."""
    seen, unseen = split(bodies, 1)
    dictionary = dictionary_of(seen)
    BOOK.add(dictionary)
    events = {body: event_of(body, number) for number, body in enumerate(unseen)}
    packing = Packing()
    raw = sum(map(len, unseen))
    found: dict[str, float] = {}
    for name, write in (
        ("as it is", lambda body: encode_event(events[body])),
        ("payload packed", lambda body: encode_event(events[body], packing.pack(body, dictionary))),
    ):
        stored = [write(body) for body in unseen]
        found[f"{name}: bytes an event"] = round(statistics.mean(map(len, stored)), 1)
        found[f"{name}: share of the raw JSON"] = round(sum(map(len, stored)) / raw, 4)
        found[f"{name}: write, µs"] = round(time_us(write, unseen), 2)
        found[f"{name}: read without its payload, µs"] = round(time_us(decode_event, stored), 2)
        found[f"{name}: read with its payload, µs"] = round(
            time_us(lambda data: decode_event(data).payload, stored), 2
        )
    # what was not chosen (decision 30)
    whole = dictionary_of([encode_event(event_of(body, -n)) for n, body in enumerate(seen)])
    packed = [len(compress(encode_event(event), whole)) for event in events.values()]
    found["all of it packed: bytes an event"] = round(statistics.mean(packed), 1)
    return found


def by_large_size(bodies: Bodies) -> dict[str, list[float]]:
    """Ratio without and with the dictionary for arrays of payloads, by kilobytes."""
    seen, unseen = split(bodies, 1)
    dictionary = dictionary_of(seen)
    found = {}
    for kilobytes in (16, 64, 128, 256):
        arrays, current = [], b"["
        for body in unseen:
            current += body + b","
            if len(current) > kilobytes * 1024:
                arrays.append(current)
                current = b"["
        found[str(kilobytes)] = [ratio(arrays, None), ratio(arrays, dictionary)]
    return found


def run() -> dict[str, Any]:
    """Everything, as it is written to ``results/codecs.json``."""
    bodies = list(dict.fromkeys(example.body for example in github_examples()))
    sizes = sorted(map(len, bodies))
    return {
        "machine": {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
            "zstandard": zstandard.__version__,
            "lz4": lz4.frame.lz4.library_version_string(),
        },
        "payloads": {
            "count": len(bodies),
            "mean_bytes": round(statistics.mean(sizes), 1),
            "median_bytes": sizes[len(sizes) // 2],
        },
        "method": "trained on a random half, judged by the other; times: µs of CPU, "
        f"median of {REPEATS} rounds, one thread",
        "rows": [asdict(row) for row in table(bodies)],
        "ratio_by_split": splits(bodies),
        "small_payloads": by_size(bodies),
        "large_payloads": by_large_size(bodies),
        "whole_events": whole_events(bodies),
    }


def markdown(found: dict[str, Any]) -> str:
    """The results as tables for people."""
    lines = [
        f"{found['payloads']['count']} different payloads of {found['payloads']['mean_bytes']:.0f} "
        f"bytes on average (median {found['payloads']['median_bytes']}); {found['method']}; "
        f"Python {found['machine']['python']}, zstd {found['machine']['zstd']}, "
        f"{found['machine']['cores']} cores.",
        "",
        "| codec | level | dictionary, bytes | ratio | bytes an event | write, µs | read, µs |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found["rows"]:
        level = "" if row["level"] is None else row["level"]
        lines.append(
            f"| {row['codec']} | {level} | {row['dictionary_bytes'] or ''} | {row['ratio']:.2f} | "
            f"{row['bytes_per_event']:.0f} | {row['write_us']:.1f} | {row['read_us']:.1f} |"
        )
    lines += ["", "| how the dictionary was judged | ratio |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.2f} |" for name, value in found["ratio_by_split"].items()]
    lines += [
        "",
        "| small payloads, bytes | how many | ratio | write, µs |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['from_bytes']} to {row['below_bytes'] - 1} | {row['payloads']} | "
        f"{row['ratio']:.2f} | {row['write_us']:.1f} |"
        for row in found["small_payloads"]
    ]
    lines += [
        "",
        "| large payloads, KiB | ratio without | with a dictionary |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {size} | {a:.2f} | {b:.2f} |" for size, (a, b) in found["large_payloads"].items()]
    lines += ["", "| a whole event, metadata and all | |", "| --- | ---: |"]
    lines += [f"| {name} | {value:g} |" for name, value in found["whole_events"].items()]
    return "\n".join(lines)


def main() -> None:
    """Print the tables; with ``--write`` keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write JSON and the page")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = run()
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else markdown(found))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        begin, end = "<!-- codecs -->", "<!-- /codecs -->"
        before, _, rest = PAGE.read_text().partition(begin)
        PAGE.write_text(f"{before}{begin}\n\n{markdown(found)}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
