"""Protobuf schemas: from .proto text, or a FileDescriptorProto in Base64, to descriptors."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas.difference import Difference
from hookstream.codecs.schemas.protobuf_cost import parse_seconds
from hookstream.codecs.schemas.protobuf_rules import file_differences
from hookstream.codecs.schemas.protoc import ROOT, compile_proto

__all__ = ["ProtobufSchema"]

WELL_KNOWN = "google/protobuf/"


class ProtobufSchema:
    """A .proto file with all that it imports, in a pool of its own."""

    def __init__(self, compiled: bytes) -> None:
        """``compiled``: a serialised FileDescriptorSet, the file itself last.

        Raises:
            InvalidSchemaError: its files do not fit together.
        """
        self.compiled = compiled
        try:
            self.files = FileDescriptorSet.FromString(compiled).file
            pool = descriptor_pool.DescriptorPool()
            for file in self.files:
                pool.Add(file)
            self.root: FileDescriptor = pool.FindFileByName(self.files[-1].name)
        except (DecodeError, TypeError, KeyError, IndexError) as error:
            raise InvalidSchemaError(f"descriptors do not fit together: {error}") from error

    @classmethod
    def parse(cls, text: str, references: Mapping[str, "ProtobufSchema"]) -> "ProtobufSchema":
        """Compile ``text``; what it imports is in ``references`` by its path.

        Raises:
            InvalidSchemaError: with the compiler's message.
        """
        if not text.strip():
            raise InvalidSchemaError("the schema is empty")
        imports = _imports(references)
        given = _from_base64(text)
        if given is None:
            return cls(compile_proto(text, imports.SerializeToString()))
        known = {file.name: file for file in imports.file}
        found: dict[str, FileDescriptorProto] = {}
        for path in given.dependency:
            _collect(path, known, found)
        given.name = ROOT
        return cls(FileDescriptorSet(file=[*found.values(), given]).SerializeToString())

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the descriptors: the same for .proto text and for its Base64."""
        made = hashlib.sha256(b"PROTOBUF")
        for file in self.files:
            plain = FileDescriptorProto.FromString(file.SerializeToString())
            plain.ClearField("source_code_info")
            _clear_json_names(plain.message_type)
            made.update(plain.SerializeToString(deterministic=True))
        return made.digest()

    @cached_property
    def base64(self) -> str:
        """The file's descriptor as Confluent's clients ask for it (``format=serialized``)."""
        return base64.b64encode(self.files[-1].SerializeToString()).decode()

    def differences(self, writer: Any) -> list[Difference]:
        """What keeps this schema from reading everything that ``writer`` may write."""
        if not isinstance(writer, ProtobufSchema):
            return [Difference("SCHEMA_TYPE_CHANGED", "", "it was no PROTOBUF schema")]
        return file_differences(self.root, writer.root)

    @property
    def message(self) -> Descriptor | None:
        """The first message of the file: the one that a payload is measured by."""
        return next(iter(self.root.message_types_by_name.values()), None)

    @cached_property
    def _class(self) -> Any:
        if self.message is None:
            raise InvalidSchemaError("the file declares no message")
        return message_factory.GetMessageClass(self.message)

    @property
    def portable(self) -> bytes:
        """All of it as bytes, for a child process: see :meth:`revive`."""
        return self.compiled

    @classmethod
    def revive(cls, portable: bytes) -> "ProtobufSchema":
        """The schema that :attr:`portable` was taken of."""
        return cls(portable)

    def fits(self, data: Any) -> bool:
        """Whether JSON values fit."""
        return not self.violations(data)

    def seconds(self, data: Any, size: int, elements: int, *, explained: bool) -> float:
        """At most so long, about, :meth:`violations` takes; the explanation is not extra.

        The library lists all fields of a message for each object that is read as one, goes through
        what is a FieldMask by character, and passes over what the schema does not know: that alone
        is what most of a payload is, so its size says little.
        """
        return parse_seconds(data, self.message) if self.message is not None else 0.0

    def violations(self, data: Any, *, all_of_them: bool = True) -> list[str]:
        """Where JSON values do not fit the first message, by protobuf's JSON mapping.

        Fields that the schema does not know are no violation, as in its binary form.
        """
        if not isinstance(data, dict):
            return ["the payload is no object"]
        try:
            json_format.ParseDict(data, self._class(), ignore_unknown_fields=True)
        except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:
            # behind the first colon the library may quote the value
            return [str(error).partition(":")[0].strip()[:200] or "not such a message"]
        return []


def _imports(references: Mapping[str, ProtobufSchema]) -> FileDescriptorSet:
    """One set of all references' files, each root under the path that it is imported by."""
    found: dict[str, FileDescriptorProto] = {}
    for path, schema in references.items():
        for file in schema.files:
            named = FileDescriptorProto.FromString(file.SerializeToString())
            if file.name == ROOT:
                named.name = path
            found.setdefault(named.name, named)
    ordered: dict[str, FileDescriptorProto] = {}
    for path in found:
        _collect(path, found, ordered)
    return FileDescriptorSet(file=ordered.values())


def _collect(
    path: str, known: Mapping[str, FileDescriptorProto], found: dict[str, FileDescriptorProto]
) -> None:
    """Add a file to ``found``, behind all that it imports."""
    if path in found:
        return
    file = known.get(path)
    if file is None and path.startswith(WELL_KNOWN):
        file = _well_known(path)
    if file is None:
        raise InvalidSchemaError(f"{path} is imported and not among the references")
    for dependency in file.dependency:
        _collect(dependency, known, found)
    found[path] = file


def _well_known(path: str) -> FileDescriptorProto | None:
    # their modules put them into the default pool
    from google.protobuf import (  # noqa: F401
        any_pb2,
        api_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        type_pb2,
        wrappers_pb2,
    )

    file = FileDescriptorProto()
    try:
        descriptor_pool.Default().FindFileByName(path).CopyToProto(file)
    except KeyError:
        return None
    return file


def _from_base64(text: str) -> FileDescriptorProto | None:
    """The descriptor in ``text``, as Confluent's serialisers register it; None for .proto text."""
    try:
        return FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return None


def _clear_json_names(messages: Any) -> None:
    """protoc fills them in, the runtime does not; they do not reach the wire."""
    for message in messages:
        for item in message.field:
            item.ClearField("json_name")
        _clear_json_names(message.nested_type)
