"""What an erasure takes: events, updates, digests; and what it leaves alone."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from hookstream.app.erasure.plan import is_open, next_steps, phases, receipt
from hookstream.app.erasure.targets import (
    ERASED_TEXT,
    Target,
    erased_digest,
    left_of,
    told_of,
)
from hookstream.app.ids import new_event_id
from hookstream.app.privacy.subjects import Subject
from hookstream.app.stores.erasures import (
    CONTEXT,
    EVENT,
    KINDS,
    SUBJECT,
    TENANT,
    TOOL,
    Erasure,
    Tally,
    sent_hashes,
)
from hookstream.codecs.envelope import Event
from hookstream.testing import make_event

NOW = 1_700_000_000_000
KEY = b"k" * 32
MAIL = "jane.doe@example.com"


def erasure(kind: str, **target: Any) -> Erasure:
    erasure_id = new_event_id(NOW, 0, 1)
    kept = {"salt": "00" * 16, **target}
    return Erasure(erasure_id, "default", kind, kept, "", False, "running", "", datetime.now(UTC))


def event(payload: bytes = b"{}", *, at: int = NOW - 1000, **fields: Any) -> Event:
    event_id = new_event_id(at, 3, 7)
    return make_event(payload, number=1, **{"event_id": event_id, "received_at_ms": at, **fields})


def subject() -> Target:
    return Target(erasure(SUBJECT), Subject.of(KEY, [MAIL]))


def test_an_event_goes_by_its_id() -> None:
    mine, other = event(), event(at=NOW - 2000)
    target = Target(erasure(EVENT, events=[mine.event_id]))
    assert target.takes_event(mine)
    assert not target.takes_event(other)
    assert not target.takes_id("another", mine.tool_id, mine.event_id)


@pytest.mark.parametrize(("kind", "others"), [(TOOL, False), (TENANT, True)])
def test_of_a_tool_or_tenant_goes_what_came_before(kind: str, others: bool) -> None:
    target = Target(erasure(kind, **({"tool": "shop"} if kind == TOOL else {})))
    assert target.takes_event(event(tool_id="shop"))
    assert target.takes_event(event(tool_id="other")) is others
    assert not target.takes_event(event(tool_id="shop", at=NOW + 1000))
    assert not target.takes_event(event(tool_id="shop", tenant="another"))


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": json.dumps({"m": MAIL}).encode()},
        {"delivery_id": MAIL},
        {"headers": {"x-from": f"<{MAIL}>"}},
        {"schema_errors": (f"{MAIL} is no number",)},
        {"enriched": json.dumps({"m": MAIL}).encode()},
    ],
)
def test_whatever_names_a_person_goes(fields: dict[str, Any]) -> None:
    payload = fields.pop("payload", b"{}")
    target = subject()
    assert target.takes_event(event(payload, **fields))
    assert not target.takes_event(event(payload, tenant="another", **fields))
    # what came later is nobody's past
    assert not target.takes_event(event(payload, at=NOW + 1000, **fields))
    assert not target.takes_event(event(b'{"m": "john@example.com"}'))


def update(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "update", "context_id": "agent", "event_id": event().event_id, "tool_id": "shop",
        "priority": "high", "summary": "", "received_at": NOW - 1000, **fields,
    }  # fmt: skip


def test_updates_go_by_event_by_tool_by_text_and_by_context() -> None:
    mine = update()
    assert Target(erasure(EVENT, events=[mine["event_id"]])).takes_update("default", "agent", mine)
    assert Target(erasure(TOOL, tool="shop")).takes_update("default", "agent", mine)
    assert Target(erasure(CONTEXT, context="agent")).takes_update("default", "agent", mine)
    assert not Target(erasure(CONTEXT, context="x")).takes_update("default", "agent", mine)
    assert subject().takes_update("default", "agent", update(summary=f"from {MAIL}"))
    assert not subject().takes_update("default", "agent", mine)
    assert not Target(erasure(TENANT)).takes_update("another", "agent", mine)


def test_an_erased_update_says_nothing_and_is_none_again() -> None:
    left = json.loads(left_of("agent", update(summary=MAIL, data={"m": MAIL}, keys=[MAIL])))
    assert MAIL not in json.dumps(left)
    assert (left["kind"], left["event_id"], left["summary"]) == ("erased", None, "")
    for kind in KINDS:
        target = Target(erasure(kind, tool="shop", context="agent", events=[], forms=[]))
        assert not target.takes_update("default", "agent", left)


def test_a_digest_keeps_how_much_it_stands_for() -> None:
    value = update(
        kind="digest", summary=MAIL,
        folded={"count": 3, "first_at": 10, "last_at": 20, "event_ids": ["a", "b"], "more": 1},
    )  # fmt: skip
    left = json.loads(erased_digest(value, ["a"]))
    assert left["summary"] == ERASED_TEXT
    assert (left["folded"]["count"], left["folded"]["event_ids"]) == (3, ["b"])
    assert told_of(value, [15])
    assert not told_of(value, [21])


def test_what_a_sender_repeats_is_recognised_by_content_and_by_delivery() -> None:
    mine = event(tool_id="shop", message_id="shop:x:1", delivery_id="d1")
    target = subject()
    sent = set(target.sent(mine))
    salt = target.erasure.salt
    assert not sent.isdisjoint(sent_hashes(salt, "shop", "shop:x:1", ""))
    assert not sent.isdisjoint(sent_hashes(salt, "shop", "", "d1"))
    assert sent.isdisjoint(sent_hashes(salt, "other", "", "d1"))
    assert sent.isdisjoint(sent_hashes(b"1" * 16, "shop", "shop:x:1", "d1"))


@pytest.mark.parametrize("kind", KINDS)
def test_steps_go_in_phases_and_end(kind: str) -> None:
    one = erasure(kind)
    every = [step for phase in phases(one, 2) for step in phase]
    assert len(set(every)) == len(every)
    done: list[str] = []
    while steps := next_steps(one, 2, done):
        # what was made of events is looked for once all events are known
        if steps[0].startswith("derived") and kind != CONTEXT:
            assert {"events:0", "events:1", "archive", "log-find"} <= set(done)
        done.append(steps[0])
    assert sorted(done) == sorted(every)


def test_what_is_left_keeps_it_open_but_for_evidence() -> None:
    places = {"feeds": Tally(2, 2), "templates": Tally(1, 0, 1, "the template x names the person")}
    assert is_open(places) == ["the template x names the person"]
    assert is_open({"audit trail (kept for its time)": Tally(1, 0, 1)}) == []
    told = receipt(places, steps=1, of=2)
    assert [row["place"] for row in told["places"]] == ["feeds", "templates"]
