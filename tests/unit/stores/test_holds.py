"""Holds: what they cover is kept, and nothing of another tenant's."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from hookstream.app.stores.holds import Hold, held_events, hold_against

A, B, C = (UUID(int=n << 80) for n in (1, 2, 3))
TENANT = Hold("h1", "acme")
TOOL = Hold("h2", "acme", tool_id="shop")
FEED = Hold("h3", "acme", context_id="agent")
RANGE = Hold("h4", "acme", tool_id="shop", first_event=A, last_event=B)


@pytest.mark.parametrize(
    ("hold", "what", "held"),
    [
        (TENANT, {}, True),
        (TENANT, {"tool_id": "any"}, True),
        (TENANT, {"context_id": "any"}, True),
        (TOOL, {"tool_id": "shop"}, True),
        (TOOL, {"tool_id": "other"}, False),
        # nobody knows of which tools the updates of a feed tell
        (TOOL, {"context_id": "agent"}, True),
        (TOOL, {}, True),
        (FEED, {"context_id": "agent"}, True),
        (FEED, {"context_id": "other"}, False),
        (FEED, {"tool_id": "shop"}, False),
        (FEED, {}, True),
        (RANGE, {"tool_id": "shop", "events": (B, C)}, True),
        (RANGE, {"tool_id": "shop", "events": (C, C)}, False),
        (RANGE, {"tool_id": "shop"}, True),
    ],
)
def test_a_hold_covers_what_it_names(hold: Hold, what: dict[str, object], held: bool) -> None:
    assert (hold_against([hold], "acme", **what) is hold) is held  # type: ignore[arg-type]
    # two tenants may own a tool of the same name
    assert hold_against([hold], "other", **what) is None  # type: ignore[arg-type]


def test_a_released_hold_covers_nothing() -> None:
    assert hold_against([replace(TENANT, released_at=datetime.now(UTC))], "acme") is None


def test_what_is_held_of_a_tool_are_ranges() -> None:
    assert held_events([RANGE, FEED], "acme", "shop") == [(A, B)]
    assert held_events([RANGE], "other", "shop") == []
