"""Generations: where the feeds of a partition were begun anew, since Redis had lost data.

A generation is the time (ms, Redis's) at which it began, so it only goes up, whatever was
forgotten. Its first number is above all that were given before: no client ever gets a number twice,
and a number says which generation it is of. All that decides here is pure.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

__all__ = ["Begun", "Generations", "Mark", "Place", "Verdict", "begin", "judge", "newest"]

#: Numbers that are left out when a generation begins, behind the highest one that is on record: it
#: may be a few seconds old.
MARGIN = 10_000
#: Generations that are remembered; of the rest it is known only that they were before.
MAX_KEPT = 16


@dataclass(frozen=True, slots=True)
class Begun:
    """A generation (Unix ms), and its first number."""

    generation: int
    start: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client goes on: behind ``after``; ``reset`` is why it is told so, "" that it is not.

    ``"other"``: its number is of another generation; ``"beyond"``: there never was such a number
    here, or it is lost.
    """

    after: int
    reset: str = ""


@dataclass(frozen=True, slots=True)
class Generations:
    """Those of one partition, in their order; none where nobody has owned it yet."""

    begun: tuple[Begun, ...] = ()

    @property
    def current(self) -> int:
        """The newest one; 0 where there is none."""
        return self.begun[-1].generation if self.begun else 0

    @property
    def start(self) -> int:
        """The first number of the newest one."""
        return self.begun[-1].start if self.begun else 1

    def at(self, after: int) -> int:
        """The generation of the number that comes behind ``after``; 0 where that is forgotten."""
        return max((one.generation for one in self.begun if one.start <= after + 1), default=0)

    def crossing(self, after: int) -> Begun | None:
        """The next one that begins behind ``after``."""
        return next((one for one in self.begun if one.start > after + 1), None)

    def place(self, after: int, generation: int, last: int) -> Place:
        """Where a client goes on that has come to ``after``.

        ``generation`` is what it was told with it (0: nothing), ``last`` the feed's last number.
        What its number alone tells is told in the feed's order, where the new numbers begin.
        """
        mine = self.at(after)
        if generation > self.current or 0 < generation < mine:
            later = [one for one in self.begun if one.generation > generation]
            first = later[0].start if later else self.start
            return Place(first - 1, "other")
        if after > last and self.crossing(after) is None and after + 1 > self.start:
            return Place(max(last, self.start - 1), "beyond")
        return Place(after)

    def then(self, generation: int, start: int) -> "Generations":
        """These, and one more."""
        return Generations((*self.begun, Begun(generation, start))[-MAX_KEPT:])

    def encode(self) -> str:
        """As they are kept in Redis and PostgreSQL."""
        return " ".join(f"{one.generation}:{one.start}" for one in self.begun)

    @classmethod
    def decode(cls, text: str) -> Self:
        """What is kept. Raises ValueError."""
        pairs = [part.split(":") for part in text.split()]
        return cls(tuple(Begun(int(generation), int(start)) for generation, start in pairs))


@dataclass(frozen=True, slots=True)
class Mark:
    """What somebody remembers of a partition: how many commits it had, the highest number given."""

    generations: Generations = field(default_factory=Generations)
    sequence: int = 0
    top: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """What only ever rises, unless data is lost."""
        return self.generations.current, self.sequence


def newest(*marks: Mark | None) -> Mark | None:
    """The latest of what several remember, with the highest number that any of them knows."""
    known = [mark for mark in marks if mark is not None]
    if not known:
        return None
    latest = max(known, key=lambda mark: mark.order)
    return Mark(latest.generations, latest.sequence, max(mark.top for mark in known))


class Verdict(StrEnum):
    """What is found in Redis, next to what is remembered."""

    #: All is there.
    KEPT = "kept"
    #: All but how many commits it has had, which somebody remembers: its lease is gone.
    FORGOTTEN = "forgotten"
    #: A partition that nobody has owned yet, or only an earlier release has.
    FRESH = "fresh"
    #: Less than there was.
    LOST = "lost"
    #: Nothing, and nobody can be asked whether there was anything.
    UNSURE = "unsure"


def judge(found: Mark, known: Mark | None, *, asked: bool, ahead: bool) -> Verdict:
    """Whether Redis has lost data of a partition.

    ``known``: what is remembered of it; ``asked``: the event log's memory is in that; ``ahead``:
    the event log has a number of one of its contexts that is above what Redis has. ``found.top``
    is Redis's own highest number: above 0 where an earlier release has worked.
    """
    bare = not found.sequence and not found.generations.begun
    if bare and asked and not ahead and known is not None and 0 < known.top <= found.top:
        # what is gone with the feeds is gone from their numbers too
        return Verdict.FORGOTTEN
    if known is not None and known.order > found.order and (known.sequence or known.top):
        return Verdict.LOST
    if found.generations.begun:
        return Verdict.KEPT
    if ahead:
        return Verdict.LOST
    return Verdict.FRESH if asked or found.sequence or found.top else Verdict.UNSURE


def begin(
    verdict: Verdict,
    found: Generations,
    known: Mark | None,
    *,
    now_ms: int,
    top: int,
    certain: bool,
) -> Generations:
    """The generations of a partition that has to begin one.

    ``top``: the highest number that anybody remembers; ``certain``: none above it (and a few
    seconds) was given. Where that is not known the numbers go on at the time in ms: no context has
    had more than a thousand a second since 1970.
    """
    before = known.generations if known and known.generations.current > found.current else found
    generation = max(now_ms, before.current + 1)
    if verdict is Verdict.FRESH:
        return before.then(generation, 1)
    start = max(top + MARGIN, before.start) + 1
    return before.then(generation, start if certain else max(start, now_ms))
