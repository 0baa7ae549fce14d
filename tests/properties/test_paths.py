"""A tool's modes, changed at any time: each event works once, in one path, in its key's order.

The model has what surrounds the rule: a stream that one owner reads, a queue by groups that old
workers take from when they like, updates that are delivered when they are, lists of what waits.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookstream.app.routing import paths
from hookstream.app.routing.paths import MODES, OLD, OURS, KeyState, Migration, Step, key_name, step

KEYS = {name: key_name([name]) for name in "abc"}

event = st.tuples(st.just("event"), st.sampled_from("abc"))
shift = st.tuples(st.just("shift"), st.tuples(st.sampled_from(MODES), st.integers(0, 100)))
steps = st.lists(
    st.one_of(
        event,
        event,
        event,
        st.tuples(st.just("crash"), st.sampled_from("abc")),
        shift,
        st.tuples(st.sampled_from(["old", "deliver", "send", "keep", "release"]), st.none()),
    ),
    max_size=120,
)


class World:
    """All that works on one partition's events of one tool."""

    def __init__(self) -> None:
        self.migration = Migration("sqs")
        self.states: dict[str, KeyState] = {}
        #: By key what waits; a key that is there is blocked. Its holder: a mark, or "".
        self.lists: dict[str, deque[int]] = {}
        self.holders: dict[str, str] = {}
        #: Lines of the outbox, and what is in the queue, by group.
        self.outbox: deque[tuple[str, str, int]] = deque()
        self.queue: dict[str, deque[tuple[str, str, int]]] = defaultdict(deque)
        self.confirmed: set[str] = set()
        #: Updates that are on their way; those of a barrier that were when its turn came.
        self.updates: deque[tuple[str, int]] = deque()
        self.barrier: int | None = None
        #: What was done, in its order: path, key, event.
        self.done: list[tuple[str, str, int]] = []
        self.came: list[tuple[str, int]] = []
        self.marks = 0
        #: An event whose updates were sent by a worker that ended before it had committed it.
        self.pending: tuple[str, int] | None = None

    def event(self, name: str) -> None:
        self.again()
        number = len(self.came)
        self.came.append((name, number))
        self.take(name, number, released=False)

    def crash(self, name: str) -> None:
        """An event comes, and a worker ends between sending its updates and the commit."""
        self.again()
        number = len(self.came)
        self.came.append((name, number))
        found = self.decided(name, released=False, sent=False)
        if found.path == OURS and not found.waits:
            self.updates.append((name, number))
        self.pending = (name, number)

    def again(self, _: object = None) -> None:
        """What was not committed comes again, before all else."""
        if self.pending is not None:
            name, number = self.pending
            self.pending = None
            self.take(name, number, released=False, sent=True)

    def decided(self, name: str, *, released: bool, sent: bool) -> Step:
        return step(
            self.states.get(name, KeyState()),
            self.migration.wanted(KEYS[name]),
            waiting=name in self.lists,
            released=released,
            sent=sent,
            new_mark=f"m{self.marks}",
        )

    def take(self, name: str, number: int, *, released: bool, sent: bool = False) -> None:
        self.marks += 1
        mark = f"m{self.marks}"
        found = self.decided(name, released=released, sent=sent)
        self.states[name] = found.key
        if found.begins == "mark":
            self.holders[name] = mark
            self.lists[name] = deque()
            self.outbox.append(("mark", name, self.marks))
        if found.begins == "barrier":
            self.outbox.append(("barrier", name, -1))
        if found.waits:
            self.lists[name].append(number)
        elif found.path == OLD:
            self.outbox.append(("work", name, number))
        elif (name, number) not in self.updates and (OURS, name, number) not in self.done:
            # what was sent before has the same source position, and is not delivered twice
            self.updates.append((name, number))

    def shift(self, to: tuple[str, int]) -> None:
        self.migration = Migration(*to)

    def send(self, _: object = None) -> None:
        """The sender sends what is next, unless that is a barrier with updates before it."""
        if not self.outbox:
            return
        kind, name, number = self.outbox[0]
        if kind == "barrier":
            if self.barrier is None:
                self.barrier = len(self.updates)
            if self.barrier:
                return
            self.barrier = None
        else:
            self.queue[name].append((kind, name, number))
        self.outbox.popleft()

    def old(self, _: object = None) -> None:
        """An old worker takes the next message of some group, and is through with it."""
        for group in sorted(self.queue, key=lambda name: len(self.queue[name]), reverse=True):
            if self.queue[group]:
                kind, name, number = self.queue[group].popleft()
                if kind == "mark":
                    self.confirmed.add(f"m{number}")
                else:
                    self.done.append((OLD, name, number))
                return

    def deliver(self, _: object = None) -> None:
        if self.updates:
            self.done.append((OURS, *self.updates.popleft()))
            if self.barrier:
                self.barrier -= 1

    def keep(self, _: object = None) -> None:
        """What looks after blocked keys: confirms, cancels, forgets."""
        for name, holder in list(self.holders.items()):
            if not holder:
                if not self.lists[name]:
                    del self.holders[name], self.lists[name]
            elif self.migration.wanted(KEYS[name]) == OLD:
                self.states[name], self.holders[name] = KeyState(), ""
            elif holder in self.confirmed:
                self.states[name], self.holders[name] = KeyState(OURS), ""

    def release(self, _: object = None) -> None:
        for name, holder in list(self.holders.items()):
            if not holder and self.lists[name]:
                self.take(name, self.lists[name].popleft(), released=True)
                return

    def drain(self) -> None:
        for _ in range(6 * len(self.came) + 60):
            for turn in (self.again, self.send, self.old, self.deliver, self.keep, self.release):
                turn()


def run(actions: Iterable[tuple[str, object]]) -> World:
    world = World()
    for action, what in actions:
        getattr(world, action)(what)
    world.drain()
    return world


def faults(world: World) -> list[str]:
    """What is wrong with what was done."""
    found = []
    if sorted(number for _, _, number in world.done) != [number for _, number in world.came]:
        found.append("lost, or done twice")
    for name in "abc":
        own = [number for _, key, number in world.done if key == name]
        if own != sorted(own):
            found.append(f"{name} out of order")
    return found


@given(steps)
@settings(max_examples=300)
def test_each_event_works_once_and_in_its_key_s_order(actions: list[tuple[str, object]]) -> None:
    assert faults(run(actions)) == []


@pytest.mark.parametrize("leave_out", ["mark", "barrier", "waiting", "sent"])
def test_the_model_notices_what_is_left_out(
    leave_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = step

    def wrong(key: KeyState, wanted: paths.Path, *, waiting: bool, sent: bool, **more: Any) -> Step:
        if leave_out == "waiting" and not more["released"] and not key.mark:
            waiting = False
        sent = sent and leave_out != "sent"
        right = rule(key, wanted, waiting=waiting, sent=sent, **more)
        if right.begins == leave_out:
            return Step(right.path, KeyState(right.path))
        return right

    monkeypatch.setitem(World.take.__globals__, "step", wrong)
    to_ours = [("event", "a"), ("shift", ("redis", 0)), ("event", "a"), ("deliver", None)]
    to_old = [
        *(("shift", ("redis", 0)), ("event", "a"), ("send", None), ("old", None), ("keep", None)),
        *(("release", None), ("keep", None), ("shift", ("sqs", 0)), ("event", "a")),
        *(("send", None), ("send", None), ("old", None)),
    ]
    overtakes = [
        *(("event", "a"), ("shift", ("redis", 0)), ("event", "a"), ("event", "a"), ("send", None)),
        *(("send", None), ("old", None), ("old", None), ("keep", None), ("event", "a")),
        *(("deliver", None), ("release", None)),
    ]
    twice = [*to_old[:7], ("crash", "a"), ("shift", ("sqs", 0)), ("event", "a")]
    tried = {"mark": to_ours, "barrier": to_old, "waiting": overtakes, "sent": twice}[leave_out]
    assert faults(run(tried)) != []


@given(st.text(), st.integers(0, 100), st.integers(0, 100))
def test_a_higher_percentage_takes_no_key_back(text: str, one: int, other: int) -> None:
    key = key_name([text])
    lower, higher = (Migration("split", percent) for percent in sorted((one, other)))
    assert lower.wanted(key) == OLD or higher.wanted(key) == OURS
    assert Migration("split", 0).wanted(key) == OLD
    assert Migration("split", 100).wanted(key) == OURS


def test_a_split_takes_about_its_share_of_keys() -> None:
    ours = [Migration("split", 10).wanted(key_name([str(n)])) for n in range(10_000)].count(OURS)
    assert 900 < ours < 1100


@pytest.mark.parametrize("state", [KeyState(), KeyState(OURS), KeyState(OURS, "mark")])
def test_a_key_s_state_reads_as_it_was_written(state: KeyState) -> None:
    text = state.encode()
    assert (KeyState.decode(text) if text else KeyState()) == state
