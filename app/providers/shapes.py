"""Shapes: whether a body can be of the type that its sender says, where that is not signed.

A type in a header that no signature covers is whatever who repeats a captured webhook likes. The
body is signed, and says what it is about. A provider's file lists its types, each with the shape of
its bodies, in words:

``pull_request``
    the body has this name (a dotted path), be it null
``!review``
    it has not
``state~open|closed``
    where it has ``state``, that is one of these; ``*`` at the end stands for the rest, null is ""
``.``
    it has no name that other types need; ``changes?`` excepts one
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import OBJECTS, look_into
from hookstream.app.providers.lookup import value_at, word_at

__all__ = ["UNVERIFIED", "Shapes", "is_unverified"]

#: What the type of an event begins with whose body does not bear it out.
UNVERIFIED: Final = "unverified"
_UNVERIFIED_DOT: Final = f"{UNVERIFIED}."
_MISSING: Final = object()


def is_unverified(event_type: str) -> bool:
    """Whether a type is one that its body does not bear out."""
    return event_type.startswith(_UNVERIFIED_DOT)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Names that a body has, names at its top and paths that it has not, and values."""

    names: frozenset[str]
    paths: tuple[str, ...]
    lacks: frozenset[str]
    values: tuple[tuple[str, tuple[str, ...]], ...]

    def fits(self, payload: Any, names: frozenset[str]) -> bool:
        """Whether a body with these names at its top has the shape."""
        return (
            self.names <= names
            and self.lacks.isdisjoint(names)
            and all(value_at(payload, path, _MISSING) is not _MISSING for path in self.paths)
            and all(_is_one_of(payload, path, known) for path, known in self.values)
        )

    def may_fit(self, body: bytes) -> bool:
        """The same for a body that is not parsed: whether its names stand anywhere in it."""
        steps = [step for path in (*self.names, *self.paths) for step in path.split(".")]
        return bool(steps) and all(f'"{step}"'.encode() in body for step in steps)


class Shapes:
    """The types of a provider, each with the shape of its bodies."""

    def __init__(
        self, shapes: Mapping[str, str], *, own_name: str = "", everywhere: str = ""
    ) -> None:
        """``own_name``: where a body that is of a type not listed has an object of its name: ``{}``
        at its top, ``data.{}`` within ``data``; "" where bodies have none. ``everywhere``: names
        that tell no type.
        """
        self._own_name = own_name
        needed = {word for shape in shapes.values() for word in shape.split() if _is_name(word)}
        needed -= set(everywhere.split())
        self._shapes = {name: _parsed(shape, needed) for name, shape in shapes.items()}
        self._kinds = {name.partition(".")[0] for name in shapes}

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Any:
        return iter(self._shapes)

    def checked(self, claimed: str, payload: Any, body: bytes) -> str:
        """The type's name, or ``unverified.`` and the name where the body is of another type.

        ``payload`` is None where ``body`` is not parsed. A body that fits none of the types listed
        speaks against nothing: a provider may have new types, and change those it has.
        """
        if not claimed or self._is_borne_out(claimed, payload, body):
            return claimed
        return f"{UNVERIFIED}.{claimed}"

    def fitting(self, body: bytes) -> str:
        """The first type that a body fits; "" for none."""
        try:
            payload = look_into(body)
        except BadRequestError:
            return ""
        names = _names(payload)
        fits = (name for name, shape in self._shapes.items() if shape.fits(payload, names))
        return next(fits, "")

    def _is_borne_out(self, claimed: str, payload: Any, body: bytes) -> bool:
        if not claimed.isprintable():
            return False
        shape = self._shapes.get(claimed)
        if payload is None:
            return (shape is not None and shape.may_fit(body)) or not any(
                other.may_fit(body) for other in self._shapes.values()
            )
        names = _names(payload)
        if shape is not None and shape.fits(payload, names):
            return True
        if shape is None and claimed.partition(".")[0] in self._kinds:
            # pull_request.closed is what the name and the body's action make together
            return False
        if (
            shape is None
            and self._own_name
            and any(
                value_at(payload, self._own_name.format(name)) is not None
                for name in (claimed, claimed.removesuffix("s"))
            )
        ):
            return True
        return not any(known.fits(payload, names) for known in self._shapes.values())


def _names(payload: Any) -> frozenset[str]:
    return frozenset(payload) if isinstance(payload, OBJECTS) else frozenset()


def _is_name(word: str) -> bool:
    return word.isidentifier()


def _parsed(shape: str, needed: set[str]) -> _Shape:
    names, paths, lacks, values, excepted = set(), [], set(), [], set()
    for word in shape.split():
        path, tilde, known = word.partition("~")
        if tilde:
            values.append((path, tuple(known.split("|"))))
            excepted.add(path)
        elif word.startswith("!"):
            lacks.add(word[1:])
        elif word.endswith("?"):
            excepted.add(word[:-1])
        elif _is_name(word):
            names.add(word)
        elif word != ".":
            paths.append(word)
    if "." in shape.split():
        lacks |= needed - names - excepted
    return _Shape(frozenset(names), tuple(paths), frozenset(lacks), tuple(values))


def _is_one_of(payload: Any, path: str, known: tuple[str, ...]) -> bool:
    if value_at(payload, path, _MISSING) is _MISSING:
        return True
    text = word_at(payload, path)
    return any(text.startswith(one[:-1]) if one.endswith("*") else text == one for one in known)
