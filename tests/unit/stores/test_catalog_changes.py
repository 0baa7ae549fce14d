"""A change of the catalog touches what has changed, and gives what reading all rows gives."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.postgres.pool import Postgres
from hookstream.app.routing.catalog import Subscription
from hookstream.app.routing.matching import compile_condition, compile_types
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.stores import catalog_state
from hookstream.app.stores.catalog_rows import (
    Key,
    Row,
    Rows,
    key_of,
)
from hookstream.app.stores.catalog_state import CatalogState, build, merged

CONTEXTS = 500

Changes = Mapping[str, Mapping[Key, Row | None]]


def understands() -> SchemaStore:
    """Schemas that refer to no others: nobody asks PostgreSQL."""
    return SchemaStore(Postgres("postgresql://nobody@127.0.0.1:1/none"))


def context(tenant: str, context_id: str, **more: Any) -> dict[str, Any]:
    row = {"name": context_id, "priority": "normal", "token_budget": None, "rate": None}
    return {"tenant": tenant, "context_id": context_id, **row, "daily": None, **more}


def subscription(tenant: str, context_id: str, name: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"tool_id": "a", "types": ["*"], "condition": "", "priority": ""}
    row |= {"follow": "", "switched_off": "", **more}
    return {"tenant": tenant, "context_id": context_id, "name": name, **row}


def tool(tool_id: str, tenant: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"provider": "github", "secrets": ["s"], "options": {}, "alert": {}}
    row |= {"dedup": {"strategy": "payload", "fields": [], "window_seconds": 60}}
    row |= {"ordering": {"by": "tool", "field": ""}, "payload_schema": None, **more}
    return {"tool_id": tool_id, "tenant": tenant, **row}


def many(changed: int = 0) -> Rows:
    names = [f"c{n}" for n in range(CONTEXTS)]
    return Rows(
        1,
        1,
        contexts=[context("t", name) for name in names],
        subscriptions=[
            subscription(
                "t",
                name,
                "s",
                tool_id="x",
                types=[f"{name}.*"],
                condition=f"payload.n == {n} && {n if n >= changed else -n - 1} > -{CONTEXTS}0",
            )
            for n, name in enumerate(names)
        ],
    )


async def test_a_change_compiles_what_is_new_and_no_more() -> None:
    compile_condition.cache_clear()
    state = await build(many(), understands())
    before = state.catalog()
    first = compile_condition.cache_info()
    assert first.misses == CONTEXTS
    changed = {key_of("subscriptions", row): row for row in many(changed=2).subscriptions[:2]}
    await state.apply(2, 2, {"subscriptions": changed})
    after, second = state.catalog(), compile_condition.cache_info()
    assert second.misses == CONTEXTS + 2
    # nor is any other one looked at: it would be a hit
    assert second.hits == first.hits
    assert (after.version, after.token) == (2, 2)
    # what is the same is the same object, not a copy of it
    for name in ("tools", "contexts", "books", "keys", "schemas"):
        assert getattr(after, name) is getattr(before, name)


async def test_all_rows_let_the_event_loop_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_state, "SLICE_SECONDS", -1.0)
    turns, done = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await build(many(), understands())
    done.set()
    await watching
    # each row of a context and of a subscription is a place where others get their turn
    assert turns >= 2 * CONTEXTS


async def test_what_is_most_urgent_ends_with_what_is() -> None:
    row = context("t", "c", priority="critical")
    one = subscription("t", "c", "s")
    rows = {"tools": {("a",): tool("a", "t")}, "contexts": {("t", "c"): row}}
    state = CatalogState(understands())
    await state.apply(1, 1, {**rows, "subscriptions": {("t", "c", "s"): one}})
    found = state.catalog()
    assert (found.most_urgent, found.urgent_tools) == ("critical", {"a"})
    calm = {("t", "c"): {**row, "priority": "high"}}
    await state.apply(2, 2, {"contexts": calm})
    found = state.catalog()
    assert (found.most_urgent, found.urgent_tools) == ("high", frozenset())
    await state.apply(3, 3, {"subscriptions": {("t", "c", "s"): None}})
    assert state.catalog().most_urgent == "low"


@given(
    st.lists(st.integers(0, 40), unique=True, max_size=30),
    st.dictionaries(st.integers(0, 40), st.booleans(), max_size=40),
)
def test_subscriptions_keep_the_order_of_their_names(
    there: list[int], changed: dict[int, bool]
) -> None:
    def one(number: int, follow: str = "") -> Subscription:
        types = compile_types(("*",))
        return Subscription("t", f"c{number:02}", "s", "a", types, None, "low", follow)

    def name(number: int) -> Key:
        return ("t", f"c{number:02}", "s")

    known = tuple(one(number) for number in sorted(there))
    wanted = {name(number): one(number) for number in there}
    changes = {name(number): one(number, "new") if new else None for number, new in changed.items()}
    for key, value in changes.items():
        wanted.pop(key, None)
        if value is not None:
            wanted[key] = value
    assert merged(known, changes) == tuple(wanted[key] for key in sorted(wanted))
