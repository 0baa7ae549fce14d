"""Changes of the catalog, one after the other, give what reading all rows gives."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

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
from hookstream.app.stores.catalog_state import CatalogState, build
from tests.support.catalogs import comparable
from tests.unit.stores.test_catalog_changes import context, subscription, tool, understands

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
MASKING_ROWS = st.builds(
    lambda tenant, masking: {"tenant": tenant, "masking": masking},
    st.sampled_from(TENANTS),
    st.sampled_from(
        [{}, {"agents": {"email": "mask"}}, {"keep": "masked"}, {"agents": {"aura": "mask"}}]
    ),
)
ROWS = {
    "tools": TOOL_ROWS,
    "contexts": CONTEXT_ROWS,
    "subscriptions": SUBSCRIPTION_ROWS,
    "templates": TEMPLATE_ROWS,
    "keys": KEY_ROWS,
    "schemas": SCHEMA_ROWS,
    "masking": MASKING_ROWS,
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
