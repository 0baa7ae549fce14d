"""Which events a subscription wants: type globs and a CEL condition."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hookstream.app import metrics
from hookstream.app.errors import BadRequestError
from hookstream.app.providers import correlation_keys
from hookstream.app.routing.cel_engine import cel
from hookstream.app.routing.condition_parts import Tree, named_parts, pruned
from hookstream.codecs.envelope import Event

__all__ = [
    "Condition",
    "Facts",
    "Matcher",
    "TypePattern",
    "compile_condition",
    "compile_types",
    "facts",
]

MAX_CONDITION_LENGTH = 4096
#: The parts of what may be named, all of them.
WHOLE: Tree = {"event": None, "payload": None, "enrichment": None}
#: What a condition may name.
VARIABLES = frozenset(WHOLE)
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

    def holds(self, facts: "Facts") -> bool:
        """Whether the expression is true for an event's :func:`facts`.

        A payload that lacks a field, or has another type there, does not match: providers send
        null and leave fields out, and that must not make a dead letter of the event. Such
        evaluations are counted in ``hookstream_condition_errors_total``.
        """
        try:
            return self.program.execute(facts.context(self.parts)) is True
        except LookupError:
            return False
        except (TypeError, ValueError, RuntimeError, OverflowError):
            metrics.CONDITION_ERRORS.inc()
            return False


def compile_types(patterns: Sequence[str]) -> TypePattern:
    """Compile type globs.

    Raises:
        BadRequestError: when there is none, or one is empty.
    """
    if not patterns or not all(patterns):
        raise BadRequestError('types needs at least one pattern, such as ["pull_request.*"]')
    regex = "|".join(f"(?:{fnmatch.translate(pattern)})" for pattern in patterns)
    return TypePattern(tuple(patterns), re.compile(regex))


def compile_condition(source: str) -> Condition:
    """Compile a ``where`` expression.

    Raises:
        BadRequestError: it is too long, does not parse, or names what is not there.
    """
    if len(source) > MAX_CONDITION_LENGTH:
        raise BadRequestError(f"where is longer than {MAX_CONDITION_LENGTH} characters")
    try:
        program = cel.compile(source)
        names = set(program.variables())
    except Exception as error:
        raise BadRequestError(f"where is not valid CEL: {error}") from error
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
    return Condition(source, program, named_parts(source))


class Facts:
    """What conditions see of an event: those that look at the same parts share one conversion."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """``values``: what ``event``, ``payload`` and ``enrichment`` stand for."""
        self._values = values
        self._contexts: dict[str, cel.Context] = {}

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
                "tool_id": event.tool_id,
                "provider": event.provider,
                "delivery_id": event.delivery_id,
                "received_at": event.received_at_ms,
                "headers": dict(event.headers),
                "keys": list(correlation_keys(event)),
            },
            "payload": {} if payload is None else payload,
            "enrichment": event.enrichment,
        }
    )


class Matcher:
    """One event against any number of subscriptions: what it takes is computed once."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._facts: Facts | None = None
        self._keys: tuple[str, ...] | None = None

    def matches(self, types: TypePattern, condition: Condition | None, follow: str) -> bool:
        """Whether type, correlation key and condition all fit, the cheapest asked first."""
        if not types.matches(self._event.type):
            return False
        if follow:
            if self._keys is None:
                self._keys = correlation_keys(self._event)
            if follow not in self._keys:
                return False
        if condition is None:
            return True
        if self._facts is None:
            self._facts = facts(self._event)
        return condition.holds(self._facts)


def _unknown_names(source: str, names: set[str]) -> set[str]:
    """Names that neither we nor a comprehension of the expression itself bind."""
    bound = set(re.findall(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*(\w+)\s*,", source))
    return names - VARIABLES - bound
