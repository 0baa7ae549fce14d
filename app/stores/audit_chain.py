"""The chain of the audit trail: what is wrong with rows, as they follow one another.

Each row's hash is over the hash of the row before and its own record. Pure: rows come from
PostgreSQL (:mod:`hookstream.app.stores.audit_trail`) or from an exported file.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

__all__ = [
    "FIRST",
    "ChainRow",
    "Head",
    "Link",
    "Problem",
    "check_end",
    "check_rows",
    "export_line",
    "exported_row",
]

#: Columns that are made from the record, and where they stand in it.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "seq": ("seq",),
    "tenant": ("tenant",),
    "at": ("at",),
    "recorded_at": ("recorded_at",),
    "actor": ("actor", "id"),
    "action": ("action",),
    "object_kind": ("object", "kind"),
    "object_id": ("object", "id"),
}
_RECORD: Final = ',"record":'


@dataclass(frozen=True, slots=True)
class Link:
    """A place in a chain: a row's number and its hash."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "Link":
        """What ``str()`` made. Raises ValueError."""
        seq, colon, digest = text.partition(":")
        plain = seq.isascii() and seq.isdecimal() and len(seq) < 19
        if not (colon and plain and len(digest) == 64):
            raise ValueError("a row's number, a colon, and its hash in 64 hexadecimal digits")
        return cls(int(seq), bytes.fromhex(digest))


#: What stands before the first row of a chain.
FIRST: Final = Link(0, bytes(32))


@dataclass(frozen=True, slots=True)
class Head:
    """What a row of ``audit_heads`` says: where a chain ends, and behind what it begins."""

    end: Link
    start: Link


@dataclass(frozen=True, slots=True)
class ChainRow:
    """A row as it stands. ``columns``: those beside the record, as far as they are known."""

    seq: int
    record: bytes
    previous: bytes
    hash: bytes
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with which row. ``kind``: missing, changed, moved, inserted, unlinked."""

    seq: int
    kind: str
    detail: str

    def out(self) -> dict[str, Any]:
        """As the API tells it."""
        return {"seq": self.seq, "problem": self.kind, "detail": self.detail}


def check_rows(rows: Iterable[ChainRow], after: Link) -> tuple[list[Problem], Link]:
    """What is wrong with rows that are said to follow ``after``, and the last one's place.

    A row is judged by what it says itself, and by the row before as that is now: one changed row is
    one problem, and those behind it are none.
    """
    problems: list[Problem] = []
    for row in rows:
        problems += _check_row(row, after)
        after = Link(row.seq, row.hash)
    return problems, after


def check_end(last: Link, end: Link) -> list[Problem]:
    """Whether the chain ends where its head says."""
    if last.seq < end.seq:
        return [_missing(last.seq + 1, end.seq)]
    if last.seq > end.seq:
        return [
            Problem(
                seq, "inserted", f"row {seq} was not appended: the last one that was is {end.seq}"
            )
            for seq in range(end.seq + 1, min(last.seq, end.seq + 100) + 1)
        ]
    if last.hash != end.hash:
        return [Problem(last.seq, "changed", f"row {last.seq} has not the hash that it ended with")]
    return []


def exported_row(line: bytes) -> ChainRow:
    """A row from a line of an export.

    Raises:
        ValueError: it is none.
    """
    head, mark, record = line.strip().partition(_RECORD.encode())
    if not mark or not record.endswith(b"}"):
        raise ValueError("no line of an export of the audit trail")
    try:
        found = orjson.loads(head + b"}")
        seq, previous, digest = int(found["seq"]), found["previous"], found["hash"]
        return ChainRow(seq, record[:-1], bytes.fromhex(previous), bytes.fromhex(digest))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("no line of an export of the audit trail") from error


def export_line(row: ChainRow) -> bytes:
    """A row as a line of JSON, in which the record stands as it was hashed."""
    head = f'{{"seq":{row.seq},"previous":"{row.previous.hex()}","hash":"{row.hash.hex()}"{_RECORD}'
    return head.encode() + row.record + b"}\n"


def _check_row(row: ChainRow, after: Link) -> list[Problem]:
    found: list[Problem] = []
    gap = row.seq != after.seq + 1
    if row.seq <= after.seq:
        found.append(Problem(row.seq, "moved", f"row {row.seq} stands behind row {after.seq}"))
    elif gap:
        found.append(_missing(after.seq + 1, row.seq - 1))
    if hashlib.sha256(row.previous + row.record).digest() != row.hash:
        found.append(Problem(row.seq, "changed", f"row {row.seq} is not what was hashed"))
    elif wrong := _differing(row):
        found.append(_told_differing(row.seq, wrong))
    if not gap and row.previous != after.hash:
        found.append(
            Problem(
                row.seq,
                "unlinked",
                f"row {row.seq} was not written behind row {after.seq} as that is now: one of the "
                "two was replaced",
            )
        )
    return found


def _differing(row: ChainRow) -> dict[str, Any]:
    """Columns that are not what the record says, and what it says."""
    try:
        record = orjson.loads(row.record)
    except orjson.JSONDecodeError:
        return {"record": None}
    wrong: dict[str, Any] = {}
    for name, value in {"seq": row.seq, **row.columns}.items():
        said = record
        for part in COLUMNS[name]:
            said = said.get(part) if isinstance(said, dict) else None
        if said != value:
            wrong[name] = said
    return wrong


def _told_differing(seq: int, wrong: Mapping[str, Any]) -> Problem:
    if "seq" in wrong:
        return Problem(seq, "moved", f"row {seq} says that it is row {wrong['seq']}")
    return Problem(seq, "changed", f"row {seq}: {', '.join(wrong)} is not what its record says")


def _missing(first: int, last: int) -> Problem:
    what = f"row {first} is" if first == last else f"rows {first} to {last} are"
    return Problem(first, "missing", f"{what} missing")
