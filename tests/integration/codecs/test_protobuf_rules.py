"""Protobuf schemas as text, which protoc compiles in a child process."""

import pytest

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas import Mode, ProtobufSchema, incompatibilities

BASE = 'syntax = "proto3"; package shop; message Order { int32 id = 1; string name = 2; }'


@pytest.mark.parametrize(
    ("change", "backward", "forward"),
    [
        ("int32 id = 1; string name = 2; bool paid = 3;", "", ""),
        ("int32 id = 1;", "", ""),
        ("int32 number = 1; string name = 2;", "", ""),
        ("int64 id = 1; string name = 2;", "", "FIELD_TYPE_CHANGED at Order.id"),
        ("int32 id = 1; bytes name = 2;", "", "FIELD_TYPE_CHANGED at Order.name"),
        ("string id = 1;", "FIELD_TYPE_CHANGED", "FIELD_TYPE_CHANGED"),
        ("repeated int32 id = 1;", "FIELD_LABEL_CHANGED", "FIELD_LABEL_CHANGED"),
        ("oneof one { int32 id = 1; string name = 2; }", "ONEOF_FIELDS_JOINED", ""),
    ],
)
def test_rule_that_failed_is_named(change: str, backward: str, forward: str) -> None:
    old = ProtobufSchema.parse(BASE, {})
    new = ProtobufSchema.parse(f'syntax = "proto3"; package shop; message Order {{ {change} }}', {})
    for mode, wanted in ((Mode.BACKWARD, [backward]), (Mode.FORWARD, [forward])):
        found = incompatibilities(mode, new, [(1, old)])
        assert bool(found) == bool(wanted[0]), found
        assert all(wanted[0] in line and line.startswith(mode) for line in found)
    full = incompatibilities(Mode.FULL, new, [(1, old)])
    assert len(full) == bool(backward) + bool(forward)
    assert incompatibilities(Mode.NONE, new, [(1, old)]) == []


def test_transitive_modes_look_at_every_version_and_others_at_the_last() -> None:
    texts = [
        'syntax = "proto3"; message M { int32 a = 1; }',
        'syntax = "proto3"; message M { }',
        'syntax = "proto3"; message M { string a = 1; }',
    ]
    first, second, third = (ProtobufSchema.parse(text, {}) for text in texts)
    earlier = [(1, first), (2, second)]
    for mode in (Mode.BACKWARD, Mode.FORWARD, Mode.FULL):
        assert incompatibilities(mode, third, earlier) == []
    for mode in (Mode.BACKWARD_TRANSITIVE, Mode.FORWARD_TRANSITIVE, Mode.FULL_TRANSITIVE):
        found = incompatibilities(mode, third, earlier)
        assert found
        assert all("version 1" in line for line in found)


def test_text_and_base64_of_one_file_are_one_schema_and_imports_are_resolved() -> None:
    address = ProtobufSchema.parse('syntax = "proto3"; message Address { string city = 1; }', {})
    text = (
        'syntax = "proto3"; import "a/address.proto"; import "google/protobuf/timestamp.proto";'
        "message Order { Address to_whom = 1; google.protobuf.Timestamp at = 2; }"
    )
    order = ProtobufSchema.parse(text, {"a/address.proto": address})
    again = ProtobufSchema.parse(order.base64, {"a/address.proto": address})
    assert again.fingerprint == order.fingerprint
    assert again.differences(order) == order.differences(again) == []
    with pytest.raises(InvalidSchemaError, match=r"a/address\.proto"):
        ProtobufSchema.parse(order.base64, {})
    city = ProtobufSchema.parse('syntax = "proto3"; message Address { int32 city = 1; }', {})
    changed = ProtobufSchema.parse(text, {"a/address.proto": city})
    [difference] = changed.differences(order)
    assert (difference.rule, difference.path) == ("FIELD_TYPE_CHANGED", "Order.to_whom.city")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("nonsense", "registered.schema.proto:1:1"),
        ('syntax = "proto3"; message M { int32 a = 1; int32 b = 1; }', "already been used"),
        ('syntax = "proto3"; import "/etc/passwd";', "not found"),
        ('syntax = "proto3"; import "../x.proto"; ', "../x.proto"),
        ('syntax = "proto3"; message M { Nobody a = 1; }', "Nobody"),
    ],
)
def test_text_that_is_no_protobuf_schema_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidSchemaError, match=reason.replace(".", r"\.")):
        ProtobufSchema.parse(text, {})


def test_payload_is_measured_by_the_first_message() -> None:
    schema = ProtobufSchema.parse(BASE, {})
    assert schema.violations({"id": 3, "name": "x", "more": [1]}) == []
    assert schema.violations({"id": "secret"}) != []
    assert "secret" not in "".join(schema.violations({"id": "secret"}))
    for data in (None, 3, [], "x"):
        assert schema.violations(data)
