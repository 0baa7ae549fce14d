"""What is no JSON Schema, what a payload breaks of one, and that neither takes long."""

from functools import partial
from typing import Any

import pytest

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas import JsonSchema
from tests.support.cost import least_cpu


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "5", "[]", '{"type": "nonsense"}', '{"pattern": "("}', '{"$ref": "#/nope"}'),
        *('{"pattern": "(?=a)b"}', '{"$schema": "http://nobody/x"}', '{"minimum": "x"}'),
        "[" * 5000,
    ],
)
def test_text_that_is_no_json_schema_is_refused(text: str) -> None:
    with pytest.raises(InvalidSchemaError):
        JsonSchema.parse(text, {})


def test_violations_name_places_and_never_values() -> None:
    schema = JsonSchema({"type": "object", "additionalProperties": {"type": "integer"}}, {})
    found = schema.violations({str(n): "secret" for n in range(9)})
    assert len(found) == 5
    assert "secret" not in "".join(found)
    assert schema.violations({"a": 1}) == []


def test_hostile_pattern_takes_no_longer_than_its_text() -> None:
    schema = JsonSchema({"type": "string", "pattern": "^(a+)+$"}, {})
    assert schema.violations("a" * 50_000 + "b")


def chain(length: int) -> dict[str, Any]:
    """A schema whose branches double with each link."""
    links: dict[str, Any] = {
        f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(length)
    }
    return {"$defs": {**links, f"a{length}": {"type": "string"}}, "$ref": "#/$defs/a0"}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_schema_whose_branches_multiply_is_refused() -> None:
    for length in (25, 60):
        with pytest.raises(InvalidSchemaError, match="multiply"):
            JsonSchema(chain(length), {})
    assert JsonSchema(chain(4), {}).violations(5) == ["the payload breaks #/$defs/a0/anyOf"]
    assert JsonSchema(chain(12), {}).violations("x") == []
    assert "too many branches" in JsonSchema(chain(12), {}).violations(5)[0]


@pytest.mark.parametrize(
    "branches",
    [
        {"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["b"]}] * 2},
        {"oneOf": [{"properties": {"a": {"$ref": "#"}, "b": v}} for v in (False, {"const": 1})]},
        {"properties": {"a": {"$ref": "#"}}, "patternProperties": {"^a": {"$ref": "#"}}},
        {"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"additionalProperties": {"$ref": "#"}}]},
        {"$dynamicRef": "#x", "$defs": {"x": {"$dynamicAnchor": "x", "type": "string"}}},
    ],
)
def test_sender_cannot_make_a_branching_schema_take_for_ever(branches: dict[str, Any]) -> None:
    def judged() -> None:
        schema = JsonSchema({"type": "object", **branches}, {})
        assert "too many branches" in schema.violations(deep(200))[0]

    assert least_cpu(judged, 1) < 1


def test_tree_is_explained_and_what_is_too_deep_is_a_violation_all_the_same() -> None:
    kinds = [{"type": "null"}, {"$ref": "#"}]
    for inner in ({"$ref": "#"}, {"anyOf": kinds}):
        tree = JsonSchema({"type": "object", "properties": dict.fromkeys("abc", inner)}, {})
        assert tree.violations({"a": {"b": 5}})[0].startswith("/a")
        assert "too deeply" in tree.violations(deep(900))[0]
        assert least_cpu(partial(tree.violations, deep(900)), 1) < 1
    with pytest.raises(InvalidSchemaError, match="too deeply"):
        JsonSchema.parse('{"not":' * 254 + "{}" + "}" * 254, {})


def test_large_payload_of_errors_takes_no_longer_than_a_verdict() -> None:
    schema = JsonSchema({"items": {"type": "string"}}, {})
    many = list(range(500_000))
    assert schema.violations(many, all_of_them=False) == ["/0 breaks #/items/type"]
    assert least_cpu(lambda: schema.violations(many, all_of_them=False), 1) < 1
