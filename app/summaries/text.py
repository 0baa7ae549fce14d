"""Strangers' text made harmless: one line, no control or invisible characters, no frame to close.

Text in a payload is data. It may have been written to be taken for an instruction, or to end the
frame it stands in and to go on outside of it. Words cannot be told from instructions, so they are
left as they are and marked as untrusted; what can be taken away is everything that lets them leave
their place or hide.
"""

import re
import unicodedata

from hookstream.app.summaries.links import leads_home, may_lead, without_links

__all__ = ["SUSPECT", "is_plain", "plain_text", "shown", "visible"]

_SPACE = re.compile(r"\s+")
#: Runs that open or close a frame somewhere: Markdown fences and rules, chat and template marks.
_FENCES = re.compile(r"`{3,}|~{3,}|-{3,}|={3,}|\*{3,}|_{3,}|#{3,}")
#: Characters of which each shows itself, and joins with no other: the usual ones only.
_PLAIN = (
    " -~\u00a1-\u00ac\u00ae-\u024f\u0400-\u0482\u048a-\u052f"  # ASCII, Latin, Cyrillic
    "\u2010-\u2027\u2030-\u205e\u20ac\u2190-\u22ff\u2774\u2775"  # punctuation, arrows, signs
    "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fef\uac00-\ud7a3\U0001f300-\U0001f5ff"
)
_ALL_PLAIN = re.compile(f"[{_PLAIN}]*")
#: Whatever may need mending at all. Most text has nothing of it.
SUSPECT = re.compile(rf"[^{_PLAIN}]|[<>{{}}]|  |``|~~|--|==|\*\*|__|##")
#: Brackets of tags and of templates, by look-alikes that no parser takes for them.
_BRACKETS = str.maketrans({"<": "‹", ">": "›", "{": "❴", "}": "❵"})
#: Marks that join or vary what is before them; more than a few are there to hide or to flood.
_MAX_MARKS = 3
#: Invisible though not of category C: Hangul fillers, the Braille blank, the combining joiner,
#: variation selectors (which can carry hidden text).
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5") | {
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x1810))
}


def plain_text(value: object, limit: int) -> str:
    """``value`` on one line, harmless and at most ``limit`` characters long.

    Idempotent. Control, format, private and unassigned characters and unpaired surrogates (Unicode
    categories C*) go, among them bidirectional overrides and the tag block; so do characters that
    show nothing. ``<``, ``>``, ``{`` and ``}`` become look-alikes and fences lose their length, so
    that no tag, template or Markdown block can be opened or closed. Nothing is a link
    (:func:`without_links`).
    """
    text = str(value)
    if len(text) <= limit and is_plain(text) and (not may_lead(text) or leads_home(text)):
        return text.strip(" ")
    text = _SPACE.sub(" ", text[: limit * 4])
    if not text.isascii() or not text.isprintable():
        text = visible(text)
    if not text.isalnum():
        text = _FENCES.sub(lambda run: run.group()[:2], text).translate(_BRACKETS)
        text = _SPACE.sub(" ", without_links(text)).strip()
    return text if len(text) <= limit else _cut(text, limit)


def _cut(text: str, limit: int) -> str:
    """Its beginning. An address that would end within its host leads elsewhere: it goes whole."""
    text = text[: limit - 1]
    word = text[text.rfind(" ") + 1 :]
    if "/" not in word.partition("://")[2] and "://" in word:
        text = text[: len(text) - len(word)]
    return text.rstrip() + "…"


def is_plain(text: str) -> bool:
    """Whether nothing of a text has to be mended, but for links."""
    if not text.isascii():
        return not SUSPECT.search(text)
    # the same, in a third of the time
    return text.isprintable() and not (
        "<" in text
        or ">" in text
        or "{" in text
        or "}" in text
        or "  " in text
        or "--" in text
        or "__" in text
        or "``" in text
        or "**" in text
        or "##" in text
        or "==" in text
        or "~~" in text
    )


def visible(text: str, keep: str = "") -> str:
    """``text`` without what shows nothing; characters in ``keep`` stay.

    Spaces and ends of lines of whatever kind become the usual ones.
    """
    if _ALL_PLAIN.fullmatch(text):
        return text
    kept: list[str] = []
    marks = 0
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", _few_marks(text))
    for char in text:
        category = unicodedata.category(char)
        if category[0] == "Z":
            char = "\n" if category != "Zs" and "\n" in keep else " "
        if (category[0] == "C" and char not in keep) or char in _INVISIBLE:
            continue
        marks = marks + 1 if category[0] == "M" else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    shown = "".join(kept)
    # what went may have kept a letter from its mark
    return shown if unicodedata.is_normalized("NFC", shown) else visible(shown, keep)


def _few_marks(text: str) -> str:
    """``text`` with at most 30 marks in a row (UAX #15, Stream-Safe Text Format).

    To put them into their order takes the square of their number.
    """
    kept: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= 30:
            kept.append(char)
    return "".join(kept)


def shown(name: str) -> str:
    """A name by which things are told apart, for people: what shows nothing is there as an escape.

    Two names that differ stay two, also where they differ in what cannot be seen.
    """
    if "\\" not in name and ((name.isascii() and name.isprintable()) or visible(name) == name):
        return name
    return "".join(_escaped(char) for char in name)


def _escaped(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char == " " or (
        char not in _INVISIBLE
        and unicodedata.category(char)[0] not in "CMZ"
        and unicodedata.normalize("NFC", char) == char
    ):
        return char
    return f"\\u{{{ord(char):x}}}"
