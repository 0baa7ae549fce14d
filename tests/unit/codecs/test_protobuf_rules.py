"""The protobuf verdict against real bytes: written with one schema, read with the other."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.message import DecodeError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas import Mode, ProtobufSchema, incompatibilities

F = FieldDescriptorProto
INTEGERS = {
    F.TYPE_INT32: (-(2**31), 2**31 - 1),
    F.TYPE_SINT32: (-(2**31), 2**31 - 1),
    F.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    F.TYPE_INT64: (-(2**63), 2**63 - 1),
    F.TYPE_SINT64: (-(2**63), 2**63 - 1),
    F.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    F.TYPE_UINT32: (0, 2**32 - 1),
    F.TYPE_FIXED32: (0, 2**32 - 1),
    F.TYPE_UINT64: (0, 2**64 - 1),
    F.TYPE_FIXED64: (0, 2**64 - 1),
}
SCALARS = [*INTEGERS, F.TYPE_BOOL, F.TYPE_STRING, F.TYPE_BYTES, F.TYPE_FLOAT, F.TYPE_DOUBLE]
TYPES = [*SCALARS, F.TYPE_ENUM, F.TYPE_MESSAGE]


LABELS = [F.LABEL_OPTIONAL, F.LABEL_REPEATED, F.LABEL_REQUIRED]
field_specs = st.fixed_dictionaries(
    {
        "number": st.integers(1, 5),
        "type": st.sampled_from(TYPES),
        "label": st.sampled_from(LABELS),
        "choice": st.booleans(),
        "of": st.sampled_from([".Inner", ".M"]),
    }
)
field_lists = st.lists(field_specs, max_size=5, unique_by=lambda field: field["number"])
#: What a file with a message `M` and a message `Inner` is made of.
specs = st.fixed_dictionaries(
    {
        "syntax": st.sampled_from(["proto3", "proto2"]),
        # an enumeration of 0 alone would look alike in any number
        "enum": st.sets(st.integers(1, 4), min_size=1),
        "Inner": field_lists,
        "M": field_lists,
    }
)


@st.composite
def edited(draw: st.DrawFn, spec: dict[str, Any]) -> dict[str, Any]:
    """A spec with a few things changed."""
    made = {**spec, "Inner": [*spec["Inner"]], "M": [*spec["M"]]}
    for _ in range(draw(st.integers(1, 3))):
        what = draw(st.sampled_from(["syntax", "enum", "Inner", "M", "M", "M", "M"]))
        if what in ("syntax", "enum") or not made[what]:
            made[what] = draw(specs)[what]
            continue
        at = draw(st.integers(0, len(made[what]) - 1))
        key = draw(st.sampled_from(["type", "label", "choice", "of"]))
        made[what][at] = {**made[what][at], key: draw(field_specs)[key]}
    return made


files = specs.map(lambda spec: build(spec))
pairs = st.tuples(files, files) | specs.flatmap(
    lambda spec: st.tuples(st.just(build(spec)), edited(spec).map(build))
)


def build(spec: dict[str, Any]) -> ProtobufSchema:
    """The schema that a spec describes."""
    file = FileDescriptorProto(name="m.proto", syntax=spec["syntax"])
    enum = file.enum_type.add(name="E")
    # a closed enumeration without a negative number would look alike in an unsigned number, which
    # the rules, that go by types, do not allow
    for number in (0, -1, *sorted(spec["enum"])):
        enum.value.add(name=f"V{number}".replace("-", "minus"), number=number)
    for name in ("Inner", "M"):
        message = file.message_type.add(name=name)
        for wanted in spec[name]:
            add_field(message, wanted, spec["syntax"])
        if any(field.HasField("oneof_index") for field in message.field):
            message.oneof_decl.add(name="choice")
    return ProtobufSchema(FileDescriptorSet(file=[file]).SerializeToString())


def add_field(message: DescriptorProto, wanted: dict[str, Any], syntax: str) -> None:
    number = wanted["number"]
    field = message.field.add(name=f"f{number}", number=number, type=wanted["type"])
    field.label = wanted["label"]
    # a required message of the own kind could never be written
    if field.label == F.LABEL_REQUIRED and (syntax != "proto2" or field.type == F.TYPE_MESSAGE):
        field.label = F.LABEL_OPTIONAL
    if field.type == F.TYPE_ENUM:
        field.type_name = ".E"
    elif field.type == F.TYPE_MESSAGE:
        field.type_name = wanted["of"]
    if wanted["choice"] and field.label == F.LABEL_OPTIONAL:
        field.oneof_index = 0


def new(schema: ProtobufSchema, name: str) -> Any:
    return message_factory.GetMessageClass(schema.root.message_types_by_name[name])()


def values(field: Any, depth: int) -> list[Any]:
    """Values at the edges of a field's type."""
    kind = field.type
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return [high, low, 1]
    if kind == F.TYPE_BOOL:
        return [True]
    if kind == F.TYPE_STRING:
        return ["\u00e9", ""]
    if kind == F.TYPE_BYTES:
        return [b"\xff", b"x"]
    if kind in (F.TYPE_FLOAT, F.TYPE_DOUBLE):
        return [1.5, -0.25]
    if kind == F.TYPE_ENUM:
        named = list(field.enum_type.values_by_number)
        return [*named, *([] if field.enum_type.is_closed else [77, -1])]
    cls = message_factory.GetMessageClass(field.message_type)
    return list(written(cls, depth - 1)) if depth else []


def written(cls: Any, depth: int = 2) -> Iterator[Any]:
    """Messages with each field alone at each edge (besides what is required), and with all."""
    fields = list(cls.DESCRIPTOR.fields)
    alone = [(field, value) for field in fields for value in values(field, depth)]
    for field, value in alone:
        message = cls()
        fill(message, depth)
        put(message, field, value)
        yield message
    message = cls()
    fill(message, depth)
    yield message
    # all of them, in either order; of a oneof the last one stays
    for slot in range(2):
        message = cls()
        for field in fields[:: -1 if slot else 1]:
            edges = values(field, depth)
            if edges:
                put(message, field, edges[slot % len(edges)])
        if message.IsInitialized():
            yield message


def fill(message: Any, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.is_required:
            put(message, field, values(field, depth)[-1])


def put(message: Any, field: Any, value: Any) -> None:
    if field.is_repeated:
        if field.message_type:
            getattr(message, field.name).add().CopyFrom(value)
        else:
            getattr(message, field.name).extend([value, value])
    elif field.message_type:
        getattr(message, field.name).CopyFrom(value)
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, value)


def reads(reader: Any, message: Any) -> bool:
    """Whether the bytes of a message come out of ``reader`` with every value that both know."""
    found = reader.FromString(message.SerializeToString())
    return bool(found.IsInitialized()) and same(found, message)


def same(found: Any, message: Any) -> bool:
    for number, theirs in message.DESCRIPTOR.fields_by_number.items():
        ours = found.DESCRIPTOR.fields_by_number.get(number)
        if ours is None:
            continue
        if ours.is_repeated != theirs.is_repeated:
            return False
        one, other = getattr(found, ours.name), getattr(message, theirs.name)
        if not theirs.is_repeated:
            both = theirs.has_presence and ours.has_presence
            if both and found.HasField(ours.name) != message.HasField(theirs.name):
                return False
            if theirs.has_presence and not message.HasField(theirs.name):
                continue
            one, other = [one], [other]
        if len(one) != len(other) or not all(map(equal, one, other)):
            return False
    return True


def equal(one: Any, other: Any) -> bool:
    if hasattr(one, "DESCRIPTOR") and hasattr(other, "DESCRIPTOR"):
        return same(one, other)
    if isinstance(one, bytes) and isinstance(other, str):
        return one == other.encode()
    return bool(one == other)


@settings(max_examples=600)
@given(pairs)
def test_protobuf_verdict_is_what_real_bytes_say(
    pair: tuple[ProtobufSchema, ProtobufSchema],
) -> None:
    reader, writer = pair
    found = reader.differences(writer)
    messages = [m for name in ("M", "Inner") for m in written(type(new(writer, name)))]
    assume(messages)
    survived = []
    for message in messages:
        cls = type(new(reader, message.DESCRIPTOR.name))
        try:
            survived.append(reads(cls, message))
        except DecodeError:
            survived.append(False)
    assert all(survived) == (not found), found


@given(files)
def test_a_protobuf_schema_reads_itself(schema: ProtobufSchema) -> None:
    assert schema.differences(ProtobufSchema(schema.compiled)) == []


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
