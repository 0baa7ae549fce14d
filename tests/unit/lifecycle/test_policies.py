"""Which policy an event goes by: the shortest, unless something is held."""

from typing import Any

import pytest

from hookstream.app.ids import new_event_id
from hookstream.app.lifecycle.policies import chosen
from hookstream.app.privacy.classes import CLASSES, ClassJudge
from hookstream.app.privacy.kinds import KINDS
from hookstream.app.stores.holds import Hold
from hookstream.app.stores.retention_policies import Policy, shortest
from hookstream.codecs.envelope import Event
from hookstream.testing import make_event

NOW = 1_700_000_000_000
HOUR = 3600


def event(age_hours: float, payload: bytes = b"{}", **fields: Any) -> Event:
    at = NOW - int(age_hours * HOUR * 1000)
    return make_event(
        payload, number=1, event_id=new_event_id(at, 3, 7), received_at_ms=at, **fields
    )


def policy(name: str, hours: int, **fields: Any) -> Policy:
    return Policy("default", name, delete_after_seconds=hours * HOUR, **fields)


def pick(one: Event, *policies: Policy, holds: tuple[Hold, ...] = ()) -> str | None:
    judge = ClassJudge()
    found = chosen(one, shortest(policies), holds, NOW, judge.has)
    return found.policy_id if found else None


def test_nothing_goes_before_its_time() -> None:
    rule = policy("p", 24)
    assert pick(event(23.9), rule) is None
    assert pick(event(24), rule) == "p"


def test_the_shortest_counts_of_those_that_concern_it() -> None:
    rules = (policy("long", 48), policy("short", 2, tool_id="shop"), policy("x", 1, types="y.*"))
    assert pick(event(3, tool_id="shop", type="order.paid"), *rules) == "short"
    assert pick(event(3, tool_id="other", type="order.paid"), *rules) is None
    assert pick(event(3, tool_id="other", type="y.z"), *rules) == "x"
    assert pick(event(49, tool_id="other", type="order.paid"), *rules) == "long"
    assert pick(event(49, tenant="another"), *rules) is None


@pytest.mark.parametrize(
    ("data_class", "payload", "goes"),
    [
        ("payment", b'{"text": "card 4111 1111 1111 1111"}', True),
        ("payment", b'{"text": "order 1234"}', False),
        ("contact", b'{"text": "write to jane@example.com"}', True),
        ("secret", b'{"text": "write to jane@example.com"}', False),
        ("any", b'{"text": "write to jane@example.com"}', True),
    ],
)
def test_a_class_is_what_is_found_in_the_payload(
    data_class: str, payload: bytes, goes: bool
) -> None:
    rule = policy("p", 1, data_class=data_class)
    assert (pick(event(2, payload), rule) == "p") is goes


def test_a_hold_wins_over_every_policy() -> None:
    one, rule = event(49, tool_id="shop"), policy("p", 1)
    assert pick(one, rule, holds=(Hold("h", "default", tool_id="shop"),)) is None
    assert pick(one, rule, holds=(Hold("h", "default", tool_id="other"),)) == "p"
    assert pick(one, rule, holds=(Hold("h", "another", tool_id="shop"),)) == "p"


def test_classes_are_of_kinds_that_there_are() -> None:
    for kinds in CLASSES.values():
        assert set(kinds) <= set(KINDS)
    assert set(CLASSES["any"]) == set(KINDS)
