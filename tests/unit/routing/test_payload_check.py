"""A payload is measured by its schema within bounds, and what may be expensive off the loop."""

from typing import Any

import pytest

from hookstream.app.bounded import BoundedPool
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import MARK, Catalog, PayloadRule, Tool
from hookstream.app.routing.payload_check import PayloadCheck
from hookstream.app.testing import make_event
from hookstream.codecs.schemas import JsonSchema, Parsed

OBJECTS = b'{"c":[' + b"{}," * 33_000 + b"{}]}"
LISTS = b"[" + b"[]," * 5400 + b"1]"
MANY = {"enum": [[number] for number in range(1000)]}


def catalog(schema: Parsed, *tools: str, on_violation: str = MARK) -> Catalog:
    rule = PayloadRule("s", on_violation)
    made = {
        name: Tool(
            name, "default", "none", (), SignatureOptions(), "payload", (), 0, "tool", "",
            payload_rule=rule,
        )
        for name in tools or ("test",)
    }  # fmt: skip
    return Catalog(tools=made, schemas={("default", "s"): schema})


def at_once(schema: Parsed, payload: Any, **fields: Any) -> list[str] | None:
    event = make_event(payload, **fields)
    return PayloadCheck(BoundedPool()).at_once(catalog(schema), event, MARK)


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        # seconds on the machine that the bounds were measured on are behind each
        ({"pattern": "x?(a{1,100}){1,30}x"}, b'"' + b"a" * 16_000 + b'"'),  # 4.1
        ({"pattern": "(a{1,100}b?){1,100}x"}, b'"' + b"a" * 16_000 + b'"'),  # 18
        ({"patternProperties": {r"(\w{1,100}\s?){1,10}x": {}}}, b'{"' + b"a" * 9000 + b'":1}'),
        ({"items": MANY}, LISTS),  # 2.8, to say where
        ({"items": {"const": MANY["enum"]}}, LISTS),  # 13.9, to say where
        ({"items": {"required": ["a", "b"]}}, b"[" + b"{}," * 5400 + b"{}]"),  # 0.07
        ({"items": {"type": "string"}}, b"[" + b"[]," * 48_000 + b"{}]"),
        ({"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["b"]}] * 2}, OBJECTS),
    ],
)
def test_what_may_be_expensive_by_a_json_schema_is_not_measured_here(
    schema: dict[str, Any], body: bytes
) -> None:
    assert at_once(JsonSchema(schema, {}), body) is None


def test_what_is_no_json_fits_no_schema() -> None:
    schema = JsonSchema({"type": "null"}, {})
    found = [at_once(schema, body) or [] for body in (b"null", b"\xff", b"", b"1")]
    assert [len(lines) for lines in found] == [0, 1, 1, 1]
    assert "neither JSON" in found[1][0]
