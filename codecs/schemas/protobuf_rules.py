"""Which changes of a protobuf schema a reader of the wire format survives.

The promise is about bytes: every message that the writer's schema allows is read with the reader's,
and each field that both know has the value that was written. Fields that only one of them knows are
kept as unknown, or have their default. Names of fields do not count, and neither does the package.
"""

from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
)

from hookstream.codecs.schemas.difference import Difference

__all__ = ["file_differences"]

F = FieldDescriptor
_INTEGERS: Final = frozenset({F.TYPE_INT32, F.TYPE_INT64, F.TYPE_UINT32, F.TYPE_UINT64})
#: Reader's types that give every value of the writer's type back, besides the type itself.
WIDER: Final[dict[int, frozenset[int]]] = {
    F.TYPE_BOOL: _INTEGERS | {F.TYPE_ENUM},
    F.TYPE_INT32: frozenset({F.TYPE_INT64, F.TYPE_ENUM}),
    F.TYPE_ENUM: frozenset({F.TYPE_INT32, F.TYPE_INT64}),
    F.TYPE_UINT32: frozenset({F.TYPE_UINT64, F.TYPE_INT64}),
    F.TYPE_SINT32: frozenset({F.TYPE_SINT64}),
    F.TYPE_STRING: frozenset({F.TYPE_BYTES}),
}
_NAMES: Final = {getattr(F, name): name[5:].lower() for name in dir(F) if name.startswith("TYPE_")}
Seen = set[tuple[str, str]]


def file_differences(reader: FileDescriptor, writer: FileDescriptor) -> list[Difference]:
    """What keeps ``reader`` from reading any message that ``writer`` declares."""
    ours = dict(_messages(reader))
    found: list[Difference] = []
    seen: Seen = set()
    for name, theirs in _messages(writer):
        if name not in ours:
            found.append(Difference("MESSAGE_REMOVED", name, "the reader does not have it"))
            continue
        found += _message(ours[name], theirs, name, seen)
    return found


def _messages(file: FileDescriptor) -> Iterator[tuple[str, Descriptor]]:
    """Every message by its name within the package."""
    waiting = list(file.message_types_by_name.values())
    skip = len(file.package) + 1 if file.package else 0
    while waiting:
        message = waiting.pop()
        if not message.GetOptions().map_entry:
            yield message.full_name[skip:], message
            waiting += message.nested_types


def _message(reader: Descriptor, writer: Descriptor, path: str, seen: Seen) -> Iterator[Difference]:
    pair = (reader.full_name, writer.full_name)
    if pair in seen:
        return
    seen.add(pair)
    for number, theirs in writer.fields_by_number.items():
        ours = reader.fields_by_number.get(number)
        if ours is not None:
            yield from _field(ours, theirs, f"{path}.{theirs.name}", seen)
    for number, ours in reader.fields_by_number.items():
        given = writer.fields_by_number.get(number)
        if ours.is_required and (given is None or not given.is_required):
            yield Difference(
                "REQUIRED_FIELD_ADDED", f"{path}.{ours.name}", "the writer may leave it out"
            )
    yield from _oneofs(reader, writer, path)


def _oneofs(reader: Descriptor, writer: Descriptor, path: str) -> Iterator[Difference]:
    for oneof in reader.oneofs:
        theirs = [
            writer.fields_by_number[field.number]
            for field in oneof.fields
            if field.number in writer.fields_by_number
        ]
        apart = {f.containing_oneof.name if f.containing_oneof else f.name for f in theirs}
        alone = [f for f in theirs if f.containing_oneof is None]
        if len(theirs) > 1 and (alone or len(apart) > 1):
            yield Difference(
                "ONEOF_FIELDS_JOINED",
                f"{path}.{oneof.name}",
                f"the writer may set {' and '.join(f.name for f in theirs)} together",
            )


def _field(
    reader: FieldDescriptor, writer: FieldDescriptor, path: str, seen: Seen
) -> Iterator[Difference]:
    if reader.is_repeated != writer.is_repeated or _is_map(reader) != _is_map(writer):
        yield Difference("FIELD_LABEL_CHANGED", path, f"from {_label(writer)} to {_label(reader)}")
    elif writer.type != reader.type and reader.type not in WIDER.get(writer.type, ()):
        yield Difference(
            "FIELD_TYPE_CHANGED",
            path,
            f"{_NAMES[reader.type]} does not hold every {_NAMES[writer.type]}",
        )
    elif reader.message_type is not None and writer.message_type is not None:
        yield from _message(reader.message_type, writer.message_type, path, seen)
    elif reader.enum_type is not None and reader.enum_type.is_closed:
        numbers = reader.enum_type.values_by_number
        # a bool is never another number
        if writer.type != F.TYPE_BOOL or not {0, 1} <= set(numbers):
            yield from _closed_enum(reader.enum_type, writer.enum_type, path)


def _closed_enum(
    reader: EnumDescriptor, writer: EnumDescriptor | None, path: str
) -> Iterator[Difference]:
    """A closed enum (proto2's) drops numbers that it does not declare."""
    if writer is None or not writer.is_closed:
        yield Difference(
            "ENUM_CLOSED", path, f"{reader.name} drops numbers that it does not declare"
        )
        return
    gone = set(writer.values_by_number) - set(reader.values_by_number)
    if gone:
        numbers = ", ".join(map(str, sorted(gone)))
        yield Difference("ENUM_VALUE_REMOVED", path, f"the reader does not declare {numbers}")


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _label(field: FieldDescriptor) -> str:
    if _is_map(field):
        return "map"
    return "repeated" if field.is_repeated else "singular"
