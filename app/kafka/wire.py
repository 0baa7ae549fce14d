"""Confluent's wire format: which schema of the registry a value is of, and the value.

A zero byte, the schema's id in four bytes, for protobuf which of its messages it is, then the value
(docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop, "Wire format").
"""

from typing import Final

__all__ = ["json_value", "protobuf_value"]

_MAGIC: Final = b"\0"
#: The path to the first message of a file is so frequent that one byte stands for it.
_FIRST_MESSAGE: Final = b"\0"


def json_value(schema_id: int, value: bytes) -> bytes:
    """JSON of a schema."""
    return _MAGIC + schema_id.to_bytes(4) + value


def protobuf_value(schema_id: int, value: bytes) -> bytes:
    """The first message of a schema."""
    return _MAGIC + schema_id.to_bytes(4) + _FIRST_MESSAGE + value
