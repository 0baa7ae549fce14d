"""Schemas: what a version says, and whether who reads with one can read what another wrote.

All of it is pure but the compiler (:mod:`.protoc`), which asks a child process.
"""

from hookstream.codecs.schemas.difference import Difference
from hookstream.codecs.schemas.json_schema import JsonSchema
from hookstream.codecs.schemas.modes import Mode, incompatibilities
from hookstream.codecs.schemas.protobuf import ProtobufSchema
from hookstream.codecs.schemas.schema import Parsed, Reference, Schema, SchemaType, parse

__all__ = [
    "Difference",
    "JsonSchema",
    "Mode",
    "Parsed",
    "ProtobufSchema",
    "Reference",
    "Schema",
    "SchemaType",
    "incompatibilities",
    "parse",
]
