"""E-mail addresses (RFC 5321, with the letters of RFC 6531)."""

import re
from collections.abc import Iterator
from typing import Final

from hookstream.app.privacy.detector import Place, Span

__all__ = ["Emails"]

_EMAIL: Final = re.compile(
    r"(?<![\w.!#$%&'*+=?^`{|}~/-])"
    r"[\w.!#$%&'*+=?^`{|}~-]{1,64}+@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
#: Addresses of this form name a repository, and ids of messages are no mailbox.
_NOBODY: Final = frozenset({"git", "hg", "svn"})
_MESSAGE_IDS: Final = ("message_id", "in_reply_to", "references")


class Emails:
    """``name@host.tld``; not ``git@host:path``, versions of packages, logins in URLs."""

    kinds = frozenset({"email"})
    rank = 4
    texts = "@"
    names = ""

    def concerns(self, place: Place) -> bool:
        """No field says it."""
        return False

    def find(self, text: str, place: Place) -> Iterator[Span]:
        """Parts of a text."""
        if "@" not in text or place.field.endswith(_MESSAGE_IDS):
            return
        for found in _EMAIL.finditer(text):
            if found[0].partition("@")[0] not in _NOBODY:
                yield Span(found.start(), found.end(), "email")
