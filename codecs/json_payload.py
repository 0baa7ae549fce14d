"""What of a payload is parsed: JSON that is neither nested too deep nor of too many elements.

A sender chooses both, and they are nothing that the size in bytes bounds: 5 MB of ``[],[],…`` are
1.7 million objects. What is beyond is data like any other, and stays bytes.

JSON's numbers have any number of digits, those of parsers 64 bits or a double's 17 digits: two ids
would be one. Whole numbers are Python's here, however long; a fraction that a double does not hold
as it was written is a :class:`WrittenNumber` for who asks for it: what tells events apart, and what
shows them.
"""

import json
import re
import threading
from decimal import Decimal
from typing import Any, Final

import orjson
import simdjson

__all__ = [
    "MAX_DIGITS",
    "MAX_JSON_DEPTH",
    "Limits",
    "UnparsedError",
    "WrittenNumber",
    "check_limits",
    "dump_json",
    "limits",
    "load_json",
    "marks",
    "parse_payload",
]

#: orjson writes no deeper than this.
_WRITABLE_DEPTH: Final = 254
#: What is parsed can be written again within an answer, which has levels of its own.
MAX_JSON_DEPTH: Final = 240
#: A text, or what has begun as one and does not end: never looked at twice.
_TEXTS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?(?:"|\Z)', re.DOTALL)
#: Of the longest whole number that is parsed: it converts in no time, and has a double beside it.
MAX_DIGITS: Final = 300
#: What JSON libraries write as a whole number.
_MIN_WHOLE, _MAX_WHOLE = -(2**63), 2**64 - 1
#: A payload's digits as ``0``, and so its decimal points; ``e`` and ``-`` as they are.
_DIGITS: Final = bytes(
    ord({"E": "e", "e": "e", "-": "-"}.get(chr(code), "0" if chr(code) in "0123456789." else "\0"))
    for code in range(256)
)
#: The shortest whole number of more than 64 bits, the shortest fraction that a double may not hold,
#: and the exponents that are too small for one.
_LONG_WHOLE, _LONG_FRACTION, _SMALL = b"0" * 19, b"0" * 16, b"0e-000"


class UnparsedError(ValueError):
    """A payload that is kept as it is, and not parsed."""


class WrittenNumber(float):
    """A fraction whose digits a double does not hold; as text it is what was written."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "WrittenNumber":
        """The number that ``text`` is in JSON."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


class Limits:
    """What this process parses; ``elements`` is ``HOOKSTREAM_MAX_PAYLOAD_ELEMENTS``."""

    elements = 100_000


limits = Limits()


class _Parsers(threading.local):
    """This thread's parser: one that is made anew for each payload takes three times as long."""

    def __init__(self) -> None:
        self.one = simdjson.Parser()


_parsers = _Parsers()


def parse_payload(data: bytes, *, exact: bool = False) -> Any:
    """The JSON values in ``data``; with ``exact`` fractions keep their digits (WrittenNumber).

    Raises:
        UnparsedError: it is nested too deep, has too many elements, or a number that is too large.
        ValueError: it is not JSON.
    """
    check_limits(data)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("depth limit"):
            raise UnparsedError("nested too deep") from error
        if error.msg.startswith("number is infinity"):
            raise UnparsedError("a number beyond a double's range") from error
        raise
    if may_be_deep(data):
        check_depth(value)
    return _with_digits(data, value, exact)


def load_json(data: bytes) -> Any:
    """JSON that was written here, with its whole numbers. Raises ValueError: it is none."""
    return _with_digits(data, orjson.loads(data), exact=False)


def dump_json(value: Any, *, sort_keys: bool = False) -> bytes:
    """``value`` as JSON, its numbers with all of their digits.

    Raises:
        TypeError: it is nothing for JSON, or nested deeper than 254.
    """
    option = orjson.OPT_SORT_KEYS if sort_keys else None
    try:
        return orjson.dumps(value, default=_written, option=option)
    except TypeError:
        # perhaps for a whole number of more than 64 bits, of which it does not ask ``_written``
        try:
            return orjson.dumps(_long_written(value), default=_written, option=option)
        except RecursionError as error:
            raise TypeError("nested too deep") from error


def _with_digits(data: bytes, value: Any, exact: bool) -> Any:
    """``value``, which a parser of doubles made of ``data``, or what an exact one makes of it."""
    if exact:
        seen = data.translate(_DIGITS)
        if _LONG_FRACTION not in seen and _SMALL not in seen:
            return value
    elif not _may_have_long_whole(data):
        return value
    return json.loads(data.decode(), parse_int=_whole, parse_float=_fraction if exact else float)


def _may_have_long_whole(data: bytes) -> bool:
    """Whether there may be a whole number of more than 64 bits. Costs a tenth of parsing."""
    if len(data) > limits.elements:
        # simdjson takes a dozen times their size for large ones
        return _LONG_WHOLE in data.translate(_DIGITS)
    try:
        _parsers.one.parse(data)
    except (ValueError, RuntimeError):
        return True
    return False


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise UnparsedError(f"a whole number of more than {MAX_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> float:
    number = float(text)
    shown = repr(number)
    # compared as decimals what takes no time: 0.10 is 0.1
    if shown == text or (len(text) <= MAX_DIGITS and Decimal(shown) == Decimal(text)):
        return number
    return WrittenNumber(text)


def _written(value: Any) -> orjson.Fragment:
    if isinstance(value, WrittenNumber):
        return orjson.Fragment(value.text.encode())
    raise TypeError


def _long_written(value: Any) -> Any:
    if type(value) is int and not _MIN_WHOLE <= value <= _MAX_WHOLE:
        return orjson.Fragment(str(value).encode())
    if isinstance(value, dict):
        return {name: _long_written(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_long_written(inner) for inner in value]
    return value


def check_limits(data: bytes) -> None:
    """Refuse what would unfold into more elements than are parsed; without parsing it.

    Nothing is counted where there are fewer bytes than elements allowed. Raises UnparsedError.
    """
    most = limits.elements
    if len(data) <= most or marks(data) <= most:
        return
    # separators within texts are none; there are at most two texts for each
    texts = data.count(b'"') - data.count(b'\\"')
    if texts > 4 * most + 2 or marks(_TEXTS.sub(b"", data)) > most:
        raise UnparsedError(f"more than {most} elements (HOOKSTREAM_MAX_PAYLOAD_ELEMENTS)")


def may_be_deep(data: bytes) -> bool:
    """Whether there are brackets enough; looking for each takes 2 µs for 10 KB of JSON."""
    most = MAX_JSON_DEPTH + 1
    objects = len(data) - len(data.replace(b"{", b"", most))
    return objects + len(data) - len(data.replace(b"[", b"", most)) > MAX_JSON_DEPTH


def check_depth(value: Any) -> None:
    """Raises UnparsedError where a value is nested deeper than it can be written."""
    for _ in range(_WRITABLE_DEPTH - MAX_JSON_DEPTH):
        value = [value]
    try:
        orjson.dumps(value)  # in C, and it refuses what is nested deeper than it can write
    except TypeError as error:
        raise UnparsedError("nested too deep") from error


def marks(data: bytes) -> int:
    """What there is at least as much of in JSON as values besides the first, 1 µs for 10 KB."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")
