"""Which JSON Schema takes every document that another takes, by rule.

A keyword of the reader must be implied by the writer's. What these rules do not understand counts
as implied only when both say the same: a verdict of no difference is a proof, a difference may be
overcautious.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hookstream.codecs.schemas.difference import Difference

__all__ = ["Documents", "document_differences"]

#: Keywords that constrain nothing.
ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "id", "$comment", "$defs", "definitions", "title", "description"}
    | {"default", "examples", "format", "deprecated", "readOnly", "writeOnly"}
    | {"contentMediaType", "contentEncoding", "contentSchema"}
)
#: Keywords whose reader's number must be at most (least) the writer's, and how the rule is called.
AT_MOST: Final = {
    "minimum": "MINIMUM_INCREASED",
    "exclusiveMinimum": "EXCLUSIVE_MINIMUM_INCREASED",
    "minLength": "MIN_LENGTH_INCREASED",
    "minItems": "MIN_ITEMS_INCREASED",
    "minProperties": "MIN_PROPERTIES_INCREASED",
}
AT_LEAST: Final = {
    "maximum": "MAXIMUM_DECREASED",
    "exclusiveMaximum": "EXCLUSIVE_MAXIMUM_DECREASED",
    "maxLength": "MAX_LENGTH_DECREASED",
    "maxItems": "MAX_ITEMS_DECREASED",
    "maxProperties": "MAX_PROPERTIES_DECREASED",
}
#: Keywords that mean something together: of each group all must be the same, or absent.
TOGETHER: Final = (
    ("contains", "minContains", "maxContains"),
    ("if", "then", "else"),
    ("prefixItems", "additionalItems"),
)
UNEVALUATED: Final = ("unevaluatedProperties", "unevaluatedItems")
ITEMS: Final = ("items", "prefixItems", "additionalItems")
OBJECT: Final = ("properties", "patternProperties", "additionalProperties", "required")
ALL_TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
#: References followed one behind another before a schema counts as not understood.
MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Documents:
    """A schema and what it refers to by name."""

    root: Any
    references: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A schema within a document: ``at`` is its place, for telling whether it was here before."""

    value: Any
    root: Any
    references: Mapping[str, Any]
    at: str

    def child(self, value: Any, *keys: str) -> "Node":
        """A schema inside this one."""
        return Node(value, self.root, self.references, "/".join([self.at, *keys]))

    def keyword(self, name: str, default: Any = True) -> "Node":
        """The schema under a keyword."""
        return self.child(self.value.get(name, default), name)

    def resolved(self) -> "Node | None":
        """What a ``$ref`` leads to; None when that is not understood."""
        node = self
        for _ in range(MAX_DEPTH):
            if not isinstance(node.value, dict):
                return node
            if node.value is not node.root and not {"$id", "id"}.isdisjoint(node.value):
                return None
            if "$ref" not in node.value:
                return node
            if set(node.value) - ANNOTATIONS - {"$ref"}:
                return None
            name, _, pointer = str(node.value["$ref"]).partition("#")
            root = node.references.get(name) if name else node.root
            value: Any = root
            for key in pointer.split("/")[1:]:
                key = key.replace("~1", "/").replace("~0", "~")
                if not isinstance(value, dict) or key not in value:
                    return None
                value = value[key]
            if root is None or (pointer and not pointer.startswith("/")):
                return None
            node = Node(value, root, node.references, f"{name}#{pointer}")
        return None


Seen = set[tuple[str, str]]


def document_differences(reader: Documents, writer: Documents) -> list[Difference]:
    """What keeps ``reader`` from taking every document that ``writer`` takes."""
    if _dialect(reader.root) != _dialect(writer.root):
        return [Difference("DIALECT_CHANGED", "$schema", "the two are of different drafts")]
    ours = Node(reader.root, reader.root, reader.references, "#")
    theirs = Node(writer.root, writer.root, writer.references, "#")
    try:
        return list(_schema(ours, theirs, "#", set()))
    except RecursionError:
        return [Difference("NOT_UNDERSTOOD", "#", "nested too deeply")]


def _dialect(document: Any) -> object:
    return document.get("$schema") if isinstance(document, dict) else None


def _schema(reader: Node, writer: Node, path: str, seen: Seen) -> Iterator[Difference]:
    ours, theirs = reader.resolved(), writer.resolved()
    if ours is None or theirs is None:
        yield Difference(
            "NOT_UNDERSTOOD", path, "a $ref beside more or to an anchor, or an $id within"
        )
        return
    if (ours.at, theirs.at) in seen:
        return
    seen.add((ours.at, theirs.at))
    if ours.value in (True, {}) or theirs.value is False:
        return
    if ours.value is False:
        yield Difference("NOTHING_ALLOWED", path, "the reader takes nothing here")
        return
    if theirs.value is True:
        theirs = theirs.child({}, "")
    yield from _type(ours.value, theirs.value, path)
    yield from _values(ours.value, theirs.value, path)
    yield from _bounds(ours.value, theirs.value, path)
    yield from _object(ours, theirs, path, seen)
    yield from _array(ours, theirs, path, seen)
    yield from _rest(ours, theirs, path)


def _type(ours: Any, theirs: Any, path: str) -> Iterator[Difference]:
    if "type" not in ours:
        return
    gone = _types(theirs) - _types(ours)
    if gone:
        yield Difference("TYPE_NARROWED", path, f"the writer may write {', '.join(sorted(gone))}")


def _types(schema: Any) -> frozenset[str]:
    given = schema.get("type")
    if given is None:
        return ALL_TYPES
    names = frozenset([given] if isinstance(given, str) else given)
    return names | {"integer"} if "number" in names else names


def _values(ours: Any, theirs: Any, path: str) -> Iterator[Difference]:
    for keyword in ("const", "enum"):
        if keyword not in ours:
            continue
        allowed = [ours["const"]] if keyword == "const" else ours["enum"]
        given = [theirs["const"]] if "const" in theirs else theirs.get("enum")
        if given is None or not all(any(_same(v, a) for a in allowed) for v in given):
            yield Difference("ENUM_NARROWED", path, f"the writer has values outside of {keyword}")


def _bounds(ours: Any, theirs: Any, path: str) -> Iterator[Difference]:
    for rules, fits in ((AT_MOST, _at_most), (AT_LEAST, _at_least)):
        for keyword, rule in rules.items():
            if keyword in ours and not fits(ours[keyword], theirs.get(keyword)):
                yield Difference(
                    rule, path, f"{theirs.get(keyword, 'no limit')} became {ours[keyword]}"
                )
    if "multipleOf" in ours and not _same(ours["multipleOf"], theirs.get("multipleOf")):
        yield Difference("MULTIPLE_OF_CHANGED", path, f"to {ours['multipleOf']}")
    if "pattern" in ours and ours["pattern"] != theirs.get("pattern"):
        yield Difference("PATTERN_CHANGED", path, "the writer's strings may not match it")
    if ours.get("uniqueItems") and not theirs.get("uniqueItems"):
        yield Difference("UNIQUE_ITEMS_ADDED", path, "the writer may repeat items")


def _at_most(ours: Any, theirs: Any) -> bool:
    # draft 4 has booleans here, which say nothing alone
    if isinstance(ours, bool) or isinstance(theirs, bool) or theirs is None:
        return _same(ours, theirs)
    return bool(ours <= theirs)


def _at_least(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bool) or isinstance(theirs, bool) or theirs is None:
        return _same(ours, theirs)
    return bool(ours >= theirs)


def _object(reader: Node, writer: Node, path: str, seen: Seen) -> Iterator[Difference]:
    ours, theirs = reader.value, writer.value
    for name in ours.get("required", ()):
        if name not in theirs.get("required", ()):
            yield Difference(
                "REQUIRED_ATTRIBUTE_ADDED", f"{path}/{name}", "the writer may leave it out"
            )
    mine, given = ours.get("properties", {}), theirs.get("properties", {})
    if "patternProperties" in ours or "patternProperties" in theirs:
        same = all(_same_here(reader, writer, key) for key in OBJECT[1:3])
        if not same or set(mine) != set(given):
            yield Difference("NOT_UNDERSTOOD", path, "patternProperties, and more that differs")
            return
    for name, schema in mine.items():
        place = f"{path}/{name}"
        if name in given:
            theirs_there = writer.child(given[name], "properties", name)
        else:
            theirs_there = writer.keyword("additionalProperties")
        found = list(_schema(reader.child(schema, "properties", name), theirs_there, place, seen))
        if found and name not in given:
            yield Difference(
                "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL",
                place,
                "the writer may write anything there",
            )
        else:
            yield from found
    if "additionalProperties" not in ours:
        return
    for name in given:
        if name not in mine:
            found = list(
                _schema(
                    reader.keyword("additionalProperties"),
                    writer.child(given[name], "properties", name),
                    f"{path}/{name}",
                    seen,
                )
            )
            if found:
                yield Difference(
                    "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL",
                    f"{path}/{name}",
                    "the writer may write it and the reader does not take it",
                )
    found = list(
        _schema(
            reader.keyword("additionalProperties"),
            writer.keyword("additionalProperties"),
            path,
            seen,
        )
    )
    if found:
        yield Difference(
            "ADDITIONAL_PROPERTIES_NARROWED", path, "the writer may write properties of any name"
        )


def _array(reader: Node, writer: Node, path: str, seen: Seen) -> Iterator[Difference]:
    if "items" not in reader.value:
        return
    tuples = any(
        isinstance(node.value.get("items"), list) or "prefixItems" in node.value
        for node in (reader, writer)
    )
    if tuples:
        if not all(_same_here(reader, writer, key) for key in ITEMS):
            yield Difference("ITEMS_CHANGED", path, "items by their place differ")
        return
    yield from _schema(reader.keyword("items"), writer.keyword("items"), f"{path}/[]", seen)


def _rest(reader: Node, writer: Node, path: str) -> Iterator[Difference]:
    """What is not understood: implied only by the very same."""
    known = {*ANNOTATIONS, *AT_MOST, *AT_LEAST, *OBJECT, "type", "const", "enum", "items"}
    known |= {"multipleOf", "pattern", "uniqueItems"}
    for group in TOGETHER:
        known |= set(group)
        if any(key in reader.value for key in group) and not all(
            _same_here(reader, writer, key) for key in group
        ):
            yield Difference("COMBINATION_CHANGED", path, f"{group[0]} differs")
    for key in sorted(set(reader.value) - known):
        if not _same_here(reader, writer, key):
            yield Difference("COMBINATION_CHANGED", path, f"{key} differs")
    if any(key in reader.value for key in UNEVALUATED) and not all(
        _same_here(reader, writer, key) for key in {*reader.value, *writer.value} - ANNOTATIONS
    ):
        yield Difference("NOT_UNDERSTOOD", path, "unevaluated keywords, and more that differs")


def _same_here(reader: Node, writer: Node, key: str) -> bool:
    """Whether a keyword says the same in both; a $ref within only in the same document."""
    ours, theirs = reader.value.get(key), writer.value.get(key)
    if not _same(ours, theirs) or (key in reader.value) != (key in writer.value):
        return False
    return not _refers(ours) or (
        _same(reader.root, writer.root) and _same(reader.references, writer.references)
    )


def _refers(value: Any) -> bool:
    if isinstance(value, dict):
        return any(
            key in ("$ref", "$dynamicRef", "$recursiveRef") or _refers(inner)
            for key, inner in value.items()
        )
    return isinstance(value, list) and any(map(_refers, value))


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
