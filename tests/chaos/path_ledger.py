"""The ledger of a move: what was accepted, which path worked on it when, and whether that agrees.

Both paths write to it outside of the system: old workers when they begin and end an event, clients
of contexts each frame. When an update was written into its feed is the event log's to say: a frame
comes later than that, and later still while a client is cut off.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

__all__ = ["PathFigures", "PathLedger", "Work"]

OLD: Final = "old"
OURS: Final = "ours"
#: The event log has milliseconds, cut off.
TOLERANCE_SECONDS: Final = 0.0015
EXAMPLES: Final = 12


@dataclass(frozen=True, slots=True)
class Work:
    """An event that was worked on. ``at``: its place among all of its path (of its context).

    ``begun``, ``ended``: Unix seconds; the same for what was delivered.
    """

    path: Literal["old", "ours"]
    tool: str
    key: str
    n: int
    begun: float
    ended: float
    at: int


@dataclass(slots=True)
class PathFigures:
    """What a run comes to. ``lost``, ``doubled``, ``out_of_order`` and ``gaps`` have to be 0."""

    accepted: int = 0
    by_path: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    #: by which paths: "old old", "old ours", "ours ours"
    doubled: Counter[str] = field(default_factory=Counter)
    out_of_order: int = 0
    gaps: int = 0
    #: neighbours of a key of which one path had the first one and the other the second
    changes: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """How many promises were broken."""
        return self.lost + self.doubled.total() + self.out_of_order + self.gaps

    def wrong(self, text: str) -> None:
        """Keep an example for people."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


class PathLedger:
    """``ordered``: the tools whose keys keep their order."""

    def __init__(self, ordered: Iterable[str]) -> None:
        self.ordered = frozenset(ordered)
        #: (tool, key) → its numbers, in the order in which they were accepted
        self.accepted: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.count = 0

    def accept(self, tool: str, key: str, n: int) -> None:
        """A sender was told 202, or the source queue took it."""
        self.accepted[tool, key].append(n)
        self.count += 1

    def check(self, works: Iterable[Work], seqs: Iterable[Iterable[int]] = ()) -> PathFigures:
        """Compare. ``seqs``: of each context the numbers of its frames, each once."""
        found = PathFigures(self.count)
        by_event: dict[tuple[str, str, int], list[Work]] = defaultdict(list)
        for work in works:
            found.by_path[work.path] += 1
            by_event[work.tool, work.key, work.n].append(work)
        for (tool, key), numbers in self.accepted.items():
            done = []
            for n in numbers:
                had = by_event.get((tool, key, n), [])
                if not had:
                    found.lost += 1
                    found.wrong(f"lost: {tool} {key} n{n}")
                    continue
                if len(had) > 1:
                    found.doubled[" ".join(sorted(work.path for work in had[:2]))] += len(had) - 1
                    found.wrong(f"doubled: {had}")
                done.append(had[0])
            if tool in self.ordered:
                self._check_order(done, found)
            found.changes += sum(a.path != b.path for a, b in pairwise(done))
        for numbers_of in seqs:
            found.gaps += sum(seq != at for at, seq in enumerate(sorted(numbers_of), 1))
        return found

    def _check_order(self, done: Iterable[Work], found: PathFigures) -> None:
        for before, after in pairwise(done):
            if before.path == after.path == OURS:
                right = before.at < after.at
            else:
                right = before.ended <= after.begun + TOLERANCE_SECONDS
            if not right:
                found.out_of_order += 1
                found.wrong(f"out of order: {before} and {after}")
