"""The JSON Schema verdict against real documents, judged by another library than the verdict's."""

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookstream.codecs.schemas import JsonSchema
from hookstream.codecs.schemas.containment import covers
from hookstream.codecs.schemas.json_rules import document_differences

with pytest.MonkeyPatch.context() as _patch:
    # formats are not judged here; where this is there, their grammars are compiled for seconds
    _patch.setitem(sys.modules, "rfc3987_syntax", None)
    import jsonschema

names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 6) | st.sampled_from([0.5, "", "x", "xy", "abcd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
SCALARS: list[Any] = [None, True, -3, 0, 1, 3, 4, 6, 0.5, "", "x", "xy", "abcdef"]
#: Documents on either side of what the schemas below can say.
DOCUMENTS: list[Any] = [
    *SCALARS,
    *([], {}, [1, 1], [0, "x", None], [1, 2, 3, 4, 5], [[6]], {"a": 1, "b": "x", "c": None}),
    *([value] for value in SCALARS),
    *({name: value} for name in "abc" for value in SCALARS),
    *({"a": value, "z": 5} for value in SCALARS),
    *({"a": {"a": value}} for value in SCALARS),
]
types = st.sampled_from(["null", "boolean", "object", "array", "number", "string", "integer"])


def schemas(refs: tuple[str, ...] = ()) -> st.SearchStrategy[Any]:
    """Small schemas over the same few names and numbers as the documents.

    What refers back does so from deeper in the document: the judge has no end otherwise.
    """
    back = st.sampled_from(refs or ("",)).map(lambda ref: {"properties": {"a": {"$ref": ref}}})
    return st.recursive(
        st.booleans() | plain() | (back if refs else st.nothing()),
        lambda inner: st.builds(lambda one, more: {**one, **more}, plain(), nested(inner)),
        max_leaves=4,
    )


def keywords(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """At most two keywords at a time: schemas of many contain each other too seldom."""
    one = st.sampled_from(sorted(known)).flatmap(
        lambda name: known[name].map(lambda value: (name, value))
    )
    return st.lists(one, max_size=2).map(dict)


def plain() -> st.SearchStrategy[dict[str, Any]]:
    small = st.integers(0, 4)
    return keywords(
        {
            "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
            "enum": st.lists(values, min_size=1, max_size=3),
            "minimum": small,
            "exclusiveMaximum": small,
            "multipleOf": st.integers(1, 3),
            "maxLength": small,
            "minLength": small,
            "pattern": st.sampled_from(["^x", "y$"]),
            "maxItems": small,
            "minProperties": small,
            "uniqueItems": st.booleans(),
            "required": st.lists(names, max_size=2, unique=True),
            "title": st.text(max_size=2),
        },
    )


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=2)
    return keywords(
        {
            "properties": st.dictionaries(names, inner, max_size=2),
            "additionalProperties": inner,
            "patternProperties": st.dictionaries(st.just("^a"), inner, max_size=1),
            "items": inner,
            "prefixItems": several,
            "contains": inner,
            "minContains": st.integers(0, 1),
            "allOf": several,
            "anyOf": several,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "unevaluatedProperties": inner,
        },
    )


recursive = st.builds(
    lambda root, node: {**(root if isinstance(root, dict) else {}), "$defs": {"n": node}},
    schemas(("#/$defs/n", "#")),
    schemas(("#/$defs/n",)).map(lambda n: {"properties": {"a": n}}),
)


#: One keyword with two values, or one that only the reader has.
one_keyword = (
    (plain() | nested(plain() | st.booleans()))
    .flatmap(
        lambda writer: st.tuples(
            st.just(writer),
            (plain() | nested(plain() | st.booleans())).filter(lambda r: len(r) == 1),
        )
    )
    .map(lambda pair: (pair[1], {k: v for k, v in pair[0].items() if k in pair[1]}))
)


def edits(writer: Any) -> st.SearchStrategy[Any]:
    """The schema with a keyword dropped or put in."""
    if not isinstance(writer, dict):
        return schemas()
    dropped = st.sampled_from(sorted(set(writer) - {"$defs"}) or [""]).map(
        lambda key: {name: value for name, value in writer.items() if name != key}
    )
    more = plain() | nested(plain() | st.booleans())
    return dropped | more.map(lambda more: {**writer, **more})


@settings(max_examples=600)
@given(
    st.tuples(schemas(), schemas())
    | (schemas() | recursive).flatmap(lambda writer: st.tuples(edits(writer), st.just(writer)))
    | one_keyword
    | st.tuples(plain(), plain())
    | st.tuples(nested(plain()), nested(plain()))
    | st.tuples(recursive, recursive)
)
def test_json_verdict_of_compatible_holds_for_real_documents(pair: tuple[Any, Any]) -> None:
    reader, writer = (JsonSchema(schema, {}) for schema in pair)
    proven = [not reader.differences(writer, proof=covers)]
    # each must be right alone: the library's proof, and the rules
    proven.append(covers((pair[0], {}), (pair[1], {})))
    proven.append(not document_differences(reader.documents, writer.documents))
    if not any(proven):
        return
    takes = jsonschema.Draft202012Validator(pair[0])
    gives = jsonschema.Draft202012Validator(pair[1])
    for document in DOCUMENTS:
        if gives.is_valid(document):
            assert takes.is_valid(document), (pair, document, proven)
