"""The ledger of a mixed load: many tools and contexts, what was promised of each, and what came.

Kept outside of the system. Every event says in its title which it is ("lanes n17"; "acme/lanes n17"
of the second tenant: tools and contexts are called by their full ids), so what a client sees needs
no look-up.
"""

import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.chaos.ledger import Figures
from tests.chaos.tenants import own, tenant_of

__all__ = ["Broken", "MixedLedger", "Source", "View"]

TITLE = re.compile(r"((?:[a-z]+/)?[a-z-]+) n(\d+)")
#: How many of one kind of broken promise are kept as examples.
EXAMPLES = 12


@dataclass(frozen=True, slots=True)
class Source:
    """A tool, and what is promised of its events.

    ``exact``: copies are recognised whatever happens, so each number has one effect; else each
    event id has one, and only copies may be more. ``keys``: number of ordering keys; 0: no order.
    """

    name: str
    tool: dict[str, Any]
    exact: bool = True
    keys: int = 1
    copies: float = 0.0
    poison: float = 0.0
    large: float = 0.0
    share: float = 1.0

    @property
    def holds(self) -> bool:
        """Whether what is behind a failed event waits for it."""
        return self.tool.get("ordering", {}).get("on_error") == "hold"

    def lane(self, number: int) -> tuple[str, int]:
        """The ordering key that a number belongs to."""
        return self.name, number % max(1, self.keys)


@dataclass(slots=True)
class View:
    """What one client has seen of a context."""

    context: str
    sources: frozenset[str]
    #: What has a low priority may be behind for as long as it moves.
    patient: bool = False
    #: seq → (event id, tool, number, replay id) of what it stands for, in its order
    frames: dict[int, list[tuple[str, str, int, str]]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    #: seq → the generation that it was shown with
    generations: dict[int, int] = field(default_factory=dict)
    last: int = 0
    #: frames that bore a number which something else had
    renumbered: list[str] = field(default_factory=list)
    shown_again: int = 0
    #: lane → when something new of it was last seen, and when the newest such was accepted
    progress: dict[tuple[str, int], float] = field(default_factory=dict)
    newest: dict[tuple[str, int], float] = field(default_factory=dict)
    seen: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    #: lane → how many of its numbers, in the order of acceptance, have been seen without a gap
    _low: Counter[tuple[str, int]] = field(default_factory=Counter)

    def waits_since(
        self, lane: tuple[str, int], accepted: list[tuple[int, float]], excused: set[int]
    ) -> float | None:
        """When the oldest event of a lane that was not seen yet was accepted."""
        at = self._low[lane]
        seen = self.seen[lane[0]]
        while at < len(accepted) and (accepted[at][0] in seen):
            at += 1
        self._low[lane] = at
        while at < len(accepted) and (accepted[at][0] in seen or accepted[at][0] in excused):
            at += 1
        return accepted[at][1] if at < len(accepted) else None


@dataclass(slots=True)
class Broken:
    """Promises that were broken, with examples for people."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, example: str) -> None:
        self.counts[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(example)

    def figures(self, sent: int, refused: int) -> Figures:
        """In the columns of the table."""
        c = self.counts
        return Figures(
            sent,
            refused,
            c["lost"] + c["unrecorded"] + c["unsettled"],
            c["doubled"] + c["renumbered"],
            c["out of order"],
            c["gaps"],
            c["foreign"],
        )


class MixedLedger:
    """What senders were told, what clients saw, and whether the two agree."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = {source.name: source for source in sources}
        #: tool → number → the event ids it got with a 202
        self.accepted: dict[str, dict[int, list[str]]] = {name: {} for name in self.sources}
        self.lanes: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
        #: tool → number → when it got its first 202
        self._at: dict[str, dict[int, float]] = {name: {} for name in self.sources}
        self.views: dict[str, View] = {}
        self.refused = self.unknown = self.copies = self.posts = 0
        #: tool → numbers whose stage fails until they are healed; all that ever were
        self.failing: dict[str, set[int]] = {name: set() for name in self.sources}
        self.poisoned: dict[str, set[int]] = {name: set() for name in self.sources}
        self.healed_at: dict[str, float] = defaultdict(float)
        #: replay id, with its tenant as a full id → how many events it sends, once that is known
        self.replays: dict[str, int] = {}

    @property
    def sent(self) -> int:
        """True events that were accepted."""
        return sum(len(numbers) for numbers in self.accepted.values())

    def accept(self, tool: str, number: int, event_id: str) -> None:
        """A sender was told 202."""
        ids = self.accepted[tool].setdefault(number, [])
        if not ids:
            self._at[tool][number] = time.monotonic()
            self.lanes[self.sources[tool].lane(number)].append((number, time.monotonic()))
        ids.append(event_id)

    def frame(
        self, context: str, update: dict[str, Any], inside: list[dict[str, Any]] | None = None
    ) -> None:
        """A client saw an update; ``inside``: what a digest stands for."""
        view = self.views[context]
        seq = int(update["seq"])
        kind = str(update.get("kind", "update"))
        shown = [
            (str(one.get("event_id") or ""), *title_of(one), str(one.get("replay_id") or ""))
            for one in ([update] if inside is None else inside)
        ]
        old = view.frames.get(seq)
        if old is not None:
            if old == shown:
                view.shown_again += 1
            else:
                view.renumbered.append(f"{context} #{seq}: {old[:2]} and then {shown[:2]}")
        view.frames[seq] = shown
        view.generations[seq] = int(update.get("generation", 0))
        view.kinds[kind] += 1
        view.last = max(view.last, seq)
        now = time.monotonic()
        if kind == "daily":
            return
        for _, tool, number, replay in shown:
            if tool not in self.sources or replay:
                continue
            lane = self.sources[tool].lane(number)
            view.progress[lane] = now
            view.seen[tool].add(number)
            # its 202 may not have come yet
            accepted = self._at[tool].get(number, now)
            view.newest[lane] = max(view.newest.get(lane, 0.0), accepted)

    def excused(self, tool: str) -> set[int]:
        """Numbers that nobody can have seen yet: they fail, or wait for one that does."""
        failing = self.failing[tool]
        if not failing or not self.sources[tool].holds:
            return failing
        behind: set[int] = set()
        for lane, numbers in self.lanes.items():
            first = min((n for n in failing if self.sources[tool].lane(n) == lane), default=None)
            if lane[0] == tool and first is not None:
                behind.update(number for number, _ in numbers if number >= first)
        return behind

    def missing(self) -> int:
        """How many updates are still to come, over all clients."""
        return sum(
            len(self.accepted[tool].keys() - view.seen[tool])
            for view in self.views.values()
            for tool in view.sources
        )

    def check(self, recorded: dict[str, tuple[str, str]]) -> Broken:
        """Compare. ``recorded``: event id → (status, duplicate of), as the system has it."""
        broken = Broken()
        for tool, numbers in self.accepted.items():
            for number, ids in numbers.items():
                for event_id in ids:
                    status, _ = recorded.get(event_id, ("", ""))
                    what = f"{tool} n{number} {event_id}: {status or 'no record'}"
                    if not status:
                        broken.add("unrecorded", what)
                    elif status == "retrying":
                        broken.add("unsettled", what)
        sent_by = {
            event_id: tool
            for tool, numbers in self.accepted.items()
            for ids in numbers.values()
            for event_id in ids
        }
        for view in self.views.values():
            self._check_tenant(view, sent_by, broken)
            self._check_numbers(view, broken)
            for tool in sorted(view.sources):
                self._check_tool(view, self.sources[tool], recorded, broken)
            if own(view.context) == "replayed":
                self._check_replays(view, broken)
        return broken

    def _check_tenant(self, view: View, sent_by: dict[str, str], broken: Broken) -> None:
        """Nothing of another tenant's events, whether they are told by title or by id."""
        mine = tenant_of(view.context)
        for seq, shown in view.frames.items():
            for event_id, tool, number, _ in shown:
                sender = sent_by.get(event_id, "")
                if any(name and tenant_of(name) != mine for name in (tool, sender)):
                    what = f"{tool} n{number} {event_id} of {sender or 'nobody known'}"
                    broken.add("foreign", f"{view.context}: #{seq} is {what}")

    def _check_numbers(self, view: View, broken: Broken) -> None:
        for example in view.renumbered:
            broken.add("renumbered", example)
        expected, before = 1, 0
        for seq in sorted(view.frames):
            generation = view.generations[seq]
            if seq != expected and not 0 < before < generation:
                broken.add("gaps", f"{view.context}: #{seq} where #{expected} is due")
            expected, before = seq + 1, generation

    def _check_tool(
        self, view: View, source: Source, recorded: dict[str, tuple[str, str]], broken: Broken
    ) -> None:
        accepted = self.accepted[source.name]
        shown = [
            (seq, event_id, number)
            for seq in sorted(view.frames)
            for event_id, tool, number, replay in view.frames[seq]
            if tool == source.name and not replay
        ]
        self._check_once(view, source, shown, broken)
        ids = {event_id for _, event_id, _ in shown}
        numbers = {number for _, _, number in shown}
        for number, given in accepted.items():
            if source.exact:
                lost = [] if number in numbers else given[:1]
            else:
                lost = [
                    event_id
                    for event_id in given
                    if event_id not in ids
                    and not (recorded.get(event_id, ("",))[0] == "duplicate" and number in numbers)
                ]
            for event_id in lost:
                status, of = recorded.get(event_id, ("no record", ""))
                broken.add(
                    "lost", f"{view.context}: {source.name} n{number} {event_id} {status} {of}"
                )
        if source.keys:
            self._check_order(view, source, shown, broken)

    def _check_once(
        self, view: View, source: Source, shown: list[tuple[int, str, int]], broken: Broken
    ) -> None:
        first: dict[object, tuple[int, str]] = {}
        for seq, event_id, number in shown:
            key: object = number if source.exact else event_id
            if key in first:
                was = first[key]
                broken.add(
                    "doubled",
                    f"{view.context}: {source.name} n{number} as #{was[0]} {was[1]} "
                    f"and #{seq} {event_id}",
                )
            else:
                first[key] = (seq, event_id)

    def _check_order(
        self, view: View, source: Source, shown: list[tuple[int, str, int]], broken: Broken
    ) -> None:
        late = set() if source.holds else self.poisoned[source.name]
        # an attempt whose answer was lost may come whenever it is carried out
        known = {event_id for ids in self.accepted[source.name].values() for event_id in ids}
        by_lane: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        for seq, event_id, number in shown:
            if number not in late and (source.exact or event_id in known):
                by_lane[source.lane(number)].append((seq, number))
        for lane in by_lane.values():
            for (seq, before), (after_seq, after) in pairwise(lane):
                if after < before:
                    broken.add(
                        "out of order",
                        f"{view.context}: {source.name} n{before} #{seq}, n{after} #{after_seq}",
                    )

    def _check_replays(self, view: View, broken: Broken) -> None:
        tenant, where = tenant_of(view.context), view.context
        counts: Counter[tuple[str, str]] = Counter()
        for shown in view.frames.values():
            counts.update((replay, event_id) for event_id, _, _, replay in shown)
        for (replay, event_id), count in counts.items():
            if count > 1:
                broken.add("doubled", f"{where}: {event_id} {count} times by replay {replay}")
        per_replay = Counter(replay for replay, _ in counts)
        for name, wanted in self.replays.items():
            found = per_replay[own(name)]
            if tenant_of(name) == tenant and found < wanted:
                broken.add("lost", f"{where}: {found} of {wanted} by replay {name}")


def title_of(update: dict[str, Any]) -> tuple[str, int]:
    """Which event an update is about, by its title; ("", -1) for one that is none of ours."""
    found = TITLE.fullmatch(str((update.get("data") or {}).get("title", "")))
    return (found[1], int(found[2])) if found else ("", -1)
