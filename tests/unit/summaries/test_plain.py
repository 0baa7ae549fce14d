"""Events without a template: the most telling fields with their names, and no noise."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.summaries.plain import MAX_TOLD_CHARS
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.testing import make_event
from tests.unit.test_core import json_values

UUID = "1f81eb52-5198-4599-803e-771906343485"


def said(payload: Any, kind: str = "unknown", provider: str = "generic") -> str:
    event = make_event(payload, tool_id="shop", provider=provider, type=kind)
    return Summariser().summarise(event).text


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        # the tool's name and not "generic", the type and not "unknown"
        ({"orderId": 42, "carrier": "DHL"}, "shop: orderId 42, carrier DHL"),
        ({"event": "order.shipped", "carrier": "DHL"}, "shop order.shipped: carrier DHL"),
        # two levels, what only wraps is none
        (
            {"data": {"object": {"customer": {"email": "ann@example.com", "a": {"b": 1}}}}},
            "shop: customer.email ann@example.com",
        ),
        # what says nothing: ids, hashes, times of sending, nulls, tokens
        (
            {"id": UUID, "sha": "a" * 40, "createdAt": "2026-01-01", "x": None, "apiToken": "t-1",
             "status": "failed", "ts": 1796049612, "retry": False},
            "shop: [failed]",
        ),
        # an id is no title
        ({"name": UUID, "severity": "high"}, "shop: severity high"),
        # the most telling first, where not all can be told
        (
            {**{f"zz{n}": f"{n} " + "a" * 60 for n in range(9)}, "severity": "high"},
            f"shop: zz0 0 {'a' * 60}, zz1 1 {'a' * 60}, severity high",
        ),
        ({"livemode": False, "amount": 5}, "shop (test mode): amount 5"),
        ({"meta": {"test_mode": True}, "amount": 5}, "shop (test mode): amount 5"),
        ({"link": "https://ci.example.com/5", "result": "ok"},
         "shop: result ok hxxps://ci[.]example[.]com/5"),
        ({"avatar_url": "https://ci.example.com/a.png", "result": "ok"}, "shop: result ok"),
        ({"note": "It is <b>down</b>. " + "And more of it. " * 20},
         "shop: note It is down. And more of it. And more of it. And more of it. And more of it."),
        ([{"host": "a"}, {"host": "b"}], "shop 2 items, the first: host a"),
        ("text", "shop"),
        ({}, "shop"),
    ],
)  # fmt: skip
def test_telling_fields_are_told(payload: Any, text: str) -> None:
    assert said(payload) == text


def test_a_named_provider_keeps_its_name() -> None:
    assert said({"x": {"y": 1}}, "a.b", "none").startswith("shop a.b")
    # github has no template for this type
    assert said({"state": "ok"}, "new_event", "github") == "github new_event: [ok]"


@given(json_values, st.text(max_size=20))
def test_any_payload_is_told_in_a_line(payload: Any, name: str) -> None:
    wide = {f"{name}{n}": payload for n in range(50)}
    for value in (payload, [payload] * 3, {"data": payload}, wide):
        text = said(value)
        assert len(text) <= 3 * MAX_TOLD_CHARS
        assert "\n" not in text
