"""How often a JSON Schema may look at one and the same place of a document.

Explaining why a document does not fit visits every branch that leads to a place, so its cost grows
with their number: with a power of the document's depth where a schema comes back to itself by more
than one branch. The sender of a webhook chooses that depth. What is here tells such schemas apart
before any document is looked at (strongly connected components: R. Tarjan, 1972).
"""

import re
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
#: Keywords whose values are compared with one of the document.
COMPARED: Final = ("enum", "const", "required", "dependentRequired", "patternProperties")
REPEAT: Final = re.compile(r"\{(\d{1,6})(?:,(\d{0,6}))?\}")
#: References whose target is not looked for here.
ELSEWHERE: Final = ("$dynamicRef", "$recursiveRef")

Edge = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Ways:
    """The most ways in which one place of a document is reached, if none comes back to itself.

    ``endless``: some do, and their number grows with the depth of a document; or it is not known,
    as with a reference to an anchor. ``work``: what is compared on all of those ways together, in
    values; ``pieces``: of patterns that one text there may meet.
    """

    count: int
    endless: bool
    work: int = 1
    pieces: int = 0


def ways(document: Any, references: Mapping[str, Any]) -> Ways:
    """Count the ways through a schema: about 5 µs for each schema within it."""
    endless = False
    # schemas are told apart by where they are in memory: the documents keep them there
    edges: dict[int, list[tuple[str, int]]] = {}
    work: dict[int, int] = {}
    pieces: dict[int, int] = {}
    waiting = [(document, document)]
    while waiting:
        schema, root = waiting.pop()
        if not isinstance(schema, dict) or id(schema) in edges:
            continue
        found = edges[id(schema)] = []
        work[id(schema)] = 1 + sum(_size(schema[key]) for key in COMPARED if key in schema)
        pieces[id(schema)] = _pieces(schema)
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
    parts = list(_components(id(document), edges))
    endless = endless or any(_branches(part, edges) for part in parts)
    most = [_most(id(document), parts, edges, each) for each in (dict.fromkeys(edges, 1), work)]
    return Ways(most[0], endless, most[1], _most(id(document), parts, edges, pieces))


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


def _most(
    root: int,
    parts: list[list[int]],
    edges: Mapping[int, list[tuple[str, int]]],
    weights: Mapping[int, int],
) -> int:
    """What the schemas that one place may meet weigh together."""
    totals: dict[int, int] = {}
    for component in parts:
        inside = set(component)
        total = 0
        for node in component:
            out = [(keyword, totals[to]) for keyword, to in edges[node] if to not in inside]
            total += weights[node] + sum(count for keyword, count in out if keyword not in APART)
            total += max((count for keyword, count in out if keyword in APART), default=0)
        totals |= dict.fromkeys(component, total)
    return totals[root]


def _branches(component: list[int], edges: Mapping[int, list[tuple[str, int]]]) -> bool:
    """Whether a schema comes back to itself by more than one branch."""
    inside = set(component)
    for node in component:
        back = [keyword for keyword, to in edges[node] if to in inside]
        if len(back) > 1 and not APART.issuperset(back):
            return True
    return False


def _size(value: Any) -> int:
    """Values in one."""
    size, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        size += 1
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
    return size


def _pieces(schema: Mapping[str, Any]) -> int:
    named = schema.get("patternProperties")
    patterns = [schema.get("pattern"), *(named if isinstance(named, dict) else ())]
    return sum(_length(pattern) for pattern in patterns if isinstance(pattern, str))


def _length(pattern: str) -> int:
    """Of a pattern whose repetitions are written out; classes are some ranges each."""
    times = 1
    for repeat in REPEAT.finditer(pattern):
        times = min(times * max(int(repeat[1]), int(repeat[2] or 1), 1), 10**6)
    return (len(pattern) + 4 * pattern.count("\\")) * times


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
