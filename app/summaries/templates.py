"""Summary templates: Jinja in its sandbox, with less in it than the sandbox would allow.

A template sees ``event`` (``type``, ``provider``, ``tool_id``, ``headers``), ``payload``, ``facts``
(what most payloads have) and ``enrichment`` (what stages added). What it inserts is made harmless
by :func:`plain_text`; what is missing is empty. It cannot loop without end, make long text, or
reach anything but its four values.
"""

import contextlib
import fnmatch
import functools
import hashlib
import itertools
import re
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, Final

from jinja2 import ChainableUndefined, nodes
from jinja2.exceptions import TemplateError, TemplateRuntimeError, UndefinedError
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.filters import do_int, do_round
from jinja2.runtime import LoopContext, new_context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from hookstream.app.errors import BadRequestError
from hookstream.app.summaries.holes import HOLE, without_holes
from hookstream.app.summaries.markup import (
    MAX_DOCUMENT_NODES,
    first_address,
    first_sentences,
    text_of_chat,
    text_of_document,
    text_of_html,
    without_notified,
)
from hookstream.app.summaries.money import write_amount
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

#: How deep a template may nest, what it may consist of, and how deep its brackets go: far below
#: what Jinja's parser and Python's compiler stand, whoever calls them from how deep.
MAX_DEPTH = 40
MAX_NODES = 600
MAX_BRACKETS = 10
#: Items that a loop or filter looks at; a longer list is an error: the plain summary stands in.
MAX_ITEMS = 1000
#: Steps of one rendering: eight parts of a loop's body for each item, an item that a filter or
#: comparison goes through, some characters of a long text. What is neither is done once, and the
#: parts of a template are bounded. A hundred are many for a summary; all of them take some 0.2 s.
MAX_STEPS = 10_000
PARTS_A_STEP = 8
#: Texts up to so many characters take no time to speak of.
SHORT_CHARS = 64
#: Names in the path of an attribute that ``map``, ``selectattr``, ``sort`` or ``unique`` look up,
#: for each item.
MAX_PATH = 8
#: What a filter sees of a text, and where rendering stops: what is inserted is cut to far less.
MAX_TEXT_CHARS = 4 * MAX_SUMMARY_CHARS
#: Sources whose outcome is remembered: each is compiled once, not at each change of anything.
MAX_COMPILED = 4096

#: Of Jinja's own, those that take a value of any size in no time.
_FILTERS = ("d", "default")
#: Those of them that want something of many.
_LENGTH_FILTERS = ("count", "first", "last", "length")
#: Of Jinja's own, those that are given a text cut to :data:`MAX_TEXT_CHARS`, and a list or an
#: iterator of at most :data:`MAX_ITEMS`.
_TEXT_FILTERS = ("capitalize", "lower", "string", "title", "trim", "upper")
_LIST_FILTERS = ("map", "selectattr", "sort", "unique")
_TESTS = ("defined", "undefined", "none", "string", "number", "mapping", "sequence")
#: Everything else is refused: macros, imports, blocks, calls, and what could grow a text by
#: doubling it again and again (set, multiplication, format strings).
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Name,
    nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Test, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr, nodes.Concat, nodes.Add,
    nodes.Sub, nodes.Div, nodes.FloorDiv, nodes.Neg, nodes.Slice, nodes.List, nodes.Tuple,
    nodes.Keyword,
)  # fmt: skip


#: Date, time and zone of a time in ISO 8601.
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)[:.,\d]*(Z|[+-]\d\d:?\d\d|)")


#: By what the items of a list are told.
_TOLD_BY: Final = ("name", "title", "displayName", "display_name", "username", "value", "id")


class _Steps(threading.local):
    """What the rendering of this thread may still do."""

    left = MAX_STEPS


_steps = _Steps()


def _spend(steps: int) -> None:
    """Raises TemplateRuntimeError: the rendering has done what it may."""
    _steps.left -= steps
    if _steps.left < 0:
        raise TemplateRuntimeError(f"it takes more than {MAX_STEPS} steps")


def _spend_on(text: str, most: int) -> None:
    """For up to ``most`` characters of a text; those beyond ASCII take longer."""
    if len(text) > SHORT_CHARS:
        _spend(min(len(text), most) // (64 if text.isascii() else 16))


def _spend_on_showing(text: str, most: int) -> None:
    """For making up to ``most`` characters of a text harmless, which also a short one takes."""
    if not text.isalnum():
        _spend(1 + min(len(text), SHORT_CHARS) // 16)
    _spend_on(text, most)


def _compared(value: Any) -> Any:
    """What a comparison is given: it may have to go through all of it."""
    if isinstance(value, str):
        if len(value) > SHORT_CHARS:
            _spend(1 + len(value) // 256)
        return value
    if not isinstance(value, (dict, list, tuple)):
        return value
    seen, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        seen += 1
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
        if (seen + len(waiting)) // 8 > _steps.left:
            break
    _spend(1 + (seen + len(waiting)) // 8)
    return value


def _sliced(value: Any) -> Any:
    """What a slice is taken of: it is a copy. Of what has no parts it is empty."""
    if isinstance(value, (str, list, tuple)):
        _spend(1 + len(value) // 32)
        return value
    return value if isinstance(value, ChainableUndefined) else ""


def _equal(value: Any, other: Any) -> bool:
    return bool(_compared(value) == _compared(other))


def _unequal(value: Any, other: Any) -> bool:
    return not _equal(value, other)


def _harmless(value: Any) -> str:
    """What an expression inserts: never an object, never more than a line."""
    if isinstance(value, str):
        # as much as that looks at
        _spend_on_showing(value, 4 * MAX_VALUE_CHARS)
        return plain_text(value, MAX_VALUE_CHARS)
    if value is None or value is missing or isinstance(value, (ChainableUndefined, dict, list)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain_text(value, MAX_VALUE_CHARS)


def _inserted(value: Any) -> str:
    """What an expression inserts, or the hole that it leaves."""
    return _harmless(value) or HOLE


def _text(value: Any) -> str:
    """A text, or a number as one, cut to what any filter needs of it; "" for what is neither."""
    if isinstance(value, str):
        _spend_on(value, MAX_TEXT_CHARS)
        return value[:MAX_TEXT_CHARS]
    if value is None or isinstance(value, (ChainableUndefined, dict, list, tuple)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:MAX_TEXT_CHARS]


def _several(value: Any) -> Any:
    """A value of many, or of none: senders write ``null`` where they have no list."""
    return "" if value is None or isinstance(value, (bool, int, float)) else value


def _items(values: Any, steps: int = 1) -> Iterator[Any]:
    """What a loop or filter goes through; ``steps`` for each item. Nothing of what has no items.

    Raises:
        TemplateRuntimeError: more than :data:`MAX_ITEMS`, once so many have been looked at.
    """
    for number, value in enumerate(_several(values)):
        if number == MAX_ITEMS:
            raise TemplateRuntimeError(f"a list of more than {MAX_ITEMS} items")
        _spend(steps + (len(value) // 1024 if isinstance(value, str) else 0))
        yield value


def _concat(values: Iterable[Any]) -> str:
    """What ``~`` does, on texts that stay short."""
    return "".join(_text(value) for value in values)[:MAX_TEXT_CHARS]


def _short(value: Any, limit: int = 80) -> str:
    """At most ``limit`` characters of the first line."""
    lines = _text(value or "").strip().splitlines()
    _spend_on_showing(lines[0] if lines else "", SHORT_CHARS)
    return plain_text(lines[0], max(1, min(int(limit), MAX_VALUE_CHARS))) if lines else ""


def _sentence(value: Any, limit: int = 160) -> str:
    """The first sentences of a text in Markdown, at most ``limit`` characters."""
    return first_sentences(_text(value or ""), max(1, min(int(limit), MAX_VALUE_CHARS)))


def _told(value: Any, limit: int = 40) -> str:
    """What something was or is: ``none``, ``yes``, ``no``, a text or a number, a list by names."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        names = (_name_of(item) for item in itertools.islice(value, MAX_JOINED))
        value = ", ".join(name for name in names if name)
    return _short(_text(value), limit) or "none"


def _name_of(item: Any) -> str:
    if not isinstance(item, dict):
        return _text(item)
    found = next((item[name] for name in _TOLD_BY if item.get(name)), "")
    return _text(found)


def _document(value: Any) -> str:
    """The words of a document of Atlassian's, or of a text in the markup of Jira's wiki."""
    if not isinstance(value, dict):
        return text_of_document(_text(value or ""))
    # as many parts as are looked at
    _spend(MAX_DOCUMENT_NODES // 8)
    return text_of_document(value)


def _before(value: Any, mark: str) -> str:
    """What of a text is before a mark; "" where the mark is not in it."""
    found, there, _ = _text(value or "").partition(_text(mark))
    return found if there else ""


def _time(value: Any) -> str:
    """A time as ``2026-11-29 14:40Z``: of text in ISO 8601, or of Unix seconds or milliseconds."""
    if isinstance(value, str):
        found = _ISO.match(value[:40])
        return (
            f"{found[1]} {found[2]}{'Z' if found[3] in ('Z', '+00:00') else found[3]}"
            if found
            else ""
        )
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e13:
        return ""
    seconds = value / 1000 if value >= 1e11 else value
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%MZ}"


def _on_text(function: Callable[[str], str]) -> Callable[[Any], str]:
    """A filter that is given a text, cut to what any of them needs."""
    return lambda value: function(_text(value or ""))


def _replace(value: Any, old: str, new: str = "") -> str:
    """As Python's, on a text that is and stays short."""
    text = _text(value or "")[:MAX_SUMMARY_CHARS]
    # an old of "" is found before each character
    return text.replace(_text(old), _text(new)[:MAX_VALUE_CHARS])[:MAX_SUMMARY_CHARS]


def _join(values: Any, separator: str = "") -> str:
    """The first items of a list, harmless each; those that say nothing are left out."""
    shown = (_harmless(value) for value in itertools.islice(_several(values), MAX_JOINED))
    return separator[:8].join(text for text in shown if text)


def _int(value: Any, default: int = 0) -> int:
    """A whole number, also out of a text; ``default`` for what is none."""
    whole: int = do_int(value if isinstance(value, (int, float)) else _text(value)[:64], default)
    return whole


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    """As Jinja's, to at most 12 digits: its powers of ten take minutes."""
    if not 0 <= precision <= 12:
        raise TypeError("round takes 0 to 12 digits")
    rounded: float = do_round(value, precision, method)  # type: ignore[arg-type]
    return rounded


def _money(amount: Any, currency: Any = "", sent: str = "") -> str:
    """An amount in the currency's smallest unit, as people write it; "" where it is no number.

    ``sent``: currencies to which a sender gives other digits than ISO 4217, as in ``CLP2 IDR0``.
    """
    if not isinstance(amount, int) or isinstance(amount, bool) or abs(amount) >= 2**63:
        return ""
    return write_amount(amount, _text(currency or ""), _text(sent)[:64])


def _counts(counts: Any) -> str:
    """How many there are of each kind, the most first: ``9000 delivered, 12 bounce``."""
    if not isinstance(counts, dict):
        return ""
    known = [(name, n) for name, n in _items(counts.items()) if isinstance(n, int)]
    known.sort(key=lambda one: -one[1])
    shown = (f"{n} {_harmless(name)}" for name, n in known[:MAX_JOINED])
    return ", ".join(shown)


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox in which JSON has its fields and items, and nothing has attributes."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """A field, an item of a list, a slice of a text, a loop's place; else undefined."""
        if type(obj) is dict:
            # twenty times an event
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        elif isinstance(obj, LoopContext):
            # not what would look ahead, or at all of the list
            if argument in ("first", "index", "index0"):
                return getattr(obj, argument)
        elif isinstance(obj, (dict, list, tuple)) or (
            isinstance(obj, str) and isinstance(argument, slice)
        ):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)

    #: ``payload.items`` is a field of that name, not the method.
    getattr = getitem  # type: ignore[assignment]

    intercepted_binops = frozenset("+")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """``+`` of numbers, and of texts that stay short."""
        if isinstance(left, str) and isinstance(right, str):
            return _concat((left, right))
        if isinstance(left, (list, tuple)):
            raise TemplateRuntimeError("lists cannot be added")
        return super().call_binop(context, operator, left, right)


def _given(cut: Callable[[Any], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja's that is given its value cut; it may want the environment before it."""
    at = int(hasattr(function, "jinja_pass_arg"))

    @functools.wraps(function)
    def given(*arguments: Any, **named: Any) -> Any:
        return function(*arguments[:at], cut(arguments[at]), *arguments[at + 1 :], **named)

    return given


def _environment() -> _Environment:
    environment = _Environment(
        undefined=ChainableUndefined, finalize=_inserted, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    cuts = ((_TEXT_FILTERS, _text), (_LIST_FILTERS, _items), (_LENGTH_FILTERS, _several))
    for names, cut in cuts:
        environment.filters.update({name: _given(cut, DEFAULT_FILTERS[name]) for name in names})
    own = {"short": _short, "money": _money, "replace": _replace, "join": _join}
    own |= {"sentence": _sentence, "document": _document, "before": _before}
    own |= {"untagged": _on_text(text_of_html), "mrkdwn": _on_text(text_of_chat)}
    own |= {"unnotified": _on_text(without_notified), "address": _on_text(first_address)}
    own |= {"int": _int, "round": _round, "time": _time, "told": _told}
    own |= {"counts": _counts}
    environment.filters.update(own)
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    environment.tests |= {"eq": _equal, "ne": _unequal}
    return environment


_ENVIRONMENT = _environment()
#: Filters that no source can name.
_INNER: Final = {"_items": _items, "_concat": _concat, "_compared": _compared, "_sliced": _sliced}
_ENVIRONMENT.filters.update(_INNER)


#: An emoji by its name, at the end of a line.
_REACTION: Final = re.compile(r":[a-z0-9_+-]{1,60}:$")


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

    @property
    def sees_headers(self) -> bool:
        """Whether what it says may differ with the headers that are kept of an event."""
        return "headers" in self.source

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
        _steps.left = MAX_STEPS
        text = _joined(program.root_render_func(context))
        line = plain_text(without_holes(text), MAX_SUMMARY_CHARS).strip(" ;,")
        # what follows a colon may be missing in this payload; a text may end in ``:wave:``
        return line.rstrip(" :;,") if line[-1:] == ":" and not _REACTION.search(line) else line


def compile_template(pattern: str, source: str) -> Template:
    """Compile a template for the types that the glob ``pattern`` fits.

    Raises:
        BadRequestError: it is too long or too deep, is not valid, or does what a template may not.
    """
    program = _compile(source)
    return Template(pattern, source, _version(source), lambda: program)


def _version(source: str) -> str:
    return hashlib.blake2b(source.encode(), digest_size=6).hexdigest()


def _joined(parts: Iterable[str]) -> str:
    """What a template makes, which stops when that is long enough."""
    made: list[str] = []
    size = 0
    for part in parts:
        made.append(part)
        size += len(part)
        if size > MAX_TEXT_CHARS:
            break
    return "".join(made)


def _compile(source: str) -> Any:
    program = _outcome(source)
    if isinstance(program, BadRequestError):
        raise BadRequestError(str(program))
    return program


@lru_cache(MAX_COMPILED)
def _outcome(source: str) -> Any:
    """What ``source`` is compiled to, or the error that says why it is not."""
    try:
        return _compiled(source)
    except BadRequestError as error:
        return error.with_traceback(None)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f" (line {line})" if line else ""
        return BadRequestError(f"template is not valid{where}: {error}")
    except (RecursionError, MemoryError):
        return BadRequestError("template is nested too deep: make it simpler")
    except SyntaxError as error:  # of Python's compiler, such as too many blocks
        return BadRequestError(f"template is not valid: {error.msg}")
    except (TypeError, ValueError, ArithmeticError) as error:
        return BadRequestError(f"template fails on an empty payload: {error}")


def _compiled(source: str) -> Any:
    if len(source) > MAX_SOURCE_CHARS:
        raise BadRequestError(f"template is longer than {MAX_SOURCE_CHARS} characters")
    _check_brackets(source)
    tree = _ENVIRONMENT.parse(source)
    _check(tree)
    program = _ENVIRONMENT.from_string(_limited(tree))
    # what is wrong with an expression as such shows without any payload
    context = new_context(
        _ENVIRONMENT,
        None,
        program.blocks,
        {"event": {}, "payload": {}, "facts": {}, "enrichment": {}},
        shared=True,
    )
    _steps.left = MAX_STEPS
    with contextlib.suppress(UndefinedError):
        _joined(program.root_render_func(context))
    return program


def _check_brackets(source: str) -> None:
    depth = 0
    for line, token, value in _ENVIRONMENT.lex(source):
        if token == "operator":  # noqa: S105 a kind of token, not a secret
            depth += (value in ("(", "[", "{")) - (value in (")", "]", "}"))
            if depth > MAX_BRACKETS:
                raise BadRequestError(
                    f"template line {line}: brackets deeper than {MAX_BRACKETS}: make it simpler"
                )


def _check(tree: nodes.Node) -> None:
    """Refuse what templates may not have. Raises BadRequestError."""
    left = [(tree, 0, 0)]
    count = 0
    while left:
        node, depth, loops = left.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise BadRequestError(
                f"template line {node.lineno}: nested deeper than {MAX_DEPTH} or made of more than "
                f"{MAX_NODES} parts: make it simpler"
            )
        _check_node(node)
        if isinstance(node, nodes.For):
            loops += 1
            if loops > MAX_LOOP_DEPTH or node.recursive:
                raise BadRequestError(f"template line {node.lineno}: a loop inside a loop")
        left += ((child, depth + 1, loops) for child in node.iter_child_nodes())


def _check_node(node: nodes.Node) -> None:
    if not isinstance(node, _NODES):
        raise BadRequestError(
            f"template line {node.lineno}: {type(node).__name__.lower()} is not for templates; "
            "there are values, filters, if and for"
        )
    if isinstance(node, nodes.Filter) and (
        node.name not in _ENVIRONMENT.filters or node.name in _INNER
    ):
        raise BadRequestError(
            f"template line {node.lineno}: no filter {node.name!r}; there are "
            + ", ".join(sorted(_ENVIRONMENT.filters.keys() - _INNER))
        )
    if isinstance(node, (nodes.Filter, nodes.Test)):
        _check_arguments(node)
    if isinstance(node, nodes.Const) and isinstance(node.value, int) and abs(node.value) >= 2**63:
        raise BadRequestError(f"template line {node.lineno}: a number of more than 64 bits")


def _check_arguments(node: nodes.Filter | nodes.Test) -> None:
    """Names of filters and attributes are written out, and few: a payload must not bring them."""
    where = f"template line {node.lineno}: "
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise BadRequestError(f"{where}arguments of {node.name} are written out, without *")
    if node.name not in _LIST_FILTERS:
        return
    named = [pair.value for pair in node.kwargs if pair.key == "attribute"]
    if node.name in ("map", "selectattr"):
        named += node.args[:1]
    else:
        named += node.args
    for value in named:
        if not isinstance(value, nodes.Const):
            raise BadRequestError(f"{where}what {node.name} looks up is written out, as in 'a.b'")
        if isinstance(value.value, str) and len(re.split("[.,]", value.value)) > MAX_PATH:
            raise BadRequestError(f"{where}{node.name} looks up at most {MAX_PATH} names")
    if node.name == "map" and node.args:
        inner = getattr(node.args[0], "value", None)
        if inner in _INNER or inner in _LIST_FILTERS or inner not in _ENVIRONMENT.filters:
            raise BadRequestError(f"{where}map has no filter {inner!r} for each item")


def _limited(tree: nodes.Template) -> nodes.Template:
    """The same template, whose loops, ``~``, comparisons and slices go through what bounds them."""
    for loop in tree.find_all(nodes.For):
        parts = sum(1 for _ in loop.find_all(nodes.Node))
        loop.iter = _through("_items", loop.iter, 1 + parts // PARTS_A_STEP)
    for comparison in list(tree.find_all(nodes.Compare)):
        comparison.expr = _through("_compared", comparison.expr)
        for operand in comparison.ops:
            operand.expr = _through("_compared", operand.expr)
    for item in list(tree.find_all(nodes.Getitem)):
        if isinstance(item.arg, nodes.Slice):
            item.node = _through("_sliced", item.node)
    _limit_concats(tree)
    return tree


def _limit_concats(node: nodes.Node) -> None:
    for name, value in node.iter_fields():
        if isinstance(value, list):
            value[:] = [_limited_concat(item) for item in value]
        else:
            setattr(node, name, _limited_concat(value))
    for child in node.iter_child_nodes():
        _limit_concats(child)


def _limited_concat(value: Any) -> Any:
    if not isinstance(value, nodes.Concat):
        return value
    return _through("_concat", nodes.List(value.nodes, lineno=value.lineno))


def _through(name: str, value: Any, *arguments: int) -> nodes.Filter:
    given = [nodes.Const(one, lineno=value.lineno) for one in arguments]
    return nodes.Filter(value, name, given, [], None, None, lineno=value.lineno)


#: How specific its glob is, the pattern of that, and the template.
_Row = tuple[tuple[int, int], re.Pattern[str], Template]


class TemplateBook:
    """Templates by provider and type glob; the most specific one that fits counts."""

    def __init__(
        self,
        templates: Mapping[str, Iterable[Template]],
        later: Mapping[str, Callable[[], Iterable[Template]]] = MappingProxyType({}),
    ) -> None:
        """``later``: those of further providers, which are read when they are first asked for."""
        self._by_provider = {provider: _ordered(some) for provider, some in templates.items()}
        self._later = later
        self._found: dict[tuple[str, str], Template | None] = {}

    def find(self, provider: str, event_type: str) -> Template | None:
        """The template for an event; None where none fits."""
        key = provider, event_type
        if key in self._found:
            return self._found[key]
        rows = self._rows(provider)
        found = next((t for _, regex, t in rows if regex.match(event_type)), None)
        if len(self._found) < MAX_FOUND:  # types may be untrusted text
            self._found[key] = found
        return found

    def all(self) -> list[tuple[str, Template]]:
        """Every template with its provider, in the order of their names."""
        return [
            (provider, template)
            for provider in sorted({*self._by_provider, *self._later})
            for _, _, template in sorted(self._rows(provider), key=lambda row: row[2].pattern)
        ]

    def _rows(self, provider: str) -> list[_Row]:
        if provider not in self._by_provider and provider in self._later:
            self._by_provider[provider] = _ordered(self._later[provider]())
        return self._by_provider.get(provider, [])


def _ordered(templates: Iterable[Template]) -> list[_Row]:
    """The most specific first, each with the pattern of its glob."""
    rows = ((_specific(t.pattern), re.compile(fnmatch.translate(t.pattern)), t) for t in templates)
    return sorted(rows, key=lambda row: row[0], reverse=True)


def _specific(pattern: str) -> tuple[int, int]:
    """Without a wildcard first, then by what is literal."""
    literal = sum(char not in "*?[]" for char in pattern)
    return (int(literal == len(pattern)), literal)


@cache
def builtin_templates() -> TemplateBook:
    """The templates that come along: ``providers/NAME.toml``, type glob to template."""
    # they are many, and a process meets few providers
    later = {
        path.name.removesuffix(".toml"): partial(_read_templates, path)
        for path in files("hookstream.app.providers").iterdir()
        if path.name.endswith(".toml")
    }
    return TemplateBook({}, later)


def _read_templates(path: Traversable) -> list[Template]:
    return [
        Template(pattern, source, _version(source), cache(partial(_compile, source)))
        for pattern, source in tomllib.loads(path.read_text()).items()
    ]
