"""Which events a subscription wants: type globs and a CEL condition."""

import difflib
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.ids import own_tool_id
from hookstream.app.providers import correlation_keys
from hookstream.app.routing.cel_engine import cel
from hookstream.app.routing.condition_cost import Cost, estimate
from hookstream.app.routing.condition_parts import Tree, named_parts, pruned
from hookstream.codecs.envelope import Event

__all__ = [
    "Condition",
    "Facts",
    "Matcher",
    "TypePattern",
    "compile_condition",
    "compile_types",
    "error_kind",
    "facts",
    "refuse_costly",
    "refuse_unknown_fields",
]

#: Conditions and globs that are remembered by their text: more than one installation has.
COMPILED = 32_768
#: Of an engine's message, which may quote the payload.
MAX_ERROR_LENGTH = 300
#: The parts of what may be named, all of them.
WHOLE: Tree = {"event": None, "payload": None, "enrichment": None}
#: What a condition may name.
VARIABLES = frozenset(WHOLE)
#: What stands for `event` in a condition.
EVENT_FIELDS = (
    "id", "type", "tool_id", "provider", "delivery_id", "received_at", "headers", "keys",
)  # fmt: skip
#: A text within a condition, and a field of `event`, unless that is itself a field of something.
_TEXT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_EVENT_FIELD = re.compile(r"(\.\s*)?\bevent\s*\.\s*([A-Za-z_]\w*)(?!\w|\s*\()")
#: CEL's standard functions (cel-spec, "List of Standard Definitions").
FUNCTIONS = frozenset(
    (
        "bool",
        "bytes",
        "contains",
        "double",
        "duration",
        "dyn",
        "endsWith",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
        "has",
        "int",
        "matches",
        "max",
        "min",
        "size",
        "startsWith",
        "string",
        "timestamp",
        "type",
        "uint",
    )
)


@dataclass(frozen=True, slots=True)
class TypePattern:
    """Type globs as one regular expression; ``*`` stands for any run of characters."""

    patterns: tuple[str, ...]
    regex: "re.Pattern[str]"

    def matches(self, event_type: str) -> bool:
        """Whether any of the globs fits the whole type."""
        return self.regex.match(event_type) is not None


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled CEL expression over ``event``, ``payload`` and ``enrichment``."""

    source: str
    program: Any
    parts: Tree
    cost: Cost
    #: The parts that it names inside of loops.
    reached: Tree
    #: Events up to so many bytes are judged where they stand, without another look.
    cheap_bytes: int

    def judge(self, facts: "Facts") -> tuple[bool, str, str]:
        """Whether it is true for an event's :func:`facts`; the kind and text of an error.

        A payload that lacks a field does not match, and that is no error: providers leave fields
        out. Whatever else goes wrong is no match either, and comes back as its kind and text.
        """
        try:
            found = self.program.execute(facts.context(self.parts))
            if found is None or isinstance(found, bool):
                return found is True, "", ""
            kind = type(found).__name__
            return False, "type", f"it gives {kind}, not true or false: compare it with something"
        except LookupError:
            return False, "", ""
        except BaseException as error:
            # the engine's panics are no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            return False, error_kind(error), str(error)[:MAX_ERROR_LENGTH]

    def holds(self, facts: "Facts") -> bool:
        """Whether the expression is true for an event's :func:`facts`, whatever that takes."""
        return self.judge(facts)[0]


def compile_types(patterns: Sequence[str]) -> TypePattern:
    """Compile type globs; the same ones once.

    Raises:
        BadRequestError: when there is none, or one is empty.
    """
    if not patterns or not all(patterns):
        raise BadRequestError('types needs at least one pattern, such as ["pull_request.*"]')
    return _compile_types(tuple(patterns))


@lru_cache(COMPILED)
def _compile_types(patterns: tuple[str, ...]) -> TypePattern:
    regex = "|".join(f"(?:{fnmatch.translate(pattern)})" for pattern in patterns)
    return TypePattern(patterns, re.compile(regex))


def error_kind(error: BaseException) -> str:
    """What kind of error an evaluation ended with: one of a few words."""
    if isinstance(error, ArithmeticError):
        return "arithmetic"
    if isinstance(error, (MemoryError, RecursionError)):
        return "too-large"
    if isinstance(error, (TypeError, ValueError, RuntimeError)):
        return "type"
    return "other"


def refuse_costly(condition: Condition) -> None:
    """Refuse to keep a condition that goes through lists of the event inside of one another.

    Raises:
        BadRequestError: it does; the detail says what to write instead.
    """
    if condition.cost.loops > 1:
        raise BadRequestError(
            "where goes through a list of the event for each element of another: a payload of "
            "100 KB makes that take minutes. To look for an element in a list write "
            "payload.files.exists(f, f in payload.reviewed); to go through lists inside of "
            "elements begin at the element, as in "
            'payload.commits.exists(c, c.files.exists(f, f.endsWith(".md")))'
        )


def refuse_unknown_fields(condition: Condition) -> None:
    """Refuse to keep a condition that names a field which no event has: it would never hold.

    Raises:
        BadRequestError: it does; the detail says which there are.
    """
    source = _TEXT.sub('""', condition.source)
    if "event" in _bound_names(source):
        return
    for behind, name in _EVENT_FIELD.findall(source):
        if not behind and name not in EVENT_FIELDS:
            near = difflib.get_close_matches(name, EVENT_FIELDS, 1)
            hint = f"did you mean event.{near[0]}? " if near else ""
            raise BadRequestError(
                f"where names event.{name}: {hint}An event has {', '.join(EVENT_FIELDS)}; what "
                "came with it is in payload, what stages added in enrichment"
            )


@lru_cache(COMPILED)
def compile_condition(source: str) -> Condition:
    """Compile a ``where`` expression; the same source once.

    Raises:
        BadRequestError: it is too long, does not parse, or names what is not there.
    """
    cost = estimate(source)
    try:
        program = cel.compile(source)
        names = set(program.variables())
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = str(error)[:MAX_ERROR_LENGTH]
        raise BadRequestError(f"where is not valid CEL: {text}") from error
    # operators have names such as _+_
    called = {name for name in program.functions() if name.isidentifier() and name[0] != "_"}
    if missing := called - FUNCTIONS:
        raise BadRequestError(f"where calls {', '.join(sorted(missing))}: no such function")
    if unknown := _unknown_names(source, names):
        raise BadRequestError(
            f"where names {', '.join(sorted(unknown))}: only event, payload and enrichment "
            "are there, as in payload.pull_request.draft == false && "
            'event.type == "pull_request.opened"'
        )
    parts = named_parts(source)
    reached = parts if cost.outer else named_parts(" ".join(cost.reached))
    return Condition(source, program, parts, cost, reached, cost.cheap_bytes())


class Facts:
    """What conditions see of an event: those that look at the same parts share one conversion."""

    def __init__(self, values: Mapping[str, Any], payload_bytes: int = 0) -> None:
        """``values``: what ``event``, ``payload`` and ``enrichment`` stand for."""
        self._values = values
        #: Of the payload as it came: no more values than bytes are in it.
        self.payload_bytes = payload_bytes
        self._contexts: dict[str, cel.Context] = {}

    def seen(self, parts: Tree) -> Any:
        """What a condition that names these parts sees."""
        return pruned(self._values, parts)

    def context(self, parts: Tree) -> cel.Context:
        """The parts of it that a condition names, converted for CEL."""
        if parts.get("payload", {}) is None:
            # all that look at the whole payload share its conversion, which is the dear one
            parts = WHOLE
        key = str(parts)
        if key not in self._contexts:
            self._contexts[key] = cel.Context(pruned(self._values, parts))
        return self._contexts[key]


def facts(event: Event) -> Facts:
    """What a condition sees of an event; made once an event, for all conditions."""
    payload = event.data()
    return Facts(
        {
            "event": {
                "id": event.event_id,
                "type": event.type,
                "tool_id": own_tool_id(event.tool_id),
                "provider": event.provider,
                "delivery_id": event.delivery_id,
                "received_at": event.received_at_ms,
                "headers": dict(event.headers),
                "keys": list(correlation_keys(event)),
            },
            "payload": {} if payload is None else payload,
            "enrichment": event.enrichment,
        },
        event.payload_bytes + len(event.enriched),
    )


class Matcher:
    """One event against any number of subscriptions: what it takes is computed once."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._facts: Facts | None = None
        self._keys: tuple[str, ...] | None = None

    def concerns(self, types: TypePattern, follow: str) -> bool:
        """Whether type and correlation key fit: what is cheap to ask, before the condition."""
        if not types.matches(self._event.type):
            return False
        if not follow:
            return True
        if self._keys is None:
            self._keys = correlation_keys(self._event)
        return follow in self._keys

    @property
    def facts(self) -> Facts:
        """What conditions see of the event."""
        if self._facts is None:
            self._facts = facts(self._event)
        return self._facts


def _unknown_names(source: str, names: set[str]) -> set[str]:
    """Names that neither we nor a comprehension of the expression itself bind."""
    return names - VARIABLES - _bound_names(source)


def _bound_names(source: str) -> set[str]:
    return set(re.findall(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*(\w+)\s*,", source))
