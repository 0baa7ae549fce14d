"""Which path an event works in while its tool moves from old workers to here: pure functions.

``OLD``: a copy goes to the old workers, who work on it. ``OURS``: it is delivered here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal, Self

from hookstream.app.durations import HOUR_MS

__all__ = [
    "MODES",
    "OLD",
    "OURS",
    "KeyState",
    "Migration",
    "Path",
    "Step",
    "Taken",
    "confirmed_field",
    "key_name",
    "mode_before",
    "sent_field",
    "step",
]

Path = Literal["old", "ours"]
OLD: Final[Path] = "old"
OURS: Final[Path] = "ours"
#: In the order in which a tool goes through them.
MODES: Final = ("sqs", "shadow", "split", "redis", "only")
#: What a key is told apart by: percent.
BUCKETS: Final = 100
#: For how long a worker may go on by a mode that is over.
STALE_MS: Final = HOUR_MS


def sent_field(mark: str) -> str:
    """The field beside a hand-over that has when (ms) its queue got the mark."""
    return f"{mark}:sent"


def confirmed_field(mark: str) -> str:
    """The field beside a hand-over that has when (ms) somebody confirmed it."""
    return f"{mark}:confirmed"


def key_name(parts: Sequence[str]) -> str:
    """An ordering key as it stands in Redis and in queues: hashed, for it is its sender's words."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def mode_before(history: Sequence[Mapping[str, Any]]) -> tuple[str, int] | None:
    """The mode, and its percentage, before the last shift that no rollback has undone. Pure.

    ``history``: modes of a tool, the oldest first; ``rollback`` of one says that it was gone back
    to. None: nothing is left to undo, as far as that is remembered.
    """
    way: list[tuple[str, int]] = []
    for one in history:
        now = (one["mode"], one["percent"])
        if one.get("rollback"):
            del way[-1:]
        # where the history has been cut off, what a rollback went back to is not there
        if way[-1:] != [now]:
            way.append(now)
    return way[-2] if len(way) > 1 else None


@dataclass(frozen=True, slots=True)
class Migration:
    """What a tool's mode is. ``generation`` goes up with each change.

    ``before``: the modes that are over, with their percentages and until when (ms) they held.
    """

    mode: str
    percent: int = 0
    generation: int = 0
    before: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """As the database has it. Raises ValueError."""
        mode, percent = _mode(kept)
        before = tuple(
            (*_mode(one), int(datetime.fromisoformat(then["at"]).timestamp() * 1000))
            for one, then in pairwise(kept.get("history", ()))
        )
        return cls(mode, percent, int(kept.get("generation", 0)), before)

    def wanted(self, key: str) -> Path:
        """The path of a key, by its name; the same for as long as mode and percentage are.

        With a higher percentage no key that was ours is old again.
        """
        return _wanted(self.mode, self.percent, key)

    def may_have_been_ours(self, key: str, since_ms: int) -> bool:
        """Whether a mode that held after that time had a key work here."""
        return any(
            until_ms + STALE_MS >= since_ms and _wanted(mode, percent, key) == OURS
            for mode, percent, until_ms in self.before
        )

    @property
    def works_here(self) -> bool:
        """Whether what is old works here, too, as far as that delivers nothing."""
        return self.mode != "sqs"

    @property
    def copies_ours(self) -> bool:
        """Whether old workers may see what is ours."""
        return self.mode != "only"

    def copies(self, path: str, *, shown: bool) -> bool:
        """Whether old workers get an event of a path; ``shown``: they look at what is ours, too."""
        return path == OLD or (shown and self.copies_ours)


def _mode(kept: Mapping[str, Any]) -> tuple[str, int]:
    mode, percent = kept["mode"], kept.get("percent", 0)
    if mode not in MODES:
        raise ValueError(f"mode: one of {', '.join(MODES)}")
    if not isinstance(percent, int) or not 0 <= percent <= BUCKETS:
        raise ValueError("percent: 0 to 100")
    return mode, percent


def _wanted(mode: str, percent: int, key: str) -> Path:
    match mode:
        case "sqs" | "shadow":
            return OLD
        case "split":
            return OURS if int(key[:8], 16) % BUCKETS < percent else OLD
        case _:
            return OURS


@dataclass(frozen=True, slots=True)
class KeyState:
    """Where a key is; ``mark``: the hand-over that it waits for on its way from old to ours."""

    path: Path = OLD
    mark: str = ""

    def encode(self) -> str:
        """As Redis has it; "" for what is not kept: a key that is old."""
        return "" if self == KeyState() else f"{self.path} {self.mark}".rstrip()

    @classmethod
    def decode(cls, text: str) -> Self:
        """What :meth:`encode` made. Raises ValueError."""
        path, _, mark = text.partition(" ")
        if path not in (OLD, OURS):
            raise ValueError(f"no path: {path!r}")
        return cls(OLD if path == OLD else OURS, mark)


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of an event, and of its key.

    ``waits``: behind others of its key, or for the hand-over; its path is decided when its turn
    comes. ``begins``: a "mark" goes into the queue before anything else of this key, or a
    "barrier" before this event.
    """

    path: Path
    key: KeyState
    waits: bool = False
    begins: Literal["", "mark", "barrier"] = ""


@dataclass(slots=True)
class Taken:
    """What the comparison of both paths is told of an event, beside what became of it.

    ``key``: its ordering key's name, "" where its tool keeps no order. ``copied``: old workers get
    it. ``works_here``: it goes through all stages. ``dropped_by``, ``error``: what its end here
    says no more where old workers have it. ``at_ms``: when its batch was settled.
    """

    key: str = ""
    copied: bool = False
    works_here: bool = True
    dropped_by: str = ""
    error: str = ""
    at_ms: int = 0


def step(
    key: KeyState, wanted: Path, *, waiting: bool, released: bool, sent: bool, new_mark: str
) -> Step:
    """The next event of a key, in the order of its stream.

    ``waiting``: something of its key waits, and this came behind it. ``released``: it has waited
    itself, and its turn has come. ``sent``: it comes again, and its updates may be on their way: it
    stays ours, and its key moves with the next event. ``new_mark``: the id of a hand-over, should
    one begin.
    """
    if released:
        # what its key has come to meanwhile; it changes again once all that waited is through
        return Step(key.path, key)
    if waiting or key.mark:
        return Step(key.path, key, waits=True)
    if key.path == wanted or (sent and key.path == OURS):
        return Step(key.path, key)
    if wanted == OURS:
        return Step(OURS, KeyState(OURS, new_mark), waits=True, begins="mark")
    return Step(OLD, KeyState(), begins="barrier")
