"""Summary templates: Jinja in its sandbox, with less in it than the sandbox would allow.

A template sees ``event`` (``type``, ``provider``, ``tool_id``), ``payload``, ``facts`` (what most
payloads have) and ``enrichment`` (what stages added). What it inserts is made harmless by
:func:`plain_text`; what is missing is empty. It cannot loop without end, make long text, or reach
anything but its four values.
"""

import contextlib
import fnmatch
import hashlib
import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

from jinja2 import ChainableUndefined, nodes
from jinja2.exceptions import TemplateError, UndefinedError
from jinja2.runtime import new_context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from hookstream.app.errors import BadRequestError
from hookstream.app.summaries.text import plain_text

__all__ = ["Template", "TemplateBook", "builtin_templates", "compile_template"]

MAX_SOURCE_CHARS = 4096
MAX_VALUE_CHARS = 200
MAX_SUMMARY_CHARS = 1000
MAX_JOINED = 20
#: Event types whose template is remembered.
MAX_FOUND = 1024
#: Loops inside loops over a payload's lists multiply.
MAX_LOOP_DEPTH = 1

_FILTERS = (
    "capitalize", "count", "d", "default", "first", "int", "last", "length", "lower", "map",
    "round", "selectattr", "sort", "string", "title", "trim", "unique", "upper",
)  # fmt: skip
_TESTS = ("defined", "undefined", "none", "string", "number", "mapping", "sequence", "eq", "ne")
#: Everything else is refused: macros, imports, blocks, calls, and what could grow a text by
#: doubling it again and again (set, multiplication, format strings).
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Name,
    nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Test, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr, nodes.Concat, nodes.Add,
    nodes.Sub, nodes.Div, nodes.FloorDiv, nodes.Neg, nodes.Slice, nodes.List, nodes.Tuple,
    nodes.Keyword,
)  # fmt: skip


def _harmless(value: Any) -> str:
    """What an expression inserts: never an object, never more than a line."""
    if value is None or value is missing or isinstance(value, (ChainableUndefined, dict, list)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain_text(value, MAX_VALUE_CHARS)


def _short(value: Any, limit: int = 80) -> str:
    """At most ``limit`` characters of the first line."""
    lines = str(value or "").strip().splitlines()
    return plain_text(lines[0], max(1, min(int(limit), MAX_VALUE_CHARS))) if lines else ""


def _replace(value: Any, old: str, new: str = "") -> str:
    """As Python's, on a text that is and stays short."""
    return str(value or "")[:MAX_SUMMARY_CHARS].replace(old, new)[:MAX_SUMMARY_CHARS]


def _join(values: Any, separator: str = "") -> str:
    """The first items of a list, harmless each."""
    shown = (_harmless(value) for value in itertools.islice(values, MAX_JOINED))
    return separator[:8].join(shown)


#: Currencies whose amounts are not in hundredths (Stripe, "Zero-decimal currencies").
_ZERO_DECIMAL = frozenset(
    [
        "bif",
        "clp",
        "djf",
        "gnf",
        "jpy",
        "kmf",
        "krw",
        "mga",
        "pyg",
        "rwf",
        "ugx",
        "vnd",
        "vuv",
        "xaf",
        "xof",
        "xpf",
    ]
)


def _money(amount: Any, currency: Any = "") -> str:
    """An amount in the currency's smallest unit, as people write it."""
    if not isinstance(amount, int) or isinstance(amount, bool):
        return ""
    code = str(currency or "")
    shown = f"{amount}" if code.lower() in _ZERO_DECIMAL else f"{amount / 100:.2f}"
    return f"{shown} {code.upper()}".strip()


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox in which JSON has its fields and items, and nothing has attributes."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """A field of an object or an item of a list; else undefined."""
        if isinstance(obj, (dict, list, tuple)):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)

    #: ``payload.items`` is a field of that name, not the method.
    getattr = getitem  # type: ignore[assignment]


def _environment() -> _Environment:
    environment = _Environment(
        undefined=ChainableUndefined, finalize=_harmless, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    own = {"short": _short, "money": _money, "replace": _replace, "join": _join}
    environment.filters.update(own)
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


_ENVIRONMENT = _environment()


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. ``version`` follows from its source."""

    pattern: str
    source: str
    version: str
    #: Gives what it is compiled to; those that come along are compiled when they are needed.
    program: Callable[[], Any]

    @property
    def sees_enrichment(self) -> bool:
        """Whether what it says may differ with an event's enrichment."""
        return "enrichment" in self.source

    def render(
        self,
        event: Mapping[str, Any],
        payload: Any,
        facts: Mapping[str, Any],
        enrichment: Mapping[str, Any] | None = None,
    ) -> str:
        """One line, at most 1000 characters; "" when it has nothing to say.

        Raises whatever an expression of it raises on this payload.
        """
        values = {
            "event": event,
            "payload": {} if payload is None else payload,
            "facts": facts,
            "enrichment": enrichment or {},
        }
        # as Template.render does, without a look at globals: there are none
        program = self.program()
        context = new_context(_ENVIRONMENT, None, program.blocks, values, shared=True)
        text = "".join(program.root_render_func(context))
        # what follows a colon may be missing in this payload
        return plain_text(text, MAX_SUMMARY_CHARS).rstrip(" :;,")


def compile_template(pattern: str, source: str) -> Template:
    """Compile a template for the types that the glob ``pattern`` fits.

    Raises:
        BadRequestError: it is too long, is not valid, or does what a template may not.
    """
    program = _compile(source)
    return Template(pattern, source, _version(source), lambda: program)


def _version(source: str) -> str:
    return hashlib.blake2b(source.encode(), digest_size=6).hexdigest()


def _compile(source: str) -> Any:
    if len(source) > MAX_SOURCE_CHARS:
        raise BadRequestError(f"template is longer than {MAX_SOURCE_CHARS} characters")
    try:
        tree = _ENVIRONMENT.parse(source)
        _check(tree, 0)
        program = _ENVIRONMENT.from_string(tree)
        # what is wrong with an expression as such shows without any payload
        with contextlib.suppress(UndefinedError):
            program.render(event={}, payload={}, facts={}, enrichment={})
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f" (line {line})" if line else ""
        raise BadRequestError(f"template is not valid{where}: {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BadRequestError(f"template fails on an empty payload: {error}") from error
    return program


def _check(node: nodes.Node, depth: int) -> None:
    if not isinstance(node, _NODES):
        raise BadRequestError(
            f"template line {node.lineno}: {type(node).__name__.lower()} is not for templates; "
            "there are values, filters, if and for"
        )
    if isinstance(node, nodes.For):
        depth += 1
        if depth > MAX_LOOP_DEPTH or node.recursive:
            raise BadRequestError(f"template line {node.lineno}: a loop inside a loop")
    if isinstance(node, nodes.Filter) and node.name not in _ENVIRONMENT.filters:
        raise BadRequestError(
            f"template line {node.lineno}: no filter {node.name!r}; there are "
            + ", ".join(sorted(_ENVIRONMENT.filters))
        )
    for child in node.iter_child_nodes():
        _check(child, depth)


class TemplateBook:
    """Templates by provider and type glob; the most specific one that fits counts."""

    def __init__(self, templates: Mapping[str, Iterable[Template]]) -> None:
        self._by_provider = {
            provider: sorted(
                ((_specific(t.pattern), re.compile(fnmatch.translate(t.pattern)), t) for t in some),
                key=lambda row: row[0],
                reverse=True,
            )
            for provider, some in templates.items()
        }
        self._found: dict[tuple[str, str], Template | None] = {}

    def find(self, provider: str, event_type: str) -> Template | None:
        """The template for an event; None where none fits."""
        key = provider, event_type
        if key in self._found:
            return self._found[key]
        rows = self._by_provider.get(provider, ())
        found = next((t for _, regex, t in rows if regex.match(event_type)), None)
        if len(self._found) < MAX_FOUND:  # types may be untrusted text
            self._found[key] = found
        return found

    def all(self) -> list[tuple[str, Template]]:
        """Every template with its provider, in the order of their names."""
        return [
            (provider, template)
            for provider, rows in sorted(self._by_provider.items())
            for _, _, template in sorted(rows, key=lambda row: row[2].pattern)
        ]


def _specific(pattern: str) -> tuple[int, int]:
    """Without a wildcard first, then by what is literal."""
    literal = sum(char not in "*?[]" for char in pattern)
    return (int(literal == len(pattern)), literal)


@cache
def builtin_templates() -> TemplateBook:
    """The templates that come along: ``providers/NAME.toml``, type glob to template."""
    found: dict[str, list[Template]] = {}
    for path in files("hookstream.app.providers").iterdir():
        if path.name.endswith(".toml"):
            rows = tomllib.loads(path.read_text())
            found[path.name[: -len(".toml")]] = [
                Template(pattern, source, _version(source), cache(partial(_compile, source)))
                for pattern, source in rows.items()
            ]
    return TemplateBook(found)
