"""Finding a person whose mail, id or phone was given once, by keyed hashes of it alone.

Of a value its length and a keyed hash are kept. A text is looked through word by word: whatever
begins and ends like the value and is as long is hashed by the same key, and compared. So a search
goes on after a crash, and again after a backup was restored, without anybody knowing for whom.
"""

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

__all__ = ["MAX_VALUES", "MIN_CHARACTERS", "Subject", "readings"]

#: Of one erasure.
MAX_VALUES: Final = 20
#: Shorter ones, or fewer digits, are found in what has nothing to do with anybody.
MIN_CHARACTERS: Final = 5
MIN_DIGITS: Final = 6
MAX_CHARACTERS: Final = 256
DIGEST_BYTES: Final = 16
#: How often a text within a text is unfolded (JSON in JSON, a form in JSON).
MAX_FOLDS: Final = 3

_WORD: Final = re.compile(r"\w+")
_DIGITS: Final = re.compile(r"\d(?:[\s().+/\-\u00a0]{0,3}\d)+")
_APART: Final = re.compile(r"[\s/]{1,3}")
_NO_DIGIT: Final = re.compile(r"\D")
_IS_NUMBER: Final = re.compile(r"[\s().+/\-\u00a0\d]+")
_EDGES: Final = re.compile(r"^\W+|\W+$")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
#: What goes on where a mail address seems to end or begin.
_BEFORE_MAIL: Final = frozenset(".+%-")
_AFTER_MAIL: Final = frozenset(".-")


@dataclass(frozen=True, slots=True)
class _Form:
    """What is known of a value. ``kind``: "n" of digits alone, "m" a mail address, "w" words."""

    kind: str
    length: int
    digest: bytes


class Subject:
    """The values of one person, by a key that whoever keeps the hashes does not have."""

    def __init__(self, key: bytes, forms: Iterable[_Form]) -> None:
        self._key = key
        self.forms = tuple(sorted(set(forms), key=lambda form: (form.kind, form.length)))
        self._numbers = {(form.length, form.digest) for form in self.forms if form.kind == "n"}
        self._digits = sorted({length for length, _ in self._numbers})
        self._words = {
            (form.length, form.digest): form.kind == "m" for form in self.forms if form.kind != "n"
        }
        self._lengths = sorted({length for length, _ in self._words})

    @classmethod
    def of(cls, key: bytes, values: Sequence[str]) -> "Subject":
        """Whoever has these values.

        Raises:
            ValueError: there are none or too many, or one would be found everywhere.
        """
        if not 0 < len(values) <= MAX_VALUES:
            raise ValueError(f"values: from 1 to {MAX_VALUES} of them")
        subject = cls(key, ())
        return cls(key, [form for value in values for form in subject._forms(value)])

    @classmethod
    def read(cls, key: bytes, kept: Sequence[Sequence[Any]]) -> "Subject":
        """Of what :meth:`kept` gave. Raises ValueError where that is not it."""
        return cls(
            key, [_Form(str(kind), int(length), bytes.fromhex(said)) for kind, length, said in kept]
        )

    def kept(self) -> list[list[Any]]:
        """What is remembered of the values, for JSON: kind, length, keyed hash."""
        return [[form.kind, form.length, form.digest.hex()] for form in self.forms]

    def _forms(self, value: str) -> Iterator[_Form]:
        if "\0" in value or len(value) > MAX_CHARACTERS:
            raise ValueError(f"a value has at most {MAX_CHARACTERS} characters, and no NUL")
        text = _EDGES.sub("", _plain(value))
        digits = _NO_DIGIT.sub("", text)
        if _IS_NUMBER.fullmatch(text):
            if len(digits) < MIN_DIGITS:
                raise ValueError(f"a number of fewer than {MIN_DIGITS} digits is found everywhere")
            # however it is written; with a country's code also as within the country
            yield self._form("n", digits.removeprefix("00"))
            return
        if len(text) < MIN_CHARACTERS:
            raise ValueError(
                f"a value of fewer than {MIN_CHARACTERS} characters is found everywhere"
            )
        kind = "m" if "@" in text else "w"
        yield self._form(kind, text)
        packed = "".join(text.split())
        if packed != text:
            yield self._form(kind, packed)
        elif text.isalnum() and len(digits) >= MIN_DIGITS:
            # an account's number, as it is printed
            fours = " ".join(text[at : at + 4] for at in range(0, len(text), 4))
            yield self._form(kind, fours)

    def _form(self, kind: str, text: str) -> _Form:
        return _Form(kind, len(text), self._digest(kind, text))

    def _digest(self, kind: str, text: str) -> bytes:
        mark = b"n" if kind == "n" else b"w"
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(
            data, digest_size=DIGEST_BYTES, key=self._key, person=b"subject" + mark
        ).digest()

    def occurs(self, text: str) -> bool:
        """Whether a text has one of the values as words of its own.

        Time is linear in its length: each word is hashed at most once for each length of a value.
        """
        text = _plain(text)
        return (bool(self._lengths) and self._has_words(text)) or (
            bool(self._digits) and self._has_number(text)
        )

    def _has_words(self, text: str) -> bool:
        spans = [found.span() for found in _WORD.finditer(text)]
        ends = {end for _, end in spans}
        for length in self._lengths:
            for start in [start for start, _ in spans if start + length in ends]:
                end = start + length
                mail = self._words.get((length, self._digest("w", text[start:end])))
                if mail is not None and not (mail and _goes_on(text, start, end)):
                    return True
        return False

    def _has_number(self, text: str) -> bool:
        for found in _DIGITS.finditer(text):
            digits = _NO_DIGIT.sub("", found[0])
            if len(digits) < self._digits[0]:
                continue
            # several numbers behind one another look like one
            parts = {digits, *(_NO_DIGIT.sub("", part) for part in _APART.split(found[0]))}
            for part in (one.removeprefix("00") for one in parts):
                length = len(part)
                if length in self._digits and (length, self._digest("n", part)) in self._numbers:
                    return True
        return False

    def found_in(self, data: bytes | str) -> bool:
        """Whether bytes have one of the values, as they are or in one of :func:`readings`."""
        return any(self.occurs(text) for text in readings(data))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether a mail address is only a part of a longer one."""
    if start and text[start - 1] in _BEFORE_MAIL:
        return True
    return text[end : end + 1] in _AFTER_MAIL and text[end + 1 : end + 2].isalnum()


def readings(data: bytes | str) -> Iterator[str]:
    """A text as it stands, and what it says once escapes of JSON, forms and HTML are undone."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    yield text
    seen = {text}
    for _ in range(MAX_FOLDS):
        fresh = [form for form in _unfolded(text) if form not in seen]
        if not fresh:
            return
        yield from fresh
        seen.update(fresh)
        text = fresh[0]


def _unfolded(text: str) -> Iterator[str]:
    if "\\" in text:
        yield _unescaped(text)
    if "%" in text:
        yield unquote_plus(text, errors="replace")
    if "&" in text:
        yield html.unescape(text)


def _unescaped(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return found[2] if found[2] in '"\\/' else " "

    said = _ESCAPE.sub(plain, text)
    # characters beyond the first plane are two escapes
    return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
