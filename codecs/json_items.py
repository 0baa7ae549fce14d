"""The items of lists within a JSON text, each as it was written, and what is around them.

Nothing is converted and written back: an item keeps its digits, its spaces, and names that stand
twice. Values are passed over in C, one at a time, in linear time.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Group", "Shape", "TooManyError", "grouped", "items_of", "members_of", "value_of"]

#: Where the items are: ``[]`` is a list of them, ``[{…}]`` a list of objects that have such lists,
#: ``{"events": []}`` an object that has one by this name; ``*_events`` is any name that ends so.
Shape = Sequence[Any] | Mapping[str, Any]
#: Most characters that are written more than once, for all items of a text together.
MAX_AROUND: Final = 8 * 1024 * 1024

# numbers are not read: they may be of any length
_scan = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).scan_once  # type: ignore[attr-defined]
_scan_text = json.decoder.scanstring  # type: ignore[attr-defined]
_blank = re.compile(r"[ \t\n\r]*").match


class TooManyError(ValueError):
    """There are more items than are wanted, or what is around them would be repeated too often."""


@dataclass(frozen=True, slots=True)
class Group:
    """Items of one list: their places in the text, and what each of them is written within."""

    before: str
    after: str
    spans: Sequence[tuple[int, int]]

    def texts(self, text: str) -> Iterator[str]:
        """Each item of the text, within what is around it."""
        for start, end in self.spans:
            yield f"{self.before}{text[start:end]}{self.after}"


def grouped(text: str, shape: Shape, most: int) -> list[Group] | None:
    """The items of a text of this shape, in order; None where it has none of the lists.

    Around the items of a list that is the whole text there is nothing. Others stay within the
    objects that they stand in, each of which has this one item and none of its other lists. Of a
    name that an object has twice the last counts.

    Raises:
        TooManyError: more than ``most``, or see :data:`MAX_AROUND`.
        ValueError, RecursionError: it is not JSON, or nested too deep.
    """
    reader = _Reader(text, most)
    if reader.next() != ("{" if isinstance(shape, Mapping) else "["):
        return None
    found = reader.value(shape)
    if reader.next() or found is None:
        return None
    if not shape:
        return [Group("", "", group.spans) for group in found]
    _check_around(found)
    return found


def value_of(text: str) -> Any:
    """The value that a text is, its numbers as texts. Raises ValueError, RecursionError."""
    reader = _Reader(text, 0)
    value = reader.pass_over()
    if reader.next():
        raise ValueError("more than one value")
    return value


def members_of(text: str) -> dict[str, str]:
    """The members of an object as they are written, by their names; of a name twice the last.

    Raises:
        ValueError, RecursionError: it is no JSON, no object, or nested too deep.
    """
    reader = _Reader(text, 0)
    found = {}
    if reader.next() != "{":
        raise ValueError("no object")
    for name, _ in reader._members():
        reader.next()
        start = reader.at
        reader.pass_over()
        found[name] = text[start : reader.at]
    if reader.next():
        raise ValueError("more than one value")
    return found


def items_of(value: Any, shape: Shape) -> list[Any]:
    """The items in a value of this shape, as :func:`grouped` finds them in its text."""
    if isinstance(shape, Mapping):
        inside = value.items() if isinstance(value, dict) else ()
        lists = ((found, _inner(shape, name)) for name, found in inside)
        return [
            item for found, inner in lists if inner is not None for item in items_of(found, inner)
        ]
    if not isinstance(value, list) or not shape:
        return value if isinstance(value, list) else []
    return [item for one in value for item in items_of(one, shape[0]) or [one]]


class _Reader:
    """A place in a text; each method leaves it behind what it has read."""

    def __init__(self, text: str, most: int) -> None:
        self.text = text
        self.at = 0
        self._left = most

    def next(self) -> str:
        """The next character that is not blank; "" at the end."""
        match = _blank(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.text[self.at : self.at + 1]

    def pass_over(self) -> Any:
        """Read any value."""
        self.next()
        try:
            value, self.at = _scan(self.text, self.at)
        except StopIteration as error:
            raise ValueError(f"no JSON at character {self.at}") from error
        return value

    def value(self, shape: Shape) -> list[Group] | None:
        """Read a value: its groups, where it has this shape; empty where its lists are."""
        char = self.next()
        if isinstance(shape, Mapping) and char == "{":
            return self._object(shape)
        if isinstance(shape, Mapping) or char != "[":
            self.pass_over()
            return None
        return self._list(shape[0]) if shape else self._items()

    def _items(self) -> list[Group]:
        spans = []
        for start in self._elements():
            self.pass_over()
            self._count()
            spans.append((start, self.at))
        return [Group("[", "]", spans)] if spans else []

    def _list(self, inner: Shape) -> list[Group]:
        groups: list[Group] = []
        for start in self._elements():
            if found := self.value(inner):
                groups += _within(found, "[", "]")
            else:
                # one without any of the lists, or with empty ones, is an item itself
                self._count()
                groups.append(Group("[", "]", [(start, self.at)]))
        return groups

    def _object(self, shape: Mapping[str, Any]) -> list[Group] | None:
        #: Of each member its name, where it begins, and where it ends.
        members: list[tuple[str, int, int]] = []
        #: By name, which member it is, where its value begins, and the groups of that.
        lists: dict[str, tuple[int, int, list[Group]]] = {}
        for name, start in self._members():
            value, inner = self.at, _inner(shape, name)
            if inner is None:
                self.pass_over()
            else:
                found = self.value(inner)
                lists.pop(name, None)
                if found is not None:
                    lists[name] = len(members), value, found
            members.append((name, start, self.at))
        if not lists:
            return None
        groups: list[Group] = []
        for place, value, found in lists.values():
            # what stands in its other lists is other items
            rest = [
                (n, self.text[s:e]) for n, (name, s, e) in enumerate(members) if name not in lists
            ]
            before = [part for n, part in rest if n < place] + [
                self.text[members[place][1] : value]
            ]
            after = [part for n, part in rest if n > place]
            groups += _within(found, "{" + ",".join(before), ",".join(["", *after]) + "}")
        return groups

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooManyError

    def _elements(self) -> Iterator[int]:
        """Where each element of a list begins; whoever is given it reads the element."""
        self.at += 1
        if self.next() == "]":
            self.at += 1
            return
        while True:
            self.next()
            yield self.at
            if self._is_last("]"):
                return

    def _members(self) -> Iterator[tuple[str, int]]:
        """Each name of an object and where it begins; whoever is given it reads the value."""
        self.at += 1
        if self.next() == "}":
            self.at += 1
            return
        while True:
            if self.next() != '"':
                raise ValueError(f"no name at character {self.at}")
            start = self.at
            name, self.at = _scan_text(self.text, start + 1, False)
            if self.next() != ":":
                raise ValueError(f"no colon at character {self.at}")
            self.at += 1
            yield name, start
            if self._is_last("}"):
                return

    def _is_last(self, end: str) -> bool:
        char = self.next()
        if char not in (",", end):
            raise ValueError(f"neither a comma nor {end} at character {self.at}")
        self.at += 1
        return char == end


def _inner(shape: Mapping[str, Any], name: str) -> Shape | None:
    if name in shape:
        return shape[name]  # type: ignore[no-any-return]
    ends = (inner for glob, inner in shape.items() if glob[:1] == "*" and name.endswith(glob[1:]))
    return next(ends, None)


def _within(groups: Sequence[Group], before: str, after: str) -> list[Group]:
    """The groups within something more. Raises TooManyError."""
    if len(groups) * (len(before) + len(after)) > MAX_AROUND:
        raise TooManyError
    return [Group(before + group.before, group.after + after, group.spans) for group in groups]


def _check_around(groups: Sequence[Group]) -> None:
    if sum(len(group.spans) * len(group.before + group.after) for group in groups) > MAX_AROUND:
        raise TooManyError
