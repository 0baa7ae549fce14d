"""The corpus of personal data, and how well detectors do on it: the table of docs/privacy.md.

``python -m tests.support.privacy_corpus`` prints precision and recall by kind; ``--misses`` says
what was missed and what was found that is none; ``--write`` keeps the table in the page (``make
docs``), ``--check`` says whether it is kept there as it is; ``--cost`` measures the CPU time of an
event of the fixtures, with the rules that come along and with all kinds.

Each item is a payload of a provider's fixtures with one labelled value in it: in a sentence of one
of six languages, in place of a text that was there, or in a field of its own; and beside it what
looks like such a value and is none. It is made from a seed, so that every machine has the same one.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from hookstream.app.privacy.kinds import KINDS
from hookstream.app.privacy.masking import Masker
from hookstream.app.privacy.pseudonyms import Pseudonyms
from hookstream.app.privacy.rules import MASK, PSEUDONYM, Rules
from hookstream.codecs.envelope import Event
from tests.support import ROOT
from tests.support.kept_table import KeptTable
from tests.support.privacy_items import FIELDS, LANGUAGES, SENTENCES, WORDS, made
from tests.unit.providers.test_fixtures import cases, payload_of

__all__ = [
    "STRUCTURED",
    "Item",
    "Score",
    "corpus",
    "fixture_event",
    "found_in",
    "scores",
]

SEED = 20
EACH = 66
#: Kinds with a form or check digits of their own.
STRUCTURED = tuple(kind for kind in KINDS if kind not in ("name", "address", "birth_date"))
#: Fields whose text is replaced by a sentence.
_TEXTS = (
    "body",
    "text",
    "description",
    "message",
    "title",
    "summary",
    "note",
    "content",
    "comment",
)
#: What means nothing without a word before it.
_BARE = frozenset(
    f"national_id.{country}" for country in ("de", "nl", "pl", "fi", "in", "tr", "za", "ca", "gb")
)


@dataclass(frozen=True, slots=True)
class Item:
    """A payload, the one labelled value that was put into it, and what it was before."""

    kind: str
    value: str
    language: str
    provider: str
    payload: bytes
    before: bytes


@dataclass(slots=True)
class Score:
    """Of one kind: labelled and found, labelled and missed, found and not labelled."""

    kind: str
    right: int = 0
    missed: int = 0
    wrong: int = 0

    @property
    def precision(self) -> float:
        """The share of what was found that is labelled."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """The share of what is labelled that was found."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0

    def line(self) -> str:
        """As a line of the table."""
        count = self.right + self.missed
        return f"| `{self.kind}` | {count} | {self.precision:.3f} | {self.recall:.3f} |"


class _Recorder(Pseudonyms):
    """Writes down what it is asked for."""

    def __init__(self) -> None:
        super().__init__(b"corpus", "corpus")
        self.seen: Counter[tuple[str, str]] = Counter()

    def name(self, kind: str, text: str) -> str:
        self.seen[kind, text] += 1
        return super().name(kind, text)


@cache
def _masker(provider: str) -> tuple[Masker, _Recorder]:
    recorder = _Recorder()
    return Masker(dict.fromkeys(KINDS, PSEUDONYM), provider=provider, pseudonyms=recorder), recorder


def found_in(provider: str, payload: bytes, content_type: str = "") -> Counter[tuple[str, str]]:
    """Kinds and values that are found in a payload."""
    masker, recorder = _masker(provider)
    recorder.seen = Counter()
    masker.event(fixture_event(provider, payload, content_type))
    return recorder.seen


def fixture_event(provider: str, payload: bytes, content_type: str = "") -> Event:
    """An event of a payload."""
    return Event(
        event_id="",
        tenant="default",
        tool_id=provider,
        provider=provider,
        type="t",
        message_id="",
        received_at_ms=0,
        payload=payload,
        content_type=content_type,
    )


@cache
def corpus() -> tuple[Item, ...]:
    """All items, the same on every machine."""
    rng = random.Random(SEED)
    shapes = [
        (name, payload)
        for name, file in cases()
        if file.endswith(".json") and isinstance(payload := payload_of(name, file), dict)
    ]
    return tuple(
        _item(kind, LANGUAGES[at % len(LANGUAGES)], field=at % 2 == 0, shapes=shapes, rng=rng)
        for kind in KINDS
        for at in range(EACH)
    )


def _item(
    kind: str, language: str, *, field: bool, shapes: list[tuple[str, Any]], rng: random.Random
) -> Item:
    provider, shape = rng.choice(shapes)
    payload = orjson.loads(orjson.dumps(shape))
    _set(payload, rng.choice(_TEXTS), _looks_alike(rng))
    payload[f"external_{rng.choice(('reference', 'key', 'checksum'))}"] = _looks_alike(rng)
    before = orjson.dumps(payload)
    field = (field or kind == "birth_date") and kind in FIELDS
    value = made(kind, language, rng, field=field)
    if field:
        _into(payload, rng)[rng.choice(FIELDS[kind])] = value
    else:
        sentence = rng.choice(SENTENCES[language])
        _set(payload, rng.choice(_TEXTS), sentence.format(_said(kind, language, value, rng)))
        if kind == "name":
            value = value.partition(" ")[2]
    return Item(kind, value, language, provider, orjson.dumps(payload), before)


def _said(kind: str, language: str, value: str, rng: random.Random) -> str:
    """A value with the word that a writer puts before it, where it needs one."""
    if kind == "secret.url":
        return f"postgres://{value}@db.example.com:5432/app"
    words = WORDS.get(kind)
    if words is None or (kind == "phone" and value.startswith("+")):
        return value
    separated = any(char in value for char in " .-") or len(value) > 14
    if kind == "national_id.cl":
        separated = "." in value
    if kind.startswith("national_id.") and kind not in _BARE and separated and rng.random() < 0.5:
        return value
    return (words if isinstance(words, str) else words[language]).format(value)


def _into(payload: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """An object of a payload."""
    return rng.choice([payload, *(v for v in payload.values() if isinstance(v, dict))])


def _set(payload: dict[str, Any], name: str, text: str) -> None:
    """A text in place of one that is there by this name, at any depth; else at the top."""
    pending: list[Any] = [payload]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get(name), str):
                value[name] = text
                return
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    payload[name] = text


def _looks_alike(rng: random.Random) -> str:
    """What is nobody's: numbers of tickets, hashes, times, UUIDs, amounts, versions, ids."""
    number = rng.randrange(10**15, 10**16)
    hexadecimal = f"{rng.getrandbits(160):040x}"
    return rng.choice(
        (
            f"OPS-{number % 100_000}",
            f"ticket {number % 10**9} was closed",
            f"commit {hexadecimal}",
            hexadecimal[:7],
            f"{hexadecimal[:8]}-{hexadecimal[8:12]}-4{hexadecimal[13:16]}-a{hexadecimal[17:20]}-{hexadecimal[20:32]}",
            f"at 2026-{1 + number % 12:02}-{1 + number % 28:02}T10:20:30.{number % 1000:03}Z",
            f"{1_700_000_000_000 + number % 10**10}",
            f"total 1,{number % 1000:03}.{number % 100:02} EUR",
            f"v{number % 9}.{number % 17}.{number % 23}-rc{number % 5}",
            f"order {9 * 10**15 + number % 10**15}",
            "git@github.com:acme/app.git, actions/checkout@v4, left-pad@1.3.0",
            f"sha256:{hexadecimal}{hexadecimal[:24]}",
            f"build #{number % 10_000} took {number % 600} s, {number % 10**8} bytes",
            f"02:42:ac:{number % 90 + 10}:00:02 at 12:30:45, ratio 1:2:3",
            f"see https://example.com/t/{number}?page={number % 7}#c{number % 10**10}",
            f"arn:aws:iam::{number % 10**12}:role/deploy",
        )
    )


@cache
def scores() -> tuple[tuple[Score, ...], tuple[str, ...]]:
    """Each kind's, and what was missed or wrong, for people."""
    by_kind = {kind: Score(kind) for kind in KINDS}
    told = []
    for item in corpus():
        found = found_in(item.provider, item.payload)
        found -= found_in(item.provider, item.before)
        if found[item.kind, item.value]:
            by_kind[item.kind].right += 1
        else:
            by_kind[item.kind].missed += 1
            told.append(f"missed {item.kind} {item.value!r} ({item.language})")
        for (kind, value), count in found.items():
            if (kind, value) != (item.kind, item.value):
                by_kind[kind].wrong += count
                told.append(f"wrong {kind} {value!r}, made as {item.kind} {item.value!r}")
        # what looks like one was put there for all of them
        for kind, value in _alike(item):
            by_kind[kind].wrong += 1
            told.append(f"wrong {kind} {value!r} in what looks like it")
    return tuple(by_kind.values()), tuple(told)


def _alike(item: Item) -> Iterator[tuple[str, str]]:
    """What is found in the text that only looks like something."""
    payload = orjson.loads(item.before)
    for name, text in payload.items():
        if name.startswith("external_"):
            yield from found_in("generic", orjson.dumps({name: text}))


def table() -> Iterator[str]:
    """Lines of Markdown."""
    yield "| kind | items | precision | recall |"
    yield "| --- | ---: | ---: | ---: |"
    found, _ = scores()
    yield from (score.line() for score in found)
    whole = Score(f"all {len(found)}")
    for score in found:
        whole.right += score.right
        whole.missed += score.missed
        whole.wrong += score.wrong
    yield whole.line().replace("`", "")


def cost() -> Iterator[str]:
    """CPU time of an event, where nothing is found and where something is."""
    files = [
        fixture_event(name, (ROOT / "tests/unit/providers/fixtures" / name / file).read_bytes())
        for name, file in cases()
        if file.endswith(".json")
    ]
    size = sum(len(event.payload) for event in files) / len(files)
    yield f"{len(files)} payloads of JSON of the fixtures, {size:.0f} bytes on average"
    everything = dict.fromkeys(KINDS, MASK)
    for name, actions in (("defaults", Rules().actions("agents")), ("all kinds", everything)):
        finder = Masker(actions)._finder
        maskers = {e.provider: Masker(actions, provider=e.provider, finder=finder) for e in files}
        found = [bool(maskers[event.provider].event(event).counts) for event in files]
        for what, wanted in (("nothing found", False), ("something found", True)):
            chosen = [e for e, has in zip(files, found, strict=True) if has is wanted]
            best = min(_seconds(chosen, maskers) for _ in range(5))
            yield f"{name}, {what}: {len(chosen)} events, {best / len(chosen) * 1e6:.1f} µs each"


def _seconds(events: list[Event], maskers: dict[str, Masker]) -> float:
    for event in events:
        event.data()
    begun = time.process_time()
    for event in events:
        maskers[event.provider].event(event)
    return time.process_time() - begun


if __name__ == "__main__":
    kept = KeptTable(ROOT / "docs" / "privacy.md", "corpus", table)
    if "--write" in sys.argv:
        kept.write()
    elif "--check" in sys.argv:
        kept.check()
    elif "--cost" in sys.argv:
        print("\n".join(cost()))
    else:
        print("\n".join(scores()[1] if "--misses" in sys.argv else table()))
