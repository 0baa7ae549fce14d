"""What goes, what waits and what is taken along, by a plain model of one partition's streams.

The rules are real, Redis is a dictionary. What hypothesis drives is what comes, when streams are
read and committed, and where workers die in between.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from hookstream.app.feeds import inheritance as inheritance_module
from hookstream.app.feeds.deferral import DeferredPart, Sorted, sort_by_urgency
from hookstream.app.feeds.inheritance import still_wait, taken_of
from hookstream.app.feeds.priority_queues import MAX_ALONG, Sorter
from hookstream.app.feeds.state import FeedState
from hookstream.app.feeds.waiting import Deferred, Keys
from hookstream.app.priority import DEFERRABLE, channel_name, rank
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.partition import Partition
from hookstream.codecs.routed import Finished, Routed, Target
from tests.support.examples import examples

#: Contexts, and the priorities of what they subscribe to: "c" has one alone.
CONTEXTS = {"a": ("critical", "low"), "b": ("critical", "normal", "low"), "c": ("low",)}
CATALOG = Catalog(
    1,
    priorities={("t", name): frozenset(priorities) for name, priorities in CONTEXTS.items()},
    most_urgent="critical",
)
#: What something is about, by context: pairs that have an order of their own.
Things = set[tuple[str, str]]


@dataclass
class Stored:
    """An entry of a stream of deferred updates."""

    at: int
    entry: Entry
    targets: list[Target]
    names: dict[str, Keys]

    @property
    def number(self) -> int:
        return int(self.entry.value.event.event_id)

    @property
    def things(self) -> Things:
        return things_of(self.entry, self.targets)


def things_of(entry: Entry, targets: Iterable[Target]) -> Things:
    return {(target.context_id, key) for target in targets for key in entry.value.event.keys}


@dataclass
class Owner:
    """What one owner of the partition knows, and has read."""

    partition: Partition = field(default_factory=lambda: Partition(0, 1, "n"))
    in_hand: dict[str, list[Stored]] = field(default_factory=dict)

    @property
    def deferred(self) -> dict[str, Deferred]:
        return self.partition[FeedState].deferred


def event(number: int, things: Sequence[str], targets: Mapping[str, str]) -> Entry:
    finished = Finished(str(number), "t", "tool", "type", "", 0, tuple(things), (b"{}",))
    to = tuple(Target(name, priority, "s") for name, priority in targets.items())
    return Entry(f"{number}-0", b"", Routed(0, f"{number}-0", "0-0", finished, to))


COMES = st.lists(
    st.tuples(
        st.lists(st.sampled_from("123"), max_size=2, unique=True),
        st.fixed_dictionaries(
            {},
            optional={name: st.sampled_from(priorities) for name, priorities in CONTEXTS.items()},
        ).filter(bool),
    ),
    min_size=1,
    max_size=5,
)
STREAM = st.sampled_from(DEFERRABLE)


class Feeds(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        #: Deferred streams as Redis has them, what of them was read last, what was delivered.
        self.streams: dict[str, list[Stored]] = {stream: [] for stream in DEFERRABLE}
        self.read_to = dict.fromkeys(DEFERRABLE, 0)
        self.updates: deque[Entry] = deque()
        self.feeds: dict[str, list[int]] = {name: [] for name in CONTEXTS}
        self.about: dict[int, Sequence[str]] = {}
        self.wanted: dict[str, list[int]] = {name: [] for name in CONTEXTS}
        self.count = self.places = 0
        self._begin()

    def _begin(self) -> None:
        """A new owner: all that it knows of is in Redis."""
        self.owner = Owner()
        state = FeedState()
        self.owner.partition.add(state)
        for stream, stored in self.streams.items():
            for each in stored:
                state.deferred[stream].add(f"{each.at}-0", each.names)

    @rule(events=COMES)
    def comes(self, events: list[tuple[list[str], dict[str, str]]]) -> None:
        for things, targets in events:
            self.count += 1
            self.about[self.count] = things
            self.updates.append(event(self.count, things, targets))
            for name in targets:
                self.wanted[name].append(self.count)

    @rule(stream=STREAM, count=st.integers(1, 4))
    def reads(self, stream: str, count: int) -> None:
        """Some of a stream is in its reader's hands, and may be there for long."""
        if self.owner.in_hand.get(stream):
            return
        fresh = [each for each in self.streams[stream] if each.at > self.read_to[stream]][:count]
        if fresh:
            self.read_to[stream] = fresh[-1].at
            self.owner.in_hand[stream] = fresh

    @rule(stream=STREAM)
    def commits(self, stream: str) -> None:
        """What is in the hands of a stream's reader goes, or joins a more urgent one."""
        batch = self.owner.in_hand.pop(stream, None)
        if not batch:
            return
        deferred = self.owner.deferred
        entries = [
            Entry(
                f"{each.at}-0", b"", Routed(0, "", "0-0", each.entry.value.event, (*each.targets,))
            )
            for each in batch
        ]
        read = Batch(channel_name(stream), self.owner.partition, entries, lambda *_: None)
        gone = taken_of(read, stream)
        entries = [entry for entry in entries if entry.entry_id not in gone]
        found = sort_by_urgency(entries, Sorter(deferred, stream, most_urgent=None), CATALOG)
        assert not found.along
        self._write(found)
        last = batch[-1].at
        self.streams[stream] = [each for each in self.streams[stream] if each.at > last]
        deferred[stream].delivered(f"{last}-0")

    @rule(
        count=st.integers(1, 6),
        pressed=st.booleans(),
        meanwhile=st.none() | STREAM,
        dies=st.booleans(),
    )
    def delivers(self, count: int, pressed: bool, meanwhile: str | None, dies: bool) -> None:
        """A batch of updates; before its commit a batch of a stream is committed, or all die."""
        entries = [self.updates[at] for at in range(min(count, len(self.updates)))]
        found = self._sort(entries, pressed)
        if dies:
            for entry in entries:
                entry.sent = True
            self.dies()
            return
        if meanwhile:
            self.commits(meanwhile)
        if not still_wait(self.owner.deferred, found.along):
            assert meanwhile
            found = self._sort(entries, pressed)
        self._write(found)
        for stream, waiting in found.along.items():
            gone = {each.at[0] for each in waiting}
            self.streams[stream] = [e for e in self.streams[stream] if e.at not in gone]
            self.owner.deferred[stream].take(waiting)
        for _ in entries:
            self.updates.popleft()

    @rule()
    def dies(self) -> None:
        for stream, batch in self.owner.in_hand.items():
            # what was read is pending, and is read first by whoever comes next
            self.read_to[stream] = min(self.read_to[stream], batch[0].at - 1)
        self._begin()

    def _sort(self, entries: Sequence[Entry], pressed: bool) -> Sorted:
        sorter = Sorter(self.owner.deferred, None, most_urgent=0 if pressed else None, inherits=0)
        found = sort_by_urgency(entries, sorter, CATALOG)
        self._check_nobody_waits_without_need(found)
        self._check_nothing_goes_without_need(found)
        return found

    def _waiting(self) -> list[tuple[str, int, Things]]:
        """What waits: stream, number, things."""
        return [
            (stream, each.number, each.things)
            for stream, stored in self.streams.items()
            for each in stored
        ]

    def _check_nobody_waits_without_need(self, found: Sorted) -> None:
        """Something critical waits only where two streams would have a part in it."""
        parts = [
            (part.priority, int(part.entry.value.event.event_id), target, part.entry)
            for part in found.later
            for target in part.targets
        ]
        aside = [
            (stream, number, things_of(entry, [target])) for stream, number, target, entry in parts
        ]
        for _, number, target, entry in parts:
            if target.priority != "critical" or entry.sent:
                continue
            before = [each for each in aside if each[1] < number]
            waiting = [*self._waiting(), *before]
            behind = closure(waiting, number, things_of(entry, [target]))
            unknown = self._unknown(found.later) & {
                name for _, _, things in behind for name, _ in things
            }
            # streams do not say which of two entries in different ones came first
            streams = {
                each[0] for each in waiting for one in behind if each == one or each[2] & one[2]
            }
            few = len(waiting) + len(parts) <= MAX_ALONG
            assert len(streams) > 1 or unknown or not few, "it waits for nothing of its own"

    def _unknown(self, parts: Iterable[DeferredPart]) -> set[str]:
        """Contexts of which something waits that may be about anything."""
        names = [each.names for stored in self.streams.values() for each in stored]
        names += [part.names for part in parts]
        return {
            name.removeprefix("t/") for each in names for name, keys in each.items() if keys is None
        }

    def _check_nothing_goes_without_need(self, found: Sorted) -> None:
        """What is taken along goes before something critical that it shares a thing with."""
        along = {
            (stream, each.at[0]) for stream, waiting in found.along.items() for each in waiting
        }
        taken = [
            each
            for stream, stored in self.streams.items()
            for each in stored
            if (stream, each.at) in along
        ]
        assert len(taken) == len(along)
        needed: set[int] = set()
        for entry, targets in found.now:
            urgent = [target for target in targets if target.priority == "critical"]
            now = [
                ("now", int(other.value.event.event_id), things_of(other, others))
                for other, others in found.now
            ]
            number = int(entry.value.event.event_id)
            behind = closure([*self._waiting(), *now], number, things_of(entry, urgent))
            needed |= {each[1] for each in behind}
        assert {each.number for each in taken} <= needed

    def _write(self, found: Sorted) -> None:
        """As a commit does: what goes along first, then the rest of it."""
        for stream, waiting in found.along.items():
            places = {each.at: each for each in self.streams[stream]}
            for each in waiting:
                stored = places[each.at[0]]
                self._deliver(stored.entry, stored.targets)
        for entry, targets in found.now:
            self._deliver(entry, targets)
        for part in found.later:
            self.places += 1
            self.streams[part.priority].append(
                Stored(self.places, part.entry, list(part.targets), dict(part.names))
            )
            self.owner.deferred[part.priority].add(f"{self.places}-0", part.names)

    def _deliver(self, entry: Entry, targets: Iterable[Target]) -> None:
        for target in targets:
            self.feeds[target.context_id].append(int(entry.value.event.event_id))

    def teardown(self) -> None:
        while self.updates:
            self.delivers(count=6, pressed=False, meanwhile=None, dies=False)
        for _ in range(1000):
            if not any(self.streams.values()):
                break
            for stream in sorted(DEFERRABLE, key=rank, reverse=True):
                self.reads(stream, 4)
                self.commits(stream)
        else:
            raise AssertionError("it never comes to an end")
        for name, came in self.feeds.items():
            assert sorted(came) == self.wanted[name], "every update once"
            for key in "123":
                about = [number for number in came if key in self.about[number]]
                assert about == sorted(about), "each thing in order"
        for deferred in self.owner.deferred.values():
            assert deferred.empty


def closure(
    waiting: Sequence[tuple[str, int, Things]], number: int, things: Things
) -> list[tuple[str, int, Things]]:
    """Of what waits what has to go before ``number``, which is about ``things``."""
    found: list[tuple[str, int, Things]] = []
    todo = [(number, things)]
    while todo:
        before, about = todo.pop()
        for each in waiting:
            if each not in found and each[1] < before and each[2] & about:
                found.append(each)
                todo.append((each[1], each[2]))
    return found


def test_each_thing_in_order_each_update_once_and_nobody_waits_without_need() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Feeds, settings=examples(400, stateful_step_count=30, deadline=None)
    )


def taken_while_it_is_in_hand(model: Feeds) -> None:
    """Its stream's reader has it, and comes to its commit later."""
    model.comes([(["1"], {"a": "low"}), (["2"], {"a": "low"})])
    model.delivers(count=2, pressed=True, meanwhile=None, dies=False)
    model.reads("low", 2)
    model.comes([(["2"], {"a": "critical"})])
    model.delivers(count=1, pressed=True, meanwhile=None, dies=False)
    assert model.feeds["a"] == [2, 3]
    model.commits("low")
    model.teardown()


def test_what_was_taken_along_is_passed_over_by_whoever_has_it_in_hand() -> None:
    taken_while_it_is_in_hand(Feeds())


def test_without_that_it_would_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What proves that the model can fail."""
    monkeypatch.setattr(inheritance_module, "entry_order", lambda _: (0, 0))
    with pytest.raises(AssertionError, match="every update once"):
        taken_while_it_is_in_hand(Feeds())
