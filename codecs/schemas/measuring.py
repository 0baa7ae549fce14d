"""A payload measured by a schema in a process that knows neither yet."""

from functools import lru_cache

from hookstream.codecs.json_payload import limits
from hookstream.codecs.readable import read_payload
from hookstream.codecs.schemas.json_schema import JsonSchema
from hookstream.codecs.schemas.protobuf import ProtobufSchema

__all__ = ["violations_of"]

#: Schemas that a process keeps compiled.
_KEPT = 64
_KINDS = {kind.__name__: kind for kind in (JsonSchema, ProtobufSchema)}


def violations_of(
    kind: str, portable: bytes, payload: bytes, content_type: str, most_elements: int, all_of: bool
) -> list[str]:
    """Where a payload breaks the schema of class ``kind`` that ``portable`` was taken of.

    ``most_elements``: what the asking process parses; ``all_of``: not only the first place.
    """
    limits.elements = most_elements
    data = read_payload(payload, content_type)
    return _schema(kind, portable).violations(data, all_of_them=all_of)


@lru_cache(_KEPT)
def _schema(kind: str, portable: bytes) -> JsonSchema | ProtobufSchema:
    return _KINDS[kind].revive(portable)
