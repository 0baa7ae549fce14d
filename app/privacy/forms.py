"""Masked forms: what is left of a value, by its kind. Masked again they stay as they are."""

# ruff: noqa: E501 (patterns: a line says what belongs together)

import re
from typing import Final

from hookstream.app.privacy.kinds import family

__all__ = ["HIDDEN", "masked"]

HIDDEN: Final = "•••"
_WORD: Final = re.compile(r"\w")
_WORDS: Final = re.compile(r"\S+")
_DIGIT: Final = re.compile("[0-9]")
#: Of a secret: what says whose it is, as its maker documents it, and nothing of what is drawn.
_MAKER: Final = re.compile(
    r"AKIA|ASIA|gh[pousr]_|github_pat_|gl[a-z]{2,4}-|xox[a-z]-|xapp-|hooks\.slack\.com/|[rs]k_(?:live|test)_|whsec_"
    r"|AIza|ya29\.|GOCSPX-|sk-(?:ant-|proj-|svcacct-)?|hf_|eyJ|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
)  # fmt: skip


def masked(kind: str, text: str) -> str:
    """The form of ``text`` that agents may see.

    An e-mail address keeps the first character of its name and of its host, and the last part of
    the host; a card and an IBAN their last four, an IBAN its country; a telephone number its first
    two and last two digits; an IP address its first half; a national id its separators; a name the
    first letter of each word; a secret what names its maker. Of everything else nothing is left.

    >>> masked("email", "jane@example.com"), masked("card", "4111 1111 1111 1111")
    ('j•••@e•••.com', '•••• •••• •••• 1111')
    """
    kind = family(kind)
    if kind == "email":
        return _email(text)
    if kind in ("card", "iban"):
        return _ends(text, 2 if kind == "iban" else 0, 4)
    if kind == "phone":
        return _phone(text)
    if kind == "ip":
        return _ip(text)
    if kind == "national_id":
        return _WORD.sub("•", text)
    if kind == "name":
        return " ".join(word[0] + HIDDEN for word in _WORDS.findall(text)) or HIDDEN
    if kind == "secret":
        maker = _MAKER.match(text)
        return (maker[0] if maker else "") + HIDDEN
    return HIDDEN


def _email(text: str) -> str:
    name, _, host = text.partition("@")
    return f"{name[:1]}{HIDDEN}@{host[:1]}{HIDDEN}.{host.rpartition('.')[2]}"


def _ends(text: str, first: int, last: int) -> str:
    """``text`` with its separators, and of its characters the first and last ones."""
    places = [found.start() for found in _WORD.finditer(text)]
    kept = {*places[:first], *places[-last:]}
    return "".join(
        "•" if _WORD.match(char) and at not in kept else char for at, char in enumerate(text)
    )


def _phone(text: str) -> str:
    places = [found.start() for found in _DIGIT.finditer(text)]
    kept = {*places[:2], *places[-2:]}
    return "".join(
        "•" if char.isdigit() and at not in kept else char for at, char in enumerate(text)
    )


def _ip(text: str) -> str:
    if ":" in text:
        return ":".join(text.split(":")[:2]) + f":{HIDDEN}"
    return ".".join(text.split(".")[:2]) + ".•.•"
