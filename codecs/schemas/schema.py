"""A schema as it is registered: its type, its text, and the schemas that it refers to."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from hookstream.codecs.schemas.difference import Difference
from hookstream.codecs.schemas.json_schema import JsonSchema
from hookstream.codecs.schemas.protobuf import ProtobufSchema

__all__ = ["Parsed", "Reference", "Schema", "SchemaType", "parse"]


class SchemaType(StrEnum):
    """What kind of schema a text is."""

    PROTOBUF = "PROTOBUF"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Reference:
    """Another subject's version, by the name under which a schema imports it."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema's text, not looked into yet."""

    type: SchemaType
    text: str
    references: tuple[Reference, ...] = ()


class Parsed(Protocol):
    """A schema that was understood."""

    @property
    def fingerprint(self) -> bytes:
        """The same for texts that say the same."""

    @property
    def compiled(self) -> bytes:
        """From which it is made again without its text; empty where the text is as good."""

    @property
    def portable(self) -> bytes:
        """All of it as bytes, which ``revive`` of its class makes a schema of again."""

    def seconds(self, data: Any, size: int, elements: int, *, explained: bool) -> float:
        """At most so long, about, a verdict takes; ``explained``: and to say where it does not fit.

        ``size`` in bytes; ``elements`` of ``data`` at most.
        """

    def fits(self, data: Any) -> bool:
        """Whether JSON values fit this schema."""

    def differences(self, writer: Any) -> list[Difference]:
        """What keeps this schema from reading everything that ``writer`` may write."""

    def violations(self, data: Any, *, all_of_them: bool = True) -> list[str]:
        """Where JSON values break this schema, without quoting them; the first place, or more."""


def parse(
    schema: Schema, references: Mapping[str, Parsed], *, compiled: bytes = b""
) -> JsonSchema | ProtobufSchema:
    """Understand a schema.

    Arguments:
        references: what each reference's name stands for, those of references among them.
        compiled: what :attr:`Parsed.compiled` once gave, to spare the compiler.

    Raises:
        InvalidSchemaError: it is no schema of its type, or refers to what is not there.
    """
    if schema.type is SchemaType.JSON:
        return JsonSchema.parse(schema.text, _of(JsonSchema, references))
    if compiled:
        return ProtobufSchema(compiled)
    return ProtobufSchema.parse(schema.text, _of(ProtobufSchema, references))


def _of(kind: type[Any], references: Mapping[str, Parsed]) -> Mapping[str, Any]:
    """Those of one type: a schema cannot import another language."""
    return {name: parsed for name, parsed in references.items() if isinstance(parsed, kind)}
