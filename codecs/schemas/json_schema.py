"""JSON Schemas: checked, compiled once, and never fetched from anywhere."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from hookstream.codecs.errors import InvalidSchemaError
from hookstream.codecs.json_payload import dump_json
from hookstream.codecs.schemas.branching import ways
from hookstream.codecs.schemas.containment import options, prove
from hookstream.codecs.schemas.difference import Difference
from hookstream.codecs.schemas.json_rules import Documents, document_differences

__all__ = ["JsonSchema"]

#: With more ways to one place a verdict alone takes long: 10 ns each, for each place.
MAX_WAYS = 1_000_000
#: With more ways to one place only the verdict is told: saying where takes 50 µs each.
MAX_EXPLAINED_WAYS = 2_000
#: Places that are told.
MAX_PLACES = 5
#: Nanoseconds at most, measured: a value that is compared; a byte of text and a piece of a pattern;
#: a place that is told, and a value of the schema that is told with it.
_COMPARED, _MATCHED, _TOLD, _QUOTED = 20.0, 6.0, 10_000.0, 2_000.0
#: Smaller payloads cost nothing to speak of, whatever leads back to itself.
_ENDLESS_BYTES = 512
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
        try:
            self.fingerprint = _fingerprint(document, references)
        except orjson.JSONEncodeError as error:
            raise InvalidSchemaError("it is nested too deeply") from error
        found = ways(document, references)
        # what comes back to itself is no trouble here: the library remembers its verdicts
        if found.count > MAX_WAYS:
            raise InvalidSchemaError(
                f"its branches multiply to more than {MAX_WAYS} ways to look at one value"
            )
        self._explains = not found.endless and found.count <= MAX_EXPLAINED_WAYS
        self._ways = found

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

    @cached_property
    def portable(self) -> bytes:
        """All of it as bytes, for a child process: see :meth:`revive`."""
        return orjson.dumps([self.document, self.references])

    @classmethod
    def revive(cls, portable: bytes) -> "JsonSchema":
        """The schema that :attr:`portable` was taken of."""
        return cls(*orjson.loads(portable))

    def fits(self, data: Any) -> bool:
        """Whether JSON values fit."""
        return bool(self._validator.is_valid(data))

    def seconds(self, data: Any, size: int, elements: int, *, explained: bool) -> float:
        """At most so long, about, a verdict takes; ``explained``: to say where it does not fit.

        ``size`` in bytes, ``elements`` of ``data`` at most. Both are the sender's to choose, and
        what each of them costs is the schema's: an ``enum`` of thousands, a pattern of many
        repetitions.
        """
        ways = self._ways
        if ways.endless and size > _ENDLESS_BYTES:
            return math.inf
        work = elements * ways.work * _COMPARED + size * ways.pieces * _MATCHED
        if explained:
            work += elements * (ways.count * _TOLD + ways.work * _QUOTED)
        return work / 1e9

    def violations(self, data: Any, *, all_of_them: bool = True) -> list[str]:
        """Where JSON values break this schema: place and keyword, without quoting values.

        At most five places, or the first alone. A sender chooses what this costs: the verdict is
        quick, while to say where takes 7 µs for each place of the payload that does not fit, and
        may take for ever where the schema has many branches: then only that it does not is told.
        """
        if self._validator.is_valid(data):
            return []
        if not self._explains:
            return ["the payload does not fit; the schema has too many branches to say where"]
        try:
            dump_json(data)
            # all or the first: the library does nothing in between
            errors = self._validator.iter_errors(data) if all_of_them else self._first(data)
            return [_place(error) for error in islice(errors, MAX_PLACES)]
        except (TypeError, ValueError):
            # both libraries read deeper nesting than they can write
            return ["the payload does not fit; it is nested too deeply to say where"]

    def _first(self, data: Any) -> Iterable[Any]:
        try:
            self._validator.validate(data)
        except jsonschema_rs.ValidationError as error:
            yield error


def _fingerprint(document: Any, references: Mapping[str, Any]) -> bytes:
    """SHA-256 of the documents, whatever their spacing and order of keys."""
    said = orjson.dumps([document, references], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"JSON" + said).digest()


def _place(error: Any) -> str:
    place = _printable("/".join(["", *map(str, error.instance_path)]))
    rule = _printable("/".join(["#", *map(str, error.schema_path)]))
    return f"{place or 'the payload'} breaks {rule}"


def _printable(text: str) -> str:
    """Names of properties are a stranger's: neither SQL nor protobuf holds every character."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:200])


def _first_line(error: Exception) -> str:
    """What is wrong and where; the library's second paragraph, without the instance."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:500]
