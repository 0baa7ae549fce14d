"""What a summary has to keep to, whoever wrote its template: each rule by what breaks it.

Rules look at the line as an agent reads it, and at the payload that it is of.
"""

import re
from collections.abc import Iterator
from typing import Any

from hookstream.app.summaries.facts import is_id

__all__ = ["MAX_TOKENS", "broken", "has_link", "names_somebody"]

MAX_TOKENS = 150

#: What is wrong, and what shows it. Words of the payload's own are left out before.
_MARKS = {
    "Python's own writing": r"\b(?:None|True|False|NaN)\b|[❴{\[]['\"]|['\"][}\]❵]|Undefined|<class",
    "an empty slot": (
        r"\[\s*[,;]|[,;]\s*\]|\[\s*\]|\(\s*[,;]|\(\s*\)|“\s*”|(?<!\])\s[,;:.](?:\s|$)|[:;,]\s*[;,](?!\))"
        r"|→\s*(?:[;,)\]]|$)|(?:^|[;:,(\[])\s*→|[:;,(]\s*(?:$|\))|  "
        r"|\b(?:by|for|to|from|of|at|with|and|as)\s*(?:$|[:;,)\]])"
        r"|(?<!goes )(?<!due )(?<!sign )(?<!signed )(?<!filled )(?<!comes )(?<!logged )"
        r"(?<!turned )\b(?:on|in)\s*(?:$|[:;,)\]])"
    ),
    "unknown": r"\bunknown\b",
    "mark-up": (
        r"&(?:lt|gt|amp|quot|nbsp|#\d+|#x[0-9a-f]+);|%%%|‹[@#!][A-Z0-9&!]|‹https?:|\[~|❴code|❴color"
        r"|‹/?(?:a|b|br|div|em|h\d|img|li|p|span|strong|td|tr|ul)\b[^‹›]*›|‹!--|\*\*\w|!\["
    ),
}
_BROKEN = {what: re.compile(pattern) for what, pattern in _MARKS.items()}
_LINK = re.compile(r"h(?:tt|xx)ps?://\S")
_QUOTED = re.compile(r"“([^“”]+)”")
#: The end of a line after its colon, without its link: what it says the thing is called.
_LAST = re.compile(r": ([^:\s]+)(?: \(?h(?:tt|xx)ps?://\S+)?$")

#: Names of fields that hold an address for people, wherever they are in the first levels.
_PAGES = (
    "html_url",
    "web_url",
    "permalink",
    "hosted_invoice_url",
    "shortUrl",
    "app_url",
    "page_url",
)
_TEST = ("livemode", "live_mode", "live", "is_live")
_IN_TEST = (
    "test",
    "is_test",
    "test_mode",
    "testmode",
    "sandbox",
    "is_sandbox",
    "isTest",
    "test_event",
)
_GONE = re.compile(
    r"(?:^|[._:/-]|[a-z](?=D|R))(delete|destroy|remove)d?(?:$|[._:/-])", re.IGNORECASE
)
_GONE_WORDS = re.compile(
    r"delet|destroy|remov|gone|taken (?:back|out|off)|trash|left|un\w+ed\b|withdr[ae]w|cleared"
    r"|no longer|dropped",
    re.IGNORECASE,
)
_PEOPLE = re.compile(
    r"user|sender|actor|author|customer|member|assignee|owner|creator|agent|contact|recipient|from"
    r"|pusher|by$|person|admin|invitee|signer|buyer|payer|reporter|requester|subscriber|merchant"
    r"|broadcaster|initiator|profile|mail|phone|caller|to$|name$|login",
    re.IGNORECASE,
)
#: Of the fields that end in "name" those of people.
_OF_PEOPLE = re.compile(
    r"(?:user|broadcaster|moderator|author|sender|owner|customer|from|actor|member|requester"
    r"|creator|client|contact|first|last|display|screen|real|full|nick|viewer|chatter)_?name$",
    re.IGNORECASE,
)
_NAMES = re.compile(
    r"login|username|user_name|nickname|displayname|display_name|real_name|full_?name|first_?name"
    r"|global_name|e?mail|^name$|address|phone|handle|summary|user_login|^from$|^to$|to_number|uniquename",
    re.IGNORECASE,
)


def broken(summary: str, payload: Any, kind: str = "") -> list[str]:
    """The rules that a summary breaks, in words; nothing where it keeps to all."""
    texts = " ".join(_texts(payload))
    found = [
        f"{what}: {hit[0]!r}"
        for what, pattern in _BROKEN.items()
        for hit in pattern.finditer(_WHOLE.sub("https://x", summary))
        # who writes "None" or "unknown" has written it
        if what not in ("Python's own writing", "unknown") or hit[0] not in texts
    ]
    titles = [*_QUOTED.findall(summary), *_LAST.findall(summary)]
    found += [f"an id as a title: {title}" for title in titles if is_id(title)]
    if _in_test(payload) and not re.search(r"\btest|sandbox", summary, re.IGNORECASE):
        found.append("test mode is not marked")
    if _has_page(payload) and not has_link(summary):
        found.append("no link, though the payload has one")
    if _GONE.search(kind) and not _GONE_WORDS.search(summary):
        found.append("does not say that it is gone")
    return found


#: Links, and emojis by their names, whose colons part nothing.
_WHOLE = re.compile(r"h(?:tt|xx)ps?://\S+|(?<!\S):[a-z0-9_+-]+:(?!\S)")


def has_link(summary: str) -> bool:
    """Whether there is where to click; also one that only may be read."""
    return _LINK.search(summary) is not None


def names_somebody(summary: str, payload: Any) -> bool:
    """Whether a name, an address or a number of somebody in the payload is in its summary."""
    return any(name in summary for name in _people(payload))


def _walk(
    value: Any, depth: int, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of the first levels with the names that lead to it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, str(name)), inner
            if depth:
                yield from _walk(inner, depth - 1, (*path, str(name)))
    elif isinstance(value, list) and depth:
        for inner in value[:5]:
            yield from _walk(inner, depth - 1, path)


def _texts(payload: Any) -> Iterator[str]:
    for path, value in _walk(payload, 12):
        yield path[-1]
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))


def _in_test(payload: Any) -> bool:
    for path, value in _walk(payload, 2):
        if path[-1] in _TEST and value in (False, "false"):
            return True
        if path[-1] in _IN_TEST and value is True:
            return True
    return False


def _has_page(payload: Any) -> bool:
    return any(
        path[-1] in _PAGES and isinstance(value, str) and value.startswith("http")
        for path, value in _walk(payload, 2)
    )


def _people(payload: Any) -> Iterator[str]:
    for path, found in _walk(payload, 12):
        for value in found if isinstance(found, list) else [found]:
            if not isinstance(value, str) or not 3 <= len(value) <= 100 or is_id(value):
                continue
            within = "/".join(path[-3:-1])
            if (_NAMES.search(path[-1]) and _PEOPLE.search(within)) or (
                _PEOPLE.search(path[-1])
                and not value.startswith("http")
                and (_OF_PEOPLE.search(path[-1]) or not path[-1].endswith("name"))
            ):
                yield value
