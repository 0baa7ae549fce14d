"""Correlation keys: the one thing that events of different types and tools are about.

A pull request, its reviews, its comments and its checks share ``github:acme/app#5``; a ticket that
a branch or a title names adds ``ticket:OPS-7``, which Jira's and Linear's own events carry too.
Each provider's file finds its own; here is what they share.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

__all__ = ["first_keys", "tickets"]

MAX_KEYS: Final = 8
MAX_KEY_CHARS: Final = 200
#: Keys of tickets as Jira and Linear make them. Version names such as UTF-8 look alike: two letters
#: at least, and no zero in front.
_TICKET: Final = re.compile(r"(?<![A-Za-z0-9-])([A-Z][A-Z0-9]{1,9}-[1-9][0-9]{0,6})(?![A-Za-z0-9])")
_NO_TICKETS: Final = ("UTF-", "ISO-", "SHA-", "CVE-", "RFC-", "HTTP-", "AES-", "BASE-")


def first_keys(found: Iterable[str]) -> tuple[str, ...]:
    """The first eight keys that can be shown, each once."""
    clean = (key for key in found if len(key) <= MAX_KEY_CHARS and key.isprintable())
    return tuple(dict.fromkeys(clean))[:MAX_KEYS]


def tickets(*texts: str) -> Iterator[str]:
    """The keys of the tickets that titles and branches name."""
    for text in texts:
        # most texts name none: a hyphen is found sooner than a word before it
        if "-" not in text:
            continue
        for ticket in _TICKET.findall(text[:500]):
            if not ticket.startswith(_NO_TICKETS):
                yield f"ticket:{ticket}"
