"""The JSON Schema verdict with its proof, which a child process looks for."""

import itertools
import sys
import threading
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas import JsonSchema, Mode, incompatibilities
from hookstream.codecs.schemas.containment import TIMEOUT_SECONDS
from tests.properties.codecs.test_json_rules import recursive, schemas

with pytest.MonkeyPatch.context() as _patch:
    # formats are not judged here; where this is there, their grammars are compiled for seconds
    _patch.setitem(sys.modules, "rfc3987_syntax", None)
    import jsonschema


@settings(max_examples=200)
@given(schemas() | recursive)
def test_a_json_schema_reads_itself_whatever_its_spacing(schema: Any) -> None:
    one, other = JsonSchema(schema, {}), JsonSchema.parse(orjson.dumps(schema).decode(), {})
    assert one.fingerprint == other.fingerprint
    assert one.differences(other) == []


def obj(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


CLOSED = {"additionalProperties": False}
A = {"a": {"type": "integer", "maximum": 9}}


@pytest.mark.parametrize(
    ("old", "new", "rule", "witness"),
    [
        (obj(A), obj(A, title="x"), "", None),
        (obj(A, required=["a"]), obj(A), "", None),
        (obj(A, **CLOSED), obj({**A, "b": {}}, **CLOSED), "", None),
        (obj(A), obj({"a": {"type": "number"}}), "", None),
        (obj(A), obj(A, required=["a"]), "REQUIRED_ATTRIBUTE_ADDED at #/a", {}),
        (obj(A), obj({"a": {"type": "string"}}), "TYPE_NARROWED at #/a", {"a": 1}),
        (obj(A), obj({"a": {"type": "integer", "maximum": 5}}), "MAXIMUM_DECREASED", {"a": 7}),
        (obj(A), obj(A, **CLOSED), "ADDITIONAL_PROPERTIES_NARROWED", {"z": 1}),
        (
            obj(A),
            obj({**A, "b": {"type": "string"}}),
            "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL at #/b",
            {"b": 1},
        ),
        (
            obj({**A, "b": {}}, **CLOSED),
            obj(A, **CLOSED),
            "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL at #/b",
            {"b": 1},
        ),
        ({"enum": ["x", "y"]}, {"enum": ["x"]}, "ENUM_NARROWED", "y"),
        ({"type": "array"}, {"type": "array", "items": {"minimum": 3}}, "MINIMUM_INCREASED", [1]),
        ({"type": "string"}, {"type": "string", "pattern": "^x"}, "PATTERN_CHANGED", "y"),
        ({"anyOf": [A, {}]}, {"not": {"const": 3}}, "COMBINATION_CHANGED", 3),
    ],
)
def test_rule_that_failed_is_named_and_a_document_shows_it(
    old: Any, new: Any, rule: str, witness: Any
) -> None:
    found = incompatibilities(Mode.BACKWARD, JsonSchema(new, {}), [(4, JsonSchema(old, {}))])
    assert bool(found) == bool(rule), found
    assert all(rule in line and "version 4" in line for line in found), found
    if rule:
        assert jsonschema.Draft202012Validator(old).is_valid(witness)
        assert not jsonschema.Draft202012Validator(new).is_valid(witness)


def test_documents_refer_to_each_other_by_name_and_nothing_is_fetched() -> None:
    user = JsonSchema(obj({"login": {"type": "string"}}), {})
    text = orjson.dumps(obj({"user": {"$ref": "user.json"}})).decode()
    issue = JsonSchema.parse(text, {"user.json": user})
    assert issue.violations({"user": {"login": 5}}) == [
        "/user/login breaks #/properties/login/type"
    ]
    other = JsonSchema.parse(text, {"user.json": JsonSchema(obj({"login": {}}), {})})
    assert other.differences(issue) == []
    assert issue.differences(other) != []
    for uri in ("user.json", "http://127.0.0.1:9/x.json", "file:///etc/passwd"):
        with pytest.raises(InvalidSchemaError, match="not present"):
            JsonSchema(obj({"user": {"$ref": uri}}), {})


def test_schema_nested_deeply_is_compared_or_refused() -> None:
    def items(depth: int, kind: str) -> str:
        return '{"items": ' * depth + f'{{"type": "{kind}"}}' + "}" * depth

    one, other = (JsonSchema.parse(items(100, kind), {}) for kind in ("string", "object"))
    [difference] = one.differences(other)
    assert difference.rule == "TYPE_NARROWED"
    with pytest.raises(InvalidSchemaError):
        JsonSchema.parse(items(900, "string"), {})


def test_schema_that_takes_long_to_compare_holds_up_nobody() -> None:
    some = [{"anyOf": [{"required": [f"a{i}{x}"]} for x in range(3)]} for i in range(8)]
    slow = {"not": {"allOf": some}}
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.01):
            ticks.append(time.monotonic())

    other = threading.Thread(target=tick)
    other.start()
    begun = time.monotonic()
    assert JsonSchema({**slow, "maxProperties": 9}, {}).differences(JsonSchema(slow, {}))
    done.set()
    other.join()
    assert time.monotonic() - begun < TIMEOUT_SECONDS + 5
    assert max(b - a for a, b in itertools.pairwise(ticks)) < 2
