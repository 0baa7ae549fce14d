"""What the schema registry's routes take and give, in Confluent's form."""

import re
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from hookstream.app.errors import SchemaRegistryError
from hookstream.app.schema_registry.builtin import NAMES
from hookstream.app.schema_registry.store import MOST_LISTED, Part, Version
from hookstream.app.web.access import TENANT_KEY
from hookstream.codecs.schemas import Reference, Schema, SchemaType, parse

__all__ = [
    "ConfigIn",
    "SchemaIn",
    "answer",
    "changeable",
    "flag",
    "given",
    "number",
    "page",
    "part",
    "raw",
    "read",
    "schema_id",
    "schema_in",
    "schema_out",
    "subject",
    "tenant",
    "text",
    "version_out",
]

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
MAX_SCHEMA_CHARACTERS = 1_000_000
MAX_VERSION = 2**31 - 1
MAX_SUBJECT_CHARACTERS = 249

Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")


class ReferenceIn(BaseModel):
    """Another subject's version, by the name that the schema imports it by."""

    name: str
    subject: str
    version: int = Field(ge=1, le=MAX_VERSION)


class SchemaIn(BaseModel):
    """A schema to register, look up or compare; what else clients send is passed over."""

    text: str = Field(alias="schema")
    type: str = Field("AVRO", alias="schemaType")
    references: list[ReferenceIn] = []
    rules: Any = Field(None, alias="ruleSet")


class ConfigIn(BaseModel):
    """A compatibility mode to set."""

    compatibility: str


def read(body: bytes, model: type[Model], code: int) -> Model:
    """A body as ``model``; what does not fit is refused with ``code``."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise SchemaRegistryError(422, code, f"{place or 'body'}: {first['msg']}") from error


def schema_in(body: bytes) -> Schema:
    """The schema in a body."""
    given = read(body, SchemaIn, 42201)
    if len(given.text) > MAX_SCHEMA_CHARACTERS:
        raise SchemaRegistryError(422, 42209, f"Schema is over {MAX_SCHEMA_CHARACTERS} characters")
    if given.rules:
        raise SchemaRegistryError(422, 42201, "Invalid schema: rule sets are not handled")
    if given.type.upper() not in list(SchemaType):
        raise SchemaRegistryError(
            422,
            42201,
            f"Invalid schema: type {given.type[:32]} is not handled, "
            f"schemaType is one of {', '.join(SchemaType)}",
        )
    references = tuple(Reference(r.name, r.subject, r.version) for r in given.references)
    if "\0" in given.text or any("\0" in r.name + r.subject for r in references):
        raise SchemaRegistryError(422, 42201, "Invalid schema: NUL cannot be stored")
    return Schema(SchemaType(given.type.upper()), given.text, references)


def answer(value: object, status: int = 200) -> web.Response:
    """A JSON response as Confluent's clients expect it."""
    return web.Response(body=orjson.dumps(value), status=status, content_type=CONTENT_TYPE)


def raw(schema: str) -> web.Response:
    """A schema's text as it is."""
    return web.Response(body=schema.encode(), content_type=CONTENT_TYPE)


def tenant(request: web.Request) -> str:
    """The tenant of the request's key."""
    return request[TENANT_KEY]


def subject(request: web.Request, default: str | None = None) -> str:
    """The subject in the path."""
    name = request.match_info.get("subject", default)
    assert name is not None
    if len(name) > MAX_SUBJECT_CHARACTERS or not (name.isprintable() or name == default):
        raise SchemaRegistryError(
            422,
            42208,
            f"Invalid subject: at most {MAX_SUBJECT_CHARACTERS} characters, all of them printable",
        )
    return name


def changeable(request: web.Request, default: str | None = None) -> str:
    """The subject in the path, if it is not one of ours."""
    name = subject(request, default)
    if name in NAMES:
        raise SchemaRegistryError(422, 42205, f"Operation not permitted: {name} is built in")
    return name


def number(request: web.Request) -> int:
    """The version in the path; -1 for the latest."""
    given = request.match_info["version"]
    if given in ("latest", "-1"):
        return -1
    if re.fullmatch("[1-9][0-9]{0,9}", given) and int(given) <= MAX_VERSION:
        return int(given)
    raise SchemaRegistryError(
        422,
        42202,
        f"The specified version '{given[:64]}' is not a valid version id. Allowed values are "
        'between [1, 2^31-1] and the string "latest"',
    )


def schema_id(request: web.Request) -> int:
    """The id in the path."""
    given = request.match_info["id"]
    if re.fullmatch("[0-9]{1,10}", given) and int(given) <= MAX_VERSION:
        return int(given)
    raise SchemaRegistryError(404, 404, "HTTP 404 Not Found")


def flag(request: web.Request, name: str) -> bool:
    """A truth value of the query."""
    return request.query.get(name, "").lower() == "true"


def given(request: web.Request, name: str) -> str | None:
    """A text of the query, None for none; 400 for one that no name in a database could be."""
    found = request.query.get(name)
    if found is not None and not found.isprintable():
        raise SchemaRegistryError(400, 400, f"{name}: a text of printable characters")
    return found


def part(request: web.Request) -> Part:
    """The part of a list that ``offset`` and ``limit`` ask for; a negative limit is none."""
    try:
        offset = int(request.query.get("offset", "0")[:10])
        limit = int(request.query.get("limit", "-1")[:10])
    except ValueError as error:
        raise SchemaRegistryError(400, 400, "offset and limit are whole numbers") from error
    return max(0, offset), MOST_LISTED if limit < 0 else min(limit, MOST_LISTED)


def page(request: web.Request, items: list[Item]) -> list[Item]:
    """That part of what is there already."""
    offset, limit = part(request)
    return items[offset : offset + limit]


def text(request: web.Request, schema: Schema, compiled: bytes) -> str:
    """The schema's text, in the ``format`` that is asked for."""
    if schema.type is SchemaType.PROTOBUF and request.query.get("format") == "serialized":
        parsed: Any = parse(schema, {}, compiled=compiled)
        return str(parsed.base64)
    return schema.text


def schema_out(schema: Schema, source: str) -> dict[str, Any]:
    """A schema as clients get it."""
    out: dict[str, Any] = {"schemaType": schema.type, "schema": source}
    if schema.references:
        out["references"] = [
            {"name": r.name, "subject": r.subject, "version": r.version} for r in schema.references
        ]
    return out


def version_out(version: Version, source: str) -> dict[str, Any]:
    """A version as clients get it."""
    return {
        "subject": version.subject,
        "version": version.number,
        "id": version.schema_id,
        **schema_out(version.schema, source),
    }
