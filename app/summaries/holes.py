"""What a template leaves empty is taken out with the words that lead to it.

A template says ``“{{ title }}” by {{ user }}: {{ text }}``, and payloads lack one or the other.
What inserts nothing leaves a hole, a character that no text of a payload can have; here the hole
goes, and with it its quotes and brackets, the comma before it, the ``by`` that nobody follows, the
link that would lead nowhere.
"""

import re
from typing import Final

__all__ = ["HOLE", "without_holes"]

#: Stands where a value would. No character (U+FDD0 to U+FDEF are none): what a payload has of it
#: is gone before its text is inserted.
HOLE: Final = "\ufdd0"

#: Rounds in which what is around a hole is taken out: each may uncover one more.
MAX_ROUNDS: Final = 4

#: Words that say nothing without what follows.
_LEADS: Final = (
    "about|after|as|asked|at|before|by|due|for|from|in|into|named|of|on|since|to|under|until|via|was"
    "|with|from the|of the|on the|in the|to the|by the|for the|at the"
)
#: And whole clauses of one word that are about what follows.
_CLAUSES: Final = (
    "account|agent|audience|board|charge|code|error|invoice|key|order|plan|reason|site|store|tag"
)
#: A link with a hole in it leads elsewhere; so does one whose beginning is missing.
_LINK: Final = re.compile(
    rf"(?:https?|mailto):[^\s{HOLE}]{{0,500}}{HOLE}[^\s)]*|(?<![^\s(]){HOLE}/[^\s/)]*/[^\s)]*"
)
#: Around each hole, in the order in which they are tried.
_AROUND: Final = (
    # names of two parts, numbers: ``project/slug#5``
    (re.compile(rf"{HOLE}(?:[/:#!@.~-]?{HOLE})+"), HOLE),
    (re.compile(rf"(?<![\w/])[#@!~$]{HOLE}|{HOLE}/(?=\w)|(?<=\w)[/#@!]{HOLE}"), HOLE),
    # quotes and brackets, and what stands in them beside others
    (re.compile(rf"“{HOLE}”|\({HOLE}\)|\[{HOLE}\]|'{HOLE}'|\"{HOLE}\"|`{HOLE}`|:{HOLE}:"), HOLE),
    # by nobody, for no reason
    (re.compile(rf", (?:[a-z]{{1,20}}ed (?:by|from|on|to)|{_CLAUSES}) {HOLE}"), HOLE),
    (re.compile(rf"(?<![\w“])(?:{_LEADS}) {HOLE}"), HOLE),
    (re.compile(rf"(?<=[(\[]){HOLE}[,;:]? "), ""),
    (re.compile(rf"(?<![(\[])[,;:]? ?{HOLE}(?=[)\]])"), ""),
    # → one of two
    (re.compile(rf"{HOLE} (?:→|=|×) | (?:→|=|×) {HOLE}"), ""),
    # clauses: what follows a colon goes on behind it, what has nothing ends without one
    (re.compile(rf": {HOLE}[,:] (?!h(?:tt|xx)ps?:)"), ": "),
    (re.compile(rf"(?<=;) {HOLE}: "), " "),
    (re.compile(rf"[,;:]? {HOLE}(?=[,;:])"), ""),
    (re.compile(rf"^{HOLE}[,;:]? ?"), ""),
    (re.compile(rf"[,;:] {HOLE}(?= |$)"), ""),
)
_LEFT: Final = re.compile(rf" {HOLE}(?= )|{HOLE}")
#: A colon with nothing before the link that it led up to.
_COLON: Final = re.compile(r"[:;,] ?(?=[,;:](?: |$))")


def without_holes(text: str) -> str:
    """``text``, in which nothing is left of holes and of what only led up to them."""
    if HOLE not in text:
        return text
    text = _LINK.sub(HOLE, text)
    for _ in range(MAX_ROUNDS):
        before = text
        for pattern, instead in _AROUND:
            text = pattern.sub(instead, text)
        if text == before or HOLE not in text:
            break
    text = _LEFT.sub("", text)
    return _COLON.sub("", text) if before != text else text
