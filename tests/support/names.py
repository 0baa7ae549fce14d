"""A model for names, written as a user would write one: HOOKSTREAM_NER=tests.support.names:find.

It knows a few names, where a real one would have read books; and functions that go wrong.
"""

import re
import time

__all__ = ["fail", "find", "hang", "lie"]

KNOWN = re.compile(r"\b(?:Jane|Ada|Karl|Wei)(?: [A-Z]\w+)?")


def find(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    """The names in each text: where they begin and end, and that they are names."""
    return [
        [(found.start(), found.end(), "name") for found in KNOWN.finditer(text)] for text in texts
    ]


find.kinds = ("name",)  # type: ignore[attr-defined]


def fail(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    """Raises, and says what it was asked."""
    raise ValueError(f"what is {texts[0]}?")


def hang(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    """Answers what has no Jane in it, and nothing else in its time."""
    while any("Jane" in text for text in texts):
        time.sleep(1)
    return find(texts)


def lie(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    """Spans that are in no text."""
    return [[(0, len(text) + 1, "name")] for text in texts]


#: No function at all.
NUMBER = 7
