"""JSON Schemas: checked, compiled once, and never fetched from anywhere."""

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jsonschema_rs
import orjson

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas.containment import options, prove
from hookstream.codecs.schemas.difference import Difference
from hookstream.codecs.schemas.json_rules import Documents, document_differences

__all__ = ["JsonSchema"]

#: Asks whether the first (document, references) takes all that the second takes.
Proof = Callable[[tuple[Any, Any], tuple[Any, Any]], bool]


class JsonSchema:
    """A JSON Schema with the documents that it refers to.

    ``format`` is an annotation, as the standard has it. Patterns are matched in linear time.
    """

    compiled = b""

    def __init__(self, document: Any, references: Mapping[str, Any]) -> None:
        """Raises InvalidSchemaError when ``document`` is no JSON Schema."""
        self.document = document
        self.references = references
        self.documents = Documents(document, references)
        try:
            self._validator: Any = jsonschema_rs.validator_for(
                document, **options(document, references)
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise InvalidSchemaError(f"no JSON Schema: {_first_line(error)}") from error
        except ValueError as error:
            raise InvalidSchemaError(f"no JSON Schema: {str(error)[:500]}") from error

    @classmethod
    def parse(cls, text: str, references: Mapping[str, "JsonSchema"]) -> "JsonSchema":
        """The schema in ``text``.

        Raises:
            InvalidSchemaError: it is no JSON, no JSON Schema, or refers to what is not there.
        """
        try:
            document = orjson.loads(text)
        except ValueError as error:
            raise InvalidSchemaError(f"no JSON: {error}") from error
        return cls(document, {name: schema.document for name, schema in references.items()})

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the documents, whatever their spacing and order of keys."""
        said = orjson.dumps([self.document, self.references], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(b"JSON" + said).digest()

    def differences(self, writer: Any, proof: Proof = prove) -> list[Difference]:
        """What keeps this schema from taking every document that ``writer`` takes.

        Our rules come first: they are quick, prove containment for recursive schemas too, and name
        what is narrower. Where they find something the library may still prove it harmless.
        """
        if not isinstance(writer, JsonSchema):
            return [Difference("SCHEMA_TYPE_CHANGED", "", "it was no JSON schema")]
        if self.fingerprint == writer.fingerprint:
            return []
        found = document_differences(self.documents, writer.documents)
        if found and proof((self.document, self.references), (writer.document, writer.references)):
            return []
        return found

    def violations(self, data: Any, limit: int = 5) -> list[str]:
        """Where JSON values break this schema: place and keyword, without quoting values."""
        found: list[str] = []
        for error in self._validator.iter_errors(data):
            place = _printable("/".join(["", *map(str, error.instance_path)]))
            rule = _printable("/".join(["#", *map(str, error.schema_path)]))
            found.append(f"{place or 'the payload'} breaks {rule}")
            if len(found) == limit:
                break
        return found


def _printable(text: str) -> str:
    """Names of properties are a stranger's: neither SQL nor protobuf holds every character."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:200])


def _first_line(error: Exception) -> str:
    """What is wrong and where; the library's second paragraph, without the instance."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:500]
