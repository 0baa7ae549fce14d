"""How often a JSON Schema may look at one and the same place of a document.

Explaining why a document does not fit visits every branch that leads to a place, so its cost grows
with their number: with a power of the document's depth where a schema comes back to itself by more
than one branch. The sender of a webhook chooses that depth. What is here tells such schemas apart
before any document is looked at (strongly connected components: R. Tarjan, 1972).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

__all__ = ["Ways", "ways"]

#: Keywords of which each place of a document meets one schema at most.
APART: Final = frozenset(
    {"properties", "additionalProperties", "items", "prefixItems", "additionalItems"}
)
ONE: Final = (
    *("additionalProperties", "additionalItems", "propertyNames", "contains", "not"),
    *("if", "then", "else", "unevaluatedProperties", "unevaluatedItems"),
)
SEVERAL: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED: Final = ("properties", "patternProperties", "dependentSchemas", "dependencies")
#: References whose target is not looked for here.
ELSEWHERE: Final = ("$dynamicRef", "$recursiveRef")

Edge = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Ways:
    """The most ways in which one place of a document is reached, if none comes back to itself.

    ``endless``: some do, and their number grows with the depth of a document; or it is not known,
    as with a reference to an anchor.
    """

    count: int
    endless: bool


def ways(document: Any, references: Mapping[str, Any]) -> Ways:
    """Count the ways through a schema: about 5 µs for each schema within it."""
    endless = False
    # schemas are told apart by where they are in memory: the documents keep them there
    edges: dict[int, list[tuple[str, int]]] = {}
    waiting = [(document, document)]
    while waiting:
        schema, root = waiting.pop()
        if not isinstance(schema, dict) or id(schema) in edges:
            continue
        found = edges[id(schema)] = []
        for keyword, inner in _inner(schema):
            if isinstance(inner, dict):
                found.append((keyword, id(inner)))
                waiting.append((inner, root))
        if "$ref" in schema:
            inner, root = _target(str(schema["$ref"]), root, references)
            endless = endless or inner is None
            if isinstance(inner, dict):
                found.append(("$ref", id(inner)))
                waiting.append((inner, root))
        endless = endless or any(keyword in schema for keyword in ELSEWHERE)
    if not isinstance(document, dict):
        return Ways(1, endless)
    found_ways = _most(id(document), edges)
    return Ways(found_ways.count, endless or found_ways.endless)


def _inner(schema: Mapping[str, Any]) -> Iterator[Edge]:
    for keyword in ONE:
        yield keyword, schema.get(keyword)
    items = schema.get("items")
    for inner in items if isinstance(items, list) else [items]:
        yield "items", inner
    # a reference may lead to what nobody has checked to be a schema
    for keyword in SEVERAL:
        if isinstance(found := schema.get(keyword), list):
            yield from ((keyword, inner) for inner in found)
    for keyword in NAMED:
        if isinstance(found := schema.get(keyword), dict):
            yield from ((keyword, inner) for inner in found.values())


def _target(ref: str, root: Any, references: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a reference leads to and the document that has it; None for what is not found."""
    name, _, pointer = ref.partition("#")
    own = str(root.get("$id", "")) if isinstance(root, dict) else ""
    if name and name != own.partition("#")[0]:
        root = next((d for n, d in references.items() if name in (n, urljoin(own, n))), None)
    if pointer and not pointer.startswith("/"):
        return None, root
    value: Any = root
    for key in pointer.split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            value = None
    return value, root


def _most(root: int, edges: Mapping[int, list[tuple[str, int]]]) -> Ways:
    totals: dict[int, int] = {}
    endless = False
    for component in _components(root, edges):
        inside = set(component)
        total = 0
        for node in component:
            back = [keyword for keyword, to in edges[node] if to in inside]
            endless = endless or (len(back) > 1 and not APART.issuperset(back))
            out = [(keyword, totals[to]) for keyword, to in edges[node] if to not in inside]
            total += 1 + sum(count for keyword, count in out if keyword not in APART)
            total += max((count for keyword, count in out if keyword in APART), default=0)
        totals |= dict.fromkeys(component, total)
    return Ways(totals[root], endless)


def _components(root: int, edges: Mapping[int, list[tuple[str, int]]]) -> Iterator[list[int]]:
    """Strongly connected components, each behind all that it leads to; without recursion."""
    index: dict[int, int] = {root: 0}
    low: dict[int, int] = {root: 0}
    kept, open_ = [root], {root}
    path = [(root, iter(edges[root]))]
    while path:
        node, rest = path[-1]
        for _, to in rest:
            if to not in index:
                index[to] = low[to] = len(index)
                kept.append(to)
                open_.add(to)
                path.append((to, iter(edges[to])))
                break
            if to in open_:
                low[node] = min(low[node], index[to])
        else:
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[node])
            if low[node] == index[node]:
                at = kept.index(node)
                component = kept[at:]
                del kept[at:]
                open_.difference_update(component)
                yield component
