"""What a CEL condition may cost: read off its text, without evaluating it.

The engine has no limit of its own, and recurses over what is nested. So what is nested deeper than
anybody writes is refused before the engine sees it, and the rest is given an estimate: how often it
goes through lists inside of lists, how much it does there, and how much text it handles. Where the
estimate is high for an event, the condition is evaluated in a child process that can be ended.

Two things of the engine in use are dear: it copies a value whenever a name of it is met, and
``map`` and ``filter`` copy all they have so far for each element that they add.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from hookstream.app.errors import BadRequestError

__all__ = ["INLINE_SECONDS", "MAX_DEPTH", "MAX_LENGTH", "NOTHING", "Cost", "Size", "estimate"]

MAX_LENGTH: Final = 4096
#: What is estimated to take longer is evaluated in a child, which costs a third of a millisecond.
INLINE_SECONDS: Final = 0.002
#: Brackets inside of brackets; operators, ``!`` and ``-`` before a value, and fields in one chain.
MAX_DEPTH: Final = 24
MAX_OPERATORS: Final = 256
MAX_PREFIXES: Final = 16
MAX_CHAIN: Final = 64
MAX_CHOICES: Final = 16
MAX_GROWTH: Final = 10**9

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<text>[rRbB]{0,2}(?:\"{3}(?s:.*?)\"{3}|'{3}(?s:.*?)'{3}
        |\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>\d[\w.]*)
    |(?P<sign>&&|\|\||[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_MACROS: Final = frozenset(("all", "exists", "exists_one", "map", "filter"))
#: Those that make a list.
_MAKERS: Final = frozenset(("map", "filter"))
_VARIABLES: Final = frozenset(("event", "payload", "enrichment"))
#: What takes time in proportion to the text or list that it handles, to the text that it looks
#: through, and to the text that it reads as a number or time.
_LINEAR: Final = frozenset(
    ("+", "in", "==", "!=", "contains", "startsWith", "endsWith", "matches", "string", "bytes")
)
_SCANS: Final = frozenset(("size", "<", ">", "<=", ">="))
_READS: Final = frozenset(("int", "uint", "double", "timestamp", "duration"))
_OPERATORS: Final = frozenset(
    ("&&", "||", "+", "-", "*", "/", "%", "<", ">", "<=", ">=", "==", "!=", "in")
)
_OPEN: Final = {"(": ")", "[": "]", "{": "}"}
_REPEAT: Final = re.compile(r"\{(\d{1,6})(?:,(\d{0,6}))?\}")

#: Nanoseconds, measured on the engine in use: a token, an element that is converted, a byte of text
#: that is converted or handled, an element that is compared, a piece of a pattern.
_STEP, _ELEMENT, _BYTE, _COMPARE, _PIECE = 150.0, 400.0, 0.5, 20.0, 2000.0
#: An element that is copied; a byte of text that is looked through, and one that is read.
_COPY, _SCAN, _READ = 125.0, 0.15, 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """Of what an expression sees: values, bytes of text, and elements of its longest list."""

    elements: int
    text: int
    longest: int


NOTHING: Final = Size(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What evaluating an expression takes."""

    tokens: int
    #: Elements of lists of its own, at most, and characters of texts of its own.
    elements: int
    written: int
    #: How often it goes through a list of the event's inside of another; whether through lists
    #: within elements.
    loops: int
    nested: bool
    #: Operations whose time grows with the text or list that they handle, look through, or read.
    linear: int
    scans: int
    reads: int
    #: Of patterns, which are compiled each time.
    pieces: int
    #: How often it names a part of the event; those that are named inside of loops, as far as that
    #: is written out; whether the element of a loop further out is.
    named: int
    reached: tuple[str, ...]
    outer: bool
    #: Lists that it makes; so many times as long as the event's they are where ``map`` has each
    #: element several times; additions, of lists perhaps.
    makers: int
    growth: int
    sums: int

    def seconds(self, size: Size, reached: Size) -> float:
        """At most so long, about, for an event of this size, of which ``reached`` is reached."""
        longest = size.elements if self.nested else size.longest
        once = max(longest, self.elements) * self.growth * (self.sums + 1)
        rounds = float(once) ** self.loops
        work = rounds * (self.tokens * _STEP + self.pieces * _PIECE) + self._handling(size)
        work += self.named * size.elements * _COPY
        if self.reached or self.outer:
            far = reached.elements * (len(self.reached) + self.outer) * _COPY
            work += rounds * (far + self._handling(reached))
        # each element that is added is a copy of all that were before
        grown = (size.elements + self.elements) * self.growth * (self.sums + 1)
        made = grown + once * (reached.elements + self.elements)
        work += self.makers * rounds * made * _COPY / 2
        return (size.elements * _ELEMENT + size.text * _BYTE + work) / 1e9

    def _handling(self, size: Size) -> float:
        """Nanoseconds for going through all of it by all operations."""
        text = (size.text + self.written) * self.growth
        handled = self.linear**2 * _BYTE + self.scans * _SCAN + self.reads * _READ
        return handled * text + self.linear * _COMPARE * size.elements * self.growth

    def cheap_bytes(self) -> int:
        """Events up to so many bytes cost no more than :data:`INLINE_SECONDS`; -1 for none."""
        for size in (65536, 32768, 16384, 8192, 4096, 2048, 1024, 0):
            most = Size(size // 2 + 64, size + 4096, size // 2 + 64)
            if self.seconds(most, most) <= INLINE_SECONDS:
                return size
        return -1


@dataclass(slots=True)
class _Bracket:
    """One that is open: ``variable`` is what it binds, where it is a comprehension's."""

    closes: str
    starts: int
    variable: str = ""
    loops: int = 0
    binds: bool = False
    macro: str = ""
    #: Whether what it goes through are parts of the event of which none is there twice.
    apart: bool = False
    #: How often its variable is named.
    uses: int = 0


class _Reader:
    """Goes through an expression's tokens once."""

    def __init__(self, source: str) -> None:
        self.tokens = _tokens(source)
        self.open: list[_Bracket] = []
        self.loops = self.operators = self.prefixes = self.chain = self.choices = 0
        self.counts: Counter[str] = Counter()
        self.pieces = 0
        self.makers = 0
        self.growth = 1
        self.nested = False
        self.named = 0
        self.reached: list[str] = []
        self.outer = False
        #: What ended where, for the receiver of a comprehension.
        self._closed: dict[int, _Bracket] = {}

    def read(self) -> Cost:
        for at, (kind, text) in enumerate(self.tokens):
            self._bounds(at, kind, text)
            if kind == "name":
                self._name(at, text)
            elif text in _OPEN:
                self._opens(at, text)
            elif text in _OPEN.values():
                self._closes(at, text)
            if kind != "text":
                self.counts[text] += 1
        written = sum(len(text) for kind, text in self.tokens if kind == "text")
        return Cost(
            tokens=len(self.tokens),
            elements=self.counts[","] + 1,
            sums=self.counts["+"],
            loops=self.loops,
            nested=self.nested,
            linear=self._count(_LINEAR),
            scans=self._count(_SCANS),
            reads=self._count(_READS),
            pieces=self.pieces,
            named=self.named,
            reached=tuple(self.reached),
            outer=self.outer,
            makers=self.makers,
            growth=self.growth,
            written=written,
        )

    def _count(self, names: frozenset[str]) -> int:
        return sum(self.counts[name] for name in names)

    def _bounds(self, at: int, kind: str, text: str) -> None:
        if kind in ("text", "number"):
            self.prefixes = 0
            return
        self.operators += text in _OPERATORS
        self.choices += text == "?"
        before = self.tokens[at - 1] if at else ("sign", "(")
        ends = before[0] in ("text", "number", "name") or before[1] in (")", "]", "}")
        self.prefixes = self.prefixes + 1 if text in "!-" and not ends else 0
        if text == "." or (text == "[" and ends):
            self.chain += 1
        elif text in _OPERATORS or text in (",", "?", ":"):
            self.chain = 0
        for count, most, what in (
            (self.operators, MAX_OPERATORS, "operators"),
            (self.prefixes, MAX_PREFIXES, "! or - before a value"),
            (self.chain, MAX_CHAIN, "fields and indexes in one chain"),
            (self.choices, MAX_CHOICES, "choices (a ? b : c)"),
        ):
            if count > most:
                raise BadRequestError(
                    f"where has more than {most} {what}: split it into several subscriptions of "
                    "the context; each event arrives once"
                )

    def _opens(self, at: int, text: str) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise BadRequestError(
                f"where has brackets nested more than {MAX_DEPTH} deep: write it flatter, or as "
                "several subscriptions of the context"
            )
        bracket = _Bracket(_OPEN[text], at)
        called = text == "(" and at >= 2 and self.tokens[at - 2][1] == "."
        if called and self.tokens[at - 1][1] in _MACROS:
            bracket.variable = self.tokens[at + 1][1] if at + 1 < len(self.tokens) else ""
            bracket.binds = True
            bracket.macro = self.tokens[at - 1][1]
            bracket.apart = self._is_apart(at - 3)
            self.makers += bracket.macro in _MAKERS
            self.nested |= any(outer.binds for outer in self.open)
            bracket.loops = 0 if self._is_of_element(at - 3) else 1
            depth = sum(outer.loops for outer in self.open) + bracket.loops
            self.loops = max(self.loops, depth)
        elif called and self.tokens[at - 1][1] == "matches":
            self._pattern(at)
        elif text == "(" and at and self.tokens[at - 1][1] == "matches":
            raise BadRequestError('where calls matches(text, pattern): write text.matches("…")')
        self.open.append(bracket)

    def _closes(self, at: int, text: str) -> None:
        if self.open and self.open[-1].closes == text:
            bracket = self._closed[at] = self.open.pop()
            if bracket.macro == "map":
                # .map(a, a + a).map(b, b + b) doubles twice
                self.growth = min(self.growth * max(1, bracket.uses), MAX_GROWTH)

    def _name(self, at: int, text: str) -> None:
        if at and self.tokens[at - 1][1] == ".":
            return
        binding = [bracket for bracket in reversed(self.open) if bracket.binds]
        bound = next((bracket for bracket in binding if bracket.variable == text), None)
        if bound is not None:
            bound.uses += at != bound.starts + 1
            self.outer |= bound is not binding[0]
        elif text in _VARIABLES:
            self.named += 1
            if binding:
                self.reached.append(self._path(at))

    def _path(self, at: int) -> str:
        """A name and the fields behind it; what is called behind them counts as one more field."""
        end = at + 1
        while end + 1 < len(self.tokens) and self.tokens[end][1] == ".":
            end += 2
        called = end < len(self.tokens) and self.tokens[end][1] == "(" and end > at + 1
        return "".join(text for _, text in self.tokens[at : end - 2 if called else end])

    def _is_of_element(self, end: int) -> bool:
        """Whether the list that ends there is part of the element of the loop around.

        All of those lists together are no longer than the event, if no element is there twice:
        going through them is no loop inside of a loop.
        """
        innermost = next((b for b in reversed(self.open) if b.binds), None)
        if innermost is None or not innermost.apart:
            return False
        return self._root(end) == innermost.variable

    def _is_apart(self, end: int) -> bool:
        """Whether the value that ends there is a part of the event as it came.

        What ``map`` made is none, but where it only takes a field of each: of
        ``l.map(a, l)`` each element is all of the list.
        """
        if end < 0:
            return False
        made = self._closed.get(end)
        if made is not None and made.closes == ")":
            if made.macro == "map":
                # the element, and fields of it
                body = self.tokens[made.starts + 3 : end]
                fields = all(text == "." for _, text in body[1::2]) and len(body) % 2 == 1
                names = all(kind == "name" for kind, _ in body[::2])
                if not (fields and names and body[0][1] == made.variable):
                    return False
            return made.macro in _MAKERS and made.apart
        root = self._root(end)
        bound = next((b for b in reversed(self.open) if b.binds and b.variable == root), None)
        return bound.apart if bound else root in _VARIABLES

    def _root(self, end: int) -> str:
        """The name that a chain of fields and indexes begins with; "" where there is none."""
        at = end
        while at > 0:
            index = self._closed.get(at)
            if index is not None and index.closes == "]":
                at = index.starts - 1
            elif self.tokens[at][0] == "name" and self.tokens[at - 1][1] == ".":
                at -= 2
            else:
                break
        return self.tokens[at][1] if at >= 0 and self.tokens[at][0] == "name" else ""

    def _pattern(self, at: int) -> None:
        after = self.tokens[at + 1 : at + 3]
        if len(after) < 2 or after[0][0] != "text" or after[1][1] != ")":
            raise BadRequestError(
                "where calls matches with a pattern that is not written out: an event must not "
                'bring the pattern along; write payload.field.matches("^v[0-9]+$")'
            )
        pattern = after[0][1]
        times = 1
        for repeat in _REPEAT.finditer(pattern):
            times = min(times * max(int(repeat[1]), int(repeat[2] or 1), 1), 10**6)
        # classes such as \w are some hundred ranges each
        self.pieces += min((len(pattern) + 25 * pattern.count("\\")) * times, 10**7)


def estimate(source: str) -> Cost:
    """What evaluating ``source`` takes.

    Raises:
        BadRequestError: it is longer or nested deeper than a condition may be, or a pattern of it
            comes from the event.
    """
    if len(source) > MAX_LENGTH:
        raise BadRequestError(f"where is longer than {MAX_LENGTH} characters")
    return _Reader(source).read()


def _tokens(source: str) -> list[tuple[str, str]]:
    return [
        (str(match.lastgroup), match[0])
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "space"
    ]
