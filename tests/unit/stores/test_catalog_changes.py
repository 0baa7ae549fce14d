"""A change of the catalog touches what has changed, and gives what reading all rows gives."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookstream.app.postgres.pool import Postgres
from hookstream.app.routing.catalog import Subscription
from hookstream.app.routing.matching import compile_condition, compile_types
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.stores import catalog_state
from hookstream.app.stores.catalog_rows import (
    KEYS,
    Key,
    Row,
    Rows,
    decode_rows,
    encode_rows,
    key_of,
    subject_of,
)
from hookstream.app.stores.catalog_state import CatalogState, build, merged
from tests.support.catalogs import comparable

CONTEXTS = 3_000

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


TENANTS, TOOLS, CONTEXT_IDS = ("t", "u"), ("a", "b", "c"), ("c1", "c2", "c3")
SCHEMA = '{"type": "object", "required": ["%s"]}'
OTHER_PROVIDERS = st.sampled_from(["github", "github", "none", "none", "nobody"])
RULES = st.sampled_from(
    [
        None,
        None,
        {"subject": "one", "on_violation": "mark"},
        {"subject": "two", "on_violation": "reject"},
        {"subject": 7, "on_violation": "mark"},
        [1],
    ]
)
TOOL_ROWS = st.builds(
    tool,
    st.sampled_from(TOOLS),
    st.sampled_from(TENANTS),
    provider=OTHER_PROVIDERS,
    payload_schema=RULES,
)
CONTEXT_ROWS = st.builds(
    context,
    st.sampled_from(TENANTS),
    st.sampled_from(CONTEXT_IDS),
    name=st.sampled_from(["x", "y"]),
    priority=st.sampled_from(["critical", "high", "high", "normal", "normal", "urgent"]),
)
SUBSCRIPTION_ROWS = st.builds(
    subscription,
    st.sampled_from(TENANTS),
    st.sampled_from(CONTEXT_IDS),
    st.sampled_from(["s1", "s2"]),
    tool_id=st.sampled_from([*TOOLS, "*"]),
    types=st.sampled_from([["*"], ["*"], ["push"], ["push"], [None]]),
    condition=st.sampled_from(["", "", "payload.n == 1", "("]),
    priority=st.sampled_from(["", "", "critical", "low", "urgent"]),
    switched_off=st.sampled_from(["", "", "", "", "too slow"]),
)


def template(tenant: str, name: str, types: str, source: str) -> dict[str, Any]:
    return {"tenant": tenant, "name": name, "provider": "none", "types": types, "source": source}


TEMPLATE_ROWS = st.builds(
    template,
    st.sampled_from(TENANTS),
    st.sampled_from(["n1", "n2", "n3"]),
    st.sampled_from(["*", "push"]),
    st.sampled_from(["a", "b {{ payload.x }}", "{% for x in"]),
)


def key(key_id: str, tenant: str, hashed: bytes, contexts: list[Any]) -> dict[str, Any]:
    return {"key_id": key_id, "tenant": tenant, "hash": hashed, "contexts": contexts}


KEY_ROWS = st.builds(
    key,
    st.sampled_from(["k1", "k2"]),
    st.sampled_from(TENANTS),
    st.sampled_from([b"1", b"2"]),
    st.sampled_from([["c1"], ["c1", "c2"], [["a"]]]),
)


def schema(tenant: str, subject: str, number: int, source: str) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "subject": subject,
        "schema_id": number,
        "type": "JSON",
        "source": source,
        "refs": [],
        "identity": b"",
        "compiled": b"",
    }


# an id stands for one schema for ever
SCHEMA_ROWS = st.builds(
    lambda tenant, subject, number: schema(
        tenant, subject, number, "{" if number == 3 else SCHEMA % number
    ),
    st.sampled_from(TENANTS),
    st.sampled_from(["one", "two"]),
    st.integers(1, 3),
)
ROWS = {
    "tools": TOOL_ROWS,
    "contexts": CONTEXT_ROWS,
    "subscriptions": SUBSCRIPTION_ROWS,
    "templates": TEMPLATE_ROWS,
    "keys": KEY_ROWS,
    "schemas": SCHEMA_ROWS,
}
#: A row that is there afterwards, or is not.
ONE = st.sampled_from(sorted(ROWS)).flatmap(
    lambda table: st.tuples(st.just(table), ROWS[table], st.booleans() | st.just(True))
)
STEPS = st.lists(st.lists(ONE, min_size=1, max_size=12), min_size=1, max_size=8)


def take(
    rows: dict[str, dict[Key, Row]], step: list[tuple[str, Row, bool]]
) -> dict[str, dict[Key, Row | None]]:
    """Change the rows of a database; what its log gives a reader then."""
    changed: dict[str, dict[Key, Row | None]] = {}
    for table, row, there in step:
        name = key_of(table, row)
        if table == "keys" and there:
            # a hash is one key's
            for other in [k for k, v in rows["keys"].items() if v["hash"] == row["hash"]]:
                del rows["keys"][other]
                changed.setdefault("keys", {})[other] = None
        if there:
            rows[table][name] = row
        else:
            rows[table].pop(name, None)
        changed.setdefault(table, {})[name] = row if there else None
    for row in changed.get("tools", {}).values():
        # the reader asks for the schemas of tools that have changed
        if row is not None and (subject := subject_of(row)) is not None:
            name = (row["tenant"], subject)
            changed.setdefault("schemas", {}).setdefault(name, rows["schemas"].get(name))
    return changed


#: What there is at first: all of it good, each tenant with all of it.
FIRST: list[tuple[str, Row, bool]] = [
    *(
        ("tools", tool(name, tenant, payload_schema=rule), True)
        for name, tenant, rule in (
            ("a", "t", {"subject": "one", "on_violation": "mark"}),
            ("b", "u", {"subject": "one", "on_violation": "mark"}),
        )
    ),
    *(("contexts", context(tenant, name), True) for tenant in TENANTS for name in CONTEXT_IDS),
    *(
        ("subscriptions", subscription(tenant, name, f"s{at}", tool_id=TOOLS[at]), True)
        for tenant in TENANTS
        for name in CONTEXT_IDS
        for at in (1, 2)
    ),
    *(("schemas", schema(tenant, "one", 1, SCHEMA % 1), True) for tenant in TENANTS),
]


@settings(max_examples=60)
@given(STEPS)
async def test_changes_one_after_the_other_give_what_all_rows_give(
    steps: list[list[tuple[str, Row, bool]]],
) -> None:
    schemas = understands()
    state = CatalogState(schemas)
    rows: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
    for number, step in enumerate((FIRST, *steps), 1):
        before = state.catalog()
        await state.apply(number, number, take(rows, step))
        needed = {(row["tenant"], subject_of(row)) for row in rows["tools"].values()}
        there = {**rows, "schemas": {k: v for k, v in rows["schemas"].items() if k in needed}}
        every = Rows(number, number, *(list(there[table].values()) for table in KEYS))
        whole = (await build(every, schemas, before=before)).catalog()
        assert comparable(state.catalog()) == comparable(whole)
        kept = state.rows()
        for table in KEYS:
            assert {key_of(table, row): row for row in getattr(kept, table)} == there[table]
        # and what is on the disk of it is the same once more
        again = (await build(decode_rows(b"".join(encode_rows(kept))), schemas)).catalog()
        alone = (await build(every, schemas)).catalog()
        assert comparable(again) == comparable(alone)


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
