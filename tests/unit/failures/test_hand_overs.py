"""Which path the events of a batch work in, and what waits: the rule asked about real batches."""

import json
from dataclasses import replace
from typing import Any

import orjson

from hookstream.app.durations import HOUR_MS
from hookstream.app.failures import rules
from hookstream.app.failures.blocking import judge
from hookstream.app.failures.failed_events import is_first
from hookstream.app.failures.hand_overs import (
    OLD_PATH,
    PathState,
    decide_paths,
    holder_of,
    is_hand_over,
    settle_old,
    tools_in_doubt,
    write_paths,
)
from hookstream.app.failures.rules import BLOCKED, Candidate, Move
from hookstream.app.failures.state import FailureState
from hookstream.app.ids import DEFAULT_TENANT, partition_of_event
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.paths import OLD, OURS, KeyState, Migration, key_name
from hookstream.app.routing.queues import Queue, SqsTarget
from hookstream.app.settings import Settings
from hookstream.app.sqs.outbox import BARRIER, COPY, MARK, SHADOW, Line, write_outbox
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.event_log import audit
from hookstream.app.streams.outcome import ACCEPTED, Blocked, Dropped, Failed, Outcome
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event
from hookstream.codecs.routed import Target
from hookstream.proto.pipeline_pb2 import PathAudit

QUEUE = Queue("https://sqs.eu-west-1.amazonaws.com/1/q.fifo")
NOW = 1_764_000_000_000


def key(name: str) -> str:
    return key_name([DEFAULT_TENANT, "t", json.dumps(name)])


def catalog(mode: str, percent: int = 0, *, order_by: str = "field", **more: Any) -> Catalog:
    tool = Tool(
        *("t", DEFAULT_TENANT, "none", (), SignatureOptions(), "none", ()),
        *(0, order_by, "key" if order_by == "field" else ""),
        forward=SqsTarget(QUEUE, shadow=True),
        migration=Migration(mode, percent, 1),
        **more,
    )
    return Catalog(tools={"t": tool})


class Here:
    """A partition, and what commits have written there."""

    def __init__(self) -> None:
        self.partition = Partition(3, 1, "nonce")
        self.failures, self.paths = FailureState(), PathState()
        self.partition.add(self.failures)
        self.partition.add(self.paths)
        self.numbers = 0

    def batch(self, *names: str, **more: Any) -> Batch:
        entries = []
        for name in names:
            self.numbers += 1
            event = replace(
                make_event({"key": name, "n": self.numbers}),
                tool_id="t",
                message_id=f"t:x:{self.numbers}",
            )
            entries.append(Entry(f"{self.numbers}-0", b"", event, **more))
        return Batch("events", self.partition, entries, lambda *_: None)

    def commit(self, batch: Batch, known: Catalog) -> list[Line]:
        """What the stages from dedupe to commit do; the lines of the outbox."""
        settle_old(batch.entries, NOW)
        decision = judge(batch, Settings(), NOW, known)
        writes = Writes()
        write_paths(writes, batch, decision, NOW)
        self.failures.blocked.update(decision.blocked)
        write_outbox(writes, 3, batch.entries, known, modes=batch.modes, first=is_first)
        self.writes = writes.commands
        writes.follow(["1-0"] * 100)  # type: ignore[list-item]
        return [
            Line.decode(args[2])  # type: ignore[arg-type]
            for command, name, args in writes.commands
            if command == "XADD" and name == keys.outbox(3, "t")
        ]

    def step(self, known: Catalog, *names: str, **more: Any) -> tuple[Batch, list[Line]]:
        batch = self.batch(*names, **more)
        decide_paths(batch, known, NOW, 7)
        return batch, self.commit(batch, known)


def test_what_is_old_is_copied_and_nothing_else_becomes_of_it() -> None:
    here = Here()
    batch, lines = here.step(catalog("sqs"), "a", "b")
    assert [entry.outcome for entry in batch.entries] == [Dropped(OLD_PATH)] * 2
    assert [(line.name, line.kind) for line in lines] == [
        (entry.value.event_id, COPY) for entry in batch.entries
    ]
    assert here.paths.keys == {}


def test_in_shadow_it_goes_through_the_stages_and_what_goes_wrong_is_noted() -> None:
    here = Here()
    batch = here.batch("a", "b")
    decide_paths(batch, catalog("shadow"), NOW, 7)
    assert [entry.outcome for entry in batch.entries] == [ACCEPTED, ACCEPTED]
    batch.entries[1].outcome = Failed("render", "boom")
    here.commit(batch, catalog("shadow"))
    assert [entry.outcome for entry in batch.entries] == [
        Dropped(OLD_PATH),
        Dropped(f"{OLD_PATH}:render"),
    ]
    # it is not tried again, and blocks nobody
    assert here.failures.blocked == {}


def test_the_event_log_is_told_what_a_comparison_needs() -> None:
    def told(known: Catalog, *outcomes: Outcome, **more: Any) -> list[PathAudit]:
        here = Here()
        batch = here.batch(*"abc"[: len(outcomes)], **more)
        decide_paths(batch, known, NOW, 7)
        for entry, outcome in zip(batch.entries, outcomes, strict=True):
            entry.targets = (Target("agent", "normal", "s"),)
            if entry.outcome == ACCEPTED:
                entry.outcome = outcome
        here.commit(batch, known)
        found = audit(batch).events
        assert all(event.HasField("path") for event in found)
        errors.extend(event.error for event in found)
        return [event.path for event in found]

    errors: list[str] = []
    failed, dropped = Failed("render", "KeyError: x"), Dropped("quiet")
    decided, not_decided, quiet = told(catalog("shadow"), ACCEPTED, failed, dropped)
    assert decided == PathAudit(
        path=OLD, copied=True, key=key("a"), decided=True, contexts=["agent"], decided_at_ms=NOW
    )
    assert (not_decided.decided, list(not_decided.contexts)) == (False, [])
    assert (quiet.decided, quiet.dropped_by) == (True, "quiet")
    assert errors == ["", "KeyError: x", ""]
    # nothing is decided here; it is in order of nothing; it fails before it can be said for whom
    [only_old] = told(catalog("sqs"), ACCEPTED)
    assert (only_old.decided, only_old.copied, only_old.dropped_by) == (False, True, "")
    [unordered] = told(catalog("redis", order_by="none"), ACCEPTED)
    assert (unordered.path, unordered.copied, unordered.key) == (OURS, True, "")
    assert not told(catalog("only", order_by="none"), failed)[0].decided
    # what comes again has said before where it works
    [again] = told(catalog("shadow"), ACCEPTED, failed_event_id="x", attempts=1)
    assert (again.path, again.copied, again.decided) == (OURS, False, True)


def test_the_first_event_that_is_ours_is_behind_a_mark_and_others_of_its_key_behind_it() -> None:
    here = Here()
    batch, lines = here.step(catalog("redis"), "a", "b", "a")
    marks = [entry.mark for entry in batch.entries]
    assert [bool(mark) for mark in marks] == [True, True, False]
    assert [entry.outcome for entry in batch.entries] == [
        Blocked(BLOCKED, key(name)) for name in "aba"
    ]
    assert lines == [Line(marks[0], key("a"), MARK), Line(marks[1], key("b"), MARK)]
    assert {partition_of_event(mark) for mark in marks if mark} == {3}
    assert here.failures.blocked == {
        key("a"): holder_of(marks[0]),
        key("b"): holder_of(marks[1]),
    }
    assert all(map(is_hand_over, here.failures.blocked.values()))
    assert here.paths.keys[("t", key("a"))] == KeyState(OURS, marks[0])
    [record] = [
        orjson.loads(args[1])  # type: ignore[arg-type]
        for command, name, args in here.writes
        if name == keys.hand_overs(3) and args[0] == marks[0]
    ]
    assert record == {"tool_id": "t", "key": key("a"), "since_ms": NOW}


def test_what_has_waited_goes_the_way_that_its_key_has_come_to() -> None:
    for state, kind, outcome in (
        (KeyState(OURS), SHADOW, ACCEPTED),
        (KeyState(), COPY, Dropped(OLD_PATH)),
    ):
        here = Here()
        here.paths.change({("t", key("a")): state})
        here.failures.blocked[key("a")] = ""
        batch, lines = here.step(catalog("redis"), "a", failed_event_id="x", listed=key("a"))
        [entry] = batch.entries
        assert entry.outcome == outcome
        assert lines == [Line(entry.value.event_id, entry.entry_id, kind)]
        # what comes meanwhile waits behind it
        batch, lines = here.step(catalog("redis"), "a")
        assert (batch.entries[0].outcome, lines) == (Blocked(BLOCKED, key("a")), [])


def test_what_is_tried_again_is_ours_and_is_copied_no_second_time() -> None:
    here = Here()
    batch, lines = here.step(catalog("sqs"), "a", failed_event_id="x", attempts=1)
    assert (batch.entries[0].path, batch.entries[0].outcome) == ("", ACCEPTED)
    assert lines == []


def test_back_to_old_is_behind_a_barrier_and_in_only_nothing_is_copied() -> None:
    here = Here()
    here.paths.change({("t", key("a")): KeyState(OURS)})
    batch, lines = here.step(catalog("only"), "a")
    assert (batch.entries[0].outcome, lines) == (ACCEPTED, [])
    batch, lines = here.step(catalog("sqs"), "a", "a")
    assert [line.kind for line in lines] == [BARRIER, COPY, COPY]
    assert here.paths.keys == {}


def test_a_key_that_something_else_comes_to_block_stays_where_it_is() -> None:
    here = Here()
    known = catalog("redis", on_error="hold")
    # an earlier event of the key, which was ours, fails again in this batch
    batch = here.batch("a", "a")
    batch.entries[0].failed_event_id, batch.entries[0].attempts = "x", 1
    decide_paths(batch, known, NOW, 7)
    assert batch.entries[1].begins == "mark"
    batch.entries[0].outcome = Failed("render", "boom")
    lines = here.commit(batch, known)
    assert here.failures.blocked == {key("a"): "x"}
    assert (here.paths.keys, lines) == ({}, [])
    assert batch.entries[1].outcome == Blocked(BLOCKED, key("a"))


def test_without_an_order_events_go_by_themselves_and_nothing_waits() -> None:
    here = Here()
    known = catalog("split", 50, order_by="none")
    batch, lines = here.step(known, *"abcdefghijklmnop")
    paths = {entry.path for entry in batch.entries}
    assert paths == {OLD, OURS}
    assert {line.kind for line in lines} == {COPY, SHADOW}
    assert (here.paths.keys, here.failures.blocked) == ({}, {})


def test_what_has_waited_and_fails_leaves_its_list_where_its_tool_holds_nobody_back() -> None:
    candidate = Candidate("x", Failed("render", "boom"), again=True, key="k", listed="k", soft=True)
    for blocked, outcome in (({"k": ""}, Failed("render", "boom")), ({"k": ""}, Blocked("parked"))):
        decision = rules.decide(
            [replace(candidate, outcome=outcome)],
            blocked,
            {},
            max_attempts=5,
            new_breaker=lambda: None,  # type: ignore[arg-type,return-value]
            now_ms=NOW,
        )
        assert decision.moves == [Move("k", "x", into=False, first_only=True)]
        assert (decision.blocked, decision.outcomes) == ({}, [outcome])


def test_what_may_have_been_sent_from_here_stays_ours_and_its_key_moves_with_the_next() -> None:
    here = Here()
    here.paths.change({("t", key("a")): KeyState(OURS)})
    batch, lines = here.step(catalog("sqs"), "a", sent=True)
    assert (batch.entries[0].path, batch.entries[0].outcome) == (OURS, ACCEPTED)
    assert [line.kind for line in lines] == [SHADOW]
    batch, lines = here.step(catalog("sqs"), "a")
    assert [line.kind for line in lines] == [BARRIER, COPY]


def test_without_an_order_a_mode_that_is_over_may_have_sent_it() -> None:
    def path(entry_ms: int, *before: tuple[str, int, int]) -> str:
        here = Here()
        known = catalog("sqs", order_by="none")
        tool = replace(known.tools["t"], migration=Migration("sqs", before=before))
        batch = here.batch("a", sent=True)
        batch.entries[0].entry_id = f"{entry_ms}-0"
        decide_paths(batch, replace(known, tools={"t": tool}), NOW, 7)
        return batch.entries[0].path

    assert path(NOW) == OLD
    assert path(NOW, ("shadow", 0, NOW)) == OLD
    assert path(NOW, ("redis", 0, NOW + 1)) == OURS
    # it goes by a worker's catalog, which may be an older one, and not by clocks
    assert path(NOW, ("redis", 0, NOW - 60_000)) == OURS
    assert path(NOW, ("redis", 0, NOW - 2 * HOUR_MS)) == OLD
    assert path(NOW, ("split", 0, NOW)) == OLD
    assert path(NOW, ("split", 100, NOW)) == OURS


def test_modes_that_are_over_are_read_from_a_tool_s_history() -> None:
    history = [
        {"mode": "sqs", "percent": 0, "at": "2026-12-01T00:00:00.000+00:00"},
        {"mode": "split", "percent": 5, "at": "2026-12-01T01:00:00.000+00:00"},
        {"mode": "sqs", "percent": 0, "at": "2026-12-01T02:00:00.000+00:00"},
    ]
    found = Migration.from_dict({"mode": "sqs", "generation": 3, "history": history})
    begun = 1_796_083_200_000
    assert found.before == (("sqs", 0, begun + HOUR_MS), ("split", 5, begun + 2 * HOUR_MS))
    # a copy of an older release
    assert Migration.from_dict({"mode": "sqs"}).before == ()


def test_what_was_decided_without_a_mode_is_copied_whatever_has_been_heard_since() -> None:
    here = Here()
    with_mode = catalog("sqs")
    without = replace(with_mode, tools={"t": replace(with_mode.tools["t"], migration=None)})
    batch = here.batch("a")
    decide_paths(batch, without, NOW, 7)
    assert batch.entries[0].outcome == ACCEPTED
    assert [line.kind for line in here.commit(batch, with_mode)] == [COPY]


def test_tools_that_may_move_by_now_are_those_with_a_queue_and_unknown_ones() -> None:
    here = Here()
    moving = catalog("sqs")
    batch = here.batch("a")
    assert tools_in_doubt(batch, moving) == set()
    tool = moving.tools["t"]
    copies = replace(moving, tools={"t": replace(tool, migration=None)})
    assert tools_in_doubt(batch, copies) == {"t"}
    plain = replace(moving, tools={"t": replace(tool, migration=None, forward=None)})
    assert tools_in_doubt(batch, plain) == set()
    assert tools_in_doubt(batch, Catalog()) == {"t"}
    assert tools_in_doubt(batch, Catalog(unreadable_tools=frozenset({"t"}))) == set()
