"""Dedup windows: which stream entry first had a message id, and until when that counts.

The rule is :func:`decide`, a pure function; :class:`DedupTable` keeps its marks in RocksDB. What
happened before the window is in :mod:`hookstream.tables.bloom`. A mark stands under a message id,
which other events may have, or under an event's own id, by which a second append of the same event
is told from another event.
"""

import hashlib
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from rocksdict import WriteBatch

from hookstream.tables.errors import TableCorruptError
from hookstream.tables.table import Change, Table

__all__ = [
    "DAY_MS",
    "Candidate",
    "DedupTable",
    "Layer",
    "Mark",
    "Own",
    "Record",
    "Verdict",
    "decide",
    "decode_mark",
    "encode_mark",
    "entry_ms",
    "is_settled",
    "mark_key",
    "mark_keys",
]

_MARK: Final = struct.Struct(">QQQ16s")
_EXPIRY: Final = struct.Struct(">Q")

DAY_MS: Final = 86_400_000
#: What an event's judgement rests on: nothing to say, its window, the history, its own id (it was
#: appended twice); or a candidate that could not be settled, with which it passed.
Layer = Literal["", "window", "history", "copy", "unconfirmed"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Who had a message id first: its stream entry, its event, and when the window ends (ms)."""

    entry_id: str
    event_id: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Own:
    """What stands for one event alone. ``copy_ms``: how long its mark is kept; 0: none is left.

    ``origin``: the entry that this event first was, where that is known and not the one that is
    judged. ``failed``: it is judged when it comes again, and told from its copies only for now.
    """

    name: str
    copy_ms: int = 0
    origin: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stream entry to be judged. ``window_ms`` 0 means: no other event is ever the same.

    ``again``: the pipeline itself put this event into its stream once more, after a failure.
    ``history_ms``: how far back an earlier event counts that the event log confirms; 0: not at all.
    ``own``: how it is told from a copy of itself; None where its message id's mark says enough.
    """

    entry_id: str
    event_id: str
    message_id: str
    window_ms: int
    again: bool = False
    history_ms: int = 0
    own: Own | None = None
    #: Of an event that came by an import, when it was received (ms): it is on record and not
    #: judged, only its mark is made. 0: an event that comes now.
    noted_ms: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """The exact record of an earlier event: its id, its stream entry, and when it came (ms)."""

    event_id: str
    entry_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """``duplicate_of[i]`` is the first event's id, or "" for a fresh one; ``changes`` the marks.

    ``layers[i]`` says by what; ``remembered`` are day and key of what history has to keep.
    """

    duplicate_of: tuple[str, ...]
    changes: tuple[Change, ...]
    layers: tuple[Layer, ...] = ()
    remembered: tuple[tuple[int, bytes], ...] = ()


def entry_ms(entry_id: str) -> int:
    """The Redis time, in Unix milliseconds, at which a stream entry was appended."""
    return int(entry_id.partition("-")[0])


@lru_cache(maxsize=4096)
def mark_key(message_id: str) -> bytes:
    """16 bytes that stand for a message id (BLAKE2b: a sender must not be able to collide them).

    A batch asks for each of them twice: the second time costs a tenth of the first.

    Raises:
        ValueError: for an empty message id; no key is built from an empty part.
    """
    if not message_id:
        raise ValueError("an event without a message id cannot be judged")
    return hashlib.blake2b(message_id.encode(), digest_size=16).digest()


def encode_mark(mark: Mark) -> bytes:
    """40 bytes: expiry, entry id (two integers), event id."""
    ms, _, seq = mark.entry_id.partition("-")
    return _MARK.pack(mark.expires_ms, int(ms), int(seq), uuid.UUID(mark.event_id).bytes)


def decode_mark(value: bytes) -> Mark:
    """The mark in 40 bytes.

    Raises:
        TableCorruptError: when they are not 40.
    """
    try:
        expires_ms, ms, seq, event = _MARK.unpack(value)
    except struct.error as error:
        raise TableCorruptError(f"a dedup mark of {len(value)} bytes instead of 40") from error
    return Mark(f"{ms}-{seq}", str(uuid.UUID(bytes=event)), expires_ms)


def mark_keys(candidates: Sequence[Candidate]) -> list[bytes]:
    """The keys of all marks that judging these needs."""
    found = [mark_key(each.message_id) for each in candidates if each.window_ms]
    return found + [mark_key(each.own.name) for each in candidates if each.own]


def decide(
    candidates: Sequence[Candidate],
    known: Mapping[bytes, Mark],
    records: Mapping[bytes, Record | None] | None = None,
) -> Verdict:
    """Judge a batch, in stream order. ``known`` holds the marks of its keys that exist.

    Time is the entry's own (Redis gave it), so a worker's clock cannot open or close a window.
    A redelivered entry finds its own mark and is itself, not a duplicate; so does an event that
    comes again after a failure. The same event in another entry otherwise (an append whose reply
    was lost, and that was repeated) is a copy: a duplicate of itself, whatever the time says, for
    as long as any mark of it is there.

    ``records`` are what the exact record says of keys that history suspects; None where it could
    not be asked: such an event passes, marked. Only another event, and one that came within
    ``history_ms``, makes a duplicate. An earlier entry of the same batch is as good as a record.
    """
    marks = dict(known)
    firsts: dict[bytes, Candidate] = {}
    duplicate_of: list[str] = []
    layers: list[Layer] = []
    changes: dict[bytes, bytes] = {}
    remembered: list[tuple[int, bytes]] = []
    for candidate in candidates:
        first = ""
        layer: Layer = ""
        now = entry_ms(candidate.entry_id)
        if candidate.noted_ms:
            duplicate_of.append(candidate.event_id)
            layers.append("")
            _note(candidate, now, marks, changes, remembered)
            continue
        key = mark_key(candidate.message_id) if candidate.window_ms else b""
        held = marks.get(key)
        own = candidate.own
        held_own = marks.get(mark_key(own.name)) if own else None
        if (held and _is_copy(candidate, held)) or (held_own and _is_copy(candidate, held_own)):
            duplicate_of.append(candidate.event_id)
            layers.append("copy")
            continue
        if key and not (own and own.failed):
            if held is None or not _is_itself(candidate, held):
                if held and now < held.expires_ms:
                    if not _came_after(held, candidate, held_own):
                        first, layer = held.event_id, "window"
                else:
                    mark = _mark(candidate, now + candidate.window_ms)
                    if candidate.history_ms and (key in firsts or (records and key in records)):
                        mark, layer = _look_back(candidate, mark, now, firsts.get(key), records)
                        first = mark.event_id if layer == "history" else ""
                    marks[key] = mark
                    changes[key] = encode_mark(mark)
            if candidate.history_ms and not first:
                firsts[key] = candidate
                remembered.append((now // DAY_MS, key))
        if own and own.copy_ms and held_own is None:
            # of a duplicate, too: its copy may come when the first one's window has ended
            own_key = mark_key(own.name)
            marks[own_key] = _mark(candidate, now + own.copy_ms)
            changes[own_key] = encode_mark(marks[own_key])
        duplicate_of.append(first)
        layers.append(layer)
    return Verdict(tuple(duplicate_of), tuple(changes.items()), tuple(layers), tuple(remembered))


def _note(
    candidate: Candidate,
    now: int,
    marks: dict[bytes, Mark],
    changes: dict[bytes, bytes],
    remembered: list[tuple[int, bytes]],
) -> None:
    """Have an event known that came by an import, for as long as its time is not over.

    Its window began when it was received, not now. What came here before it keeps its mark.
    """
    if not candidate.window_ms:
        return
    key = mark_key(candidate.message_id)
    mark = _mark(candidate, candidate.noted_ms + candidate.window_ms)
    held = marks.get(key)
    if mark.expires_ms > now and (held is None or held.expires_ms <= now):
        marks[key] = mark
        changes[key] = encode_mark(mark)
    if candidate.noted_ms + candidate.history_ms > now:
        # the filter of today is the one that is in memory; the event log knows the time itself
        remembered.append((now // DAY_MS, key))


def is_settled(candidate: Candidate, known: Mapping[bytes, Mark]) -> bool:
    """Whether marks say what there is to know of this very event: that it has come before."""
    held = [known.get(key) for key in mark_keys([candidate])]
    return any(mark is not None and mark.event_id == candidate.event_id for mark in held)


def _mark(candidate: Candidate, expires_ms: int) -> Mark:
    return Mark(_origin(candidate) or candidate.entry_id, candidate.event_id, expires_ms)


def _origin(candidate: Candidate) -> str:
    return candidate.own.origin if candidate.own else ""


def _is_copy(candidate: Candidate, mark: Mark) -> bool:
    """Whether this event is known by another entry. An event's id is never given twice."""
    return mark.event_id == candidate.event_id and not _is_itself(candidate, mark)


def _came_after(held: Mark, candidate: Candidate, own: Mark | None) -> bool:
    """Whether the event of a mark came after the window of this one, which comes for another try.

    Neither is a duplicate of the other then, although the second one's window lasts.
    """
    return (
        own is not None and entry_ms(held.entry_id) >= entry_ms(own.entry_id) + candidate.window_ms
    )


def _look_back(
    candidate: Candidate,
    fresh: Mark,
    now: int,
    before: Candidate | None,
    records: Mapping[bytes, Record | None] | None,
) -> tuple[Mark, Layer]:
    """The mark of an event that its window says nothing of, and what that rests on."""
    if candidate.again:
        return fresh, ""
    if before is not None:
        record: Record | None = Record(before.event_id, before.entry_id, entry_ms(before.entry_id))
    else:
        record = (records or {})[mark_key(candidate.message_id)]
    if record is None:
        return fresh, "unconfirmed"
    ends = record.at_ms + candidate.history_ms
    if record.event_id == candidate.event_id or now >= ends:
        return fresh, ""
    # a storm of late copies is looked up once; no window goes on beyond the history
    return Mark(record.entry_id, record.event_id, min(fresh.expires_ms, ends)), "history"


def _is_itself(candidate: Candidate, mark: Mark) -> bool:
    origin = _origin(candidate)
    if mark.entry_id in (candidate.entry_id, origin):
        return True
    return candidate.again and not origin and mark.event_id == candidate.event_id


class DedupTable(Table):
    """The dedup windows of one partition in RocksDB.

    Two column families: ``marks`` by key, and ``expiry`` ordered by the time a mark ends, so that
    ended ones are found and deleted without reading a living one. About 2 µs an event in batches
    of 256.
    """

    name = "dedup"
    help = "Which stream entry first had a message id, until the tool's window ends."

    families = ("marks", "expiry")

    def __init__(self, path: Path) -> None:
        """As every table; see :class:`~hookstream.tables.table.Table`."""
        super().__init__(path)
        self._purged_ms = 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Mark]:
        """The marks of those ``keys`` that have one: one multi-get.

        Raises:
            TableCorruptError: RocksDB cannot read what is there; rebuild the table.
        """
        if not keys:
            return {}
        with self._errors():
            values: Any = self._families["marks"][list(keys)]
        return {
            key: decode_mark(value)
            for key, value in zip(keys, values, strict=True)
            if value is not None
        }

    def _put(self, batch: Any, key: bytes, value: bytes) -> None:
        batch.put(key, value, self._handles["marks"])
        batch.put(value[:8] + key, b"", self._handles["expiry"])

    def purge(self, now_ms: int, limit: int = 10_000) -> int:
        """Delete up to ``limit`` marks that ended before ``now_ms``; returns how many went.

        Reads only ended entries: ``expiry`` is walked from where the last purge stopped.

        Raises:
            TableError: it cannot be read or written; open the table anew.
        """
        with self._errors():
            return self._purge(now_ms, limit)

    def _purge(self, now_ms: int, limit: int) -> int:
        start = _EXPIRY.pack(self._purged_ms)
        end = _EXPIRY.pack(now_ms)
        batch = WriteBatch(raw_mode=True)
        ended: list[tuple[bytes, bytes]] = []
        walk = self._families["expiry"].iter()
        walk.seek(start)
        while walk.valid() and len(ended) < limit:
            entry = walk.key()
            if entry >= end:
                break
            ended.append((entry[:8], entry[8:]))
            walk.next()
        walk.status()
        if not ended:
            return 0
        values: Any = self._families["marks"][[key for _, key in ended]]
        for (expiry, key), value in zip(ended, values, strict=True):
            # a key that was marked anew after its window ended has a later expiry of its own
            if value is not None and value[:8] == expiry:
                batch.delete(key, self._handles["marks"])
            batch.delete(expiry + key, self._handles["expiry"])
        self._db.write(batch)
        (self._purged_ms,) = _EXPIRY.unpack(ended[-1][0])
        return len(ended)

    def __len__(self) -> int:
        """How many marks there are; walks all of them, so for tests and tools only."""
        walk = self._families["marks"].iter()
        walk.seek_to_first()
        count = 0
        while walk.valid():
            count += 1
            walk.next()
        walk.status()
        return count
