"""JSON Schemas: checked, compiled once, and never fetched from anywhere."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

import jsonschema_rs
import orjson

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.schemas.difference import Difference
from hookstream.codecs.schemas.json_rules import Documents, document_differences

__all__ = ["JsonSchema"]

#: Where a document without ``$id`` lies, as the library has it.
NOWHERE = "json-schema:///"


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
            self._validator: Any = jsonschema_rs.validator_for(document, **self._options())
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

    def _options(self) -> dict[str, Any]:
        return {
            "retriever": self._retrieve,
            "validate_formats": False,
            "pattern_options": jsonschema_rs.RegexOptions(),
        }

    def _retrieve(self, uri: str) -> Any:
        """A document that ``$ref`` names; nothing is ever fetched."""
        name = uri.partition("#")[0]
        own = self.document.get("$id", "") if isinstance(self.document, dict) else ""
        for reference, document in self.references.items():
            if name in (reference, NOWHERE + reference, urljoin(str(own), reference)):
                return document
        raise LookupError(f"{name.removeprefix(NOWHERE)} is not among the references")

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 of the documents, whatever their spacing and order of keys."""
        said = orjson.dumps([self.document, self.references], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(b"JSON" + said).digest()

    @cached_property
    def _canonical(self) -> jsonschema_rs.CanonicalSchema:
        return jsonschema_rs.canonicalize(self.document, **self._options())

    def differences(self, writer: Any) -> list[Difference]:
        """What keeps this schema from taking every document that ``writer`` takes.

        The library's own proof of containment comes first. Where it has none, our rules name what
        is narrower; they prove containment for recursive schemas, which it does not handle.
        """
        if not isinstance(writer, JsonSchema):
            return [Difference("SCHEMA_TYPE_CHANGED", "", "it was no JSON schema")]
        if self.fingerprint == writer.fingerprint:
            return []
        try:
            covers = self._canonical.covers(writer._canonical)
            if covers == jsonschema_rs.canonical.Containment.YES:
                return []
        except jsonschema_rs.canonical.CanonicalizationError:
            pass  # recursive, or with keywords that it does not compare
        return document_differences(self.documents, writer.documents)

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
