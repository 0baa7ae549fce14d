"""The protobuf verdict against real bytes: written with one schema, read with the other."""

from collections.abc import Iterator
from typing import Any

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

from hookstream.codecs.schemas import ProtobufSchema

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
