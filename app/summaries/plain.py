"""The plain summary of an event that has no template: what its payload tells, with the names."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hookstream.app.ids import own_tool_id
from hookstream.app.providers.provider import UNKNOWN
from hookstream.app.summaries.facts import ACTORS, MAX_SAFE, PLACES, first_of, is_id
from hookstream.app.summaries.links import is_address
from hookstream.app.summaries.markup import first_sentences
from hookstream.app.summaries.text import plain_text
from hookstream.codecs.envelope import Event

__all__ = ["SHAPELESS", "summary_of"]

#: Providers that stand for no sender in particular: the tool's name says more.
SHAPELESS: Final = frozenset({"standard", "generic", "bearer", "basic", "none"})

#: How much is told of the fields, how many, and how much of one; how many are looked at.
MAX_TOLD_CHARS: Final = 200
MAX_TOLD: Final = 8
MAX_VALUE_CHARS: Final = 80
MAX_LOOKED_AT: Final = 200
#: A longer address costs more than it is worth, and one that is cut leads nowhere.
MAX_URL_CHARS: Final = 200


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Objects that only wrap what they are about: their name tells nothing, and is no level.
_WRAPPERS: Final = _set("attributes body data details event object payload resource result")
#: Words in names of fields by which a reader goes; the first of all fields to be told.
_TELLING: Final = _set(
    "account action address alert amount app balance branch carrier category channel check "
    "city cluster code comment company conclusion count country currency customer decision "
    "description device domain due duration email env environment error event exit expires "
    "failed failure field file from grade host hostname impact invoice item job kind label "
    "level limit location message method metric model monitor name namespace new note number "
    "old order outcome owner path paid phase phone plan price priority product progress "
    "project quantity query reason recipient region release repo repository result role rule "
    "score sender server service severity site sku source stage state status step subject "
    "subscription summary system tag target task team text threshold title to topic total "
    "tracking type unit url usage user username value version vote zone"
)
#: Words in names of fields whose values say nothing to a reader, or are nobody's business.
_SILENT: Final = _set(
    "avatar checksum color colour datacontenttype etag fingerprint gravatar hash hmac html "
    "icon image img ip ips lang locale nonce object password picture schema secret self sha "
    "sig signature sender_id seller specversion thumbnail token tz useragent uuid guid "
    "webhook website"
)
_TIMES: Final = _set("at created date datetime iso modified ms time timestamp ts updated epoch utc")
#: Words that make a time worth telling: when it was sent is not.
_WHEN: Final = _set(
    "arrival deadline due end ended ends expiration expires scheduled start starts until"
)
#: Fields that say that nothing real has happened, by what they are then.
_IN_TEST: Final = {
    **dict.fromkeys(("live", "livemode", "live_mode", "is_live"), (False, "false")),
    **dict.fromkeys(
        ("test", "is_test", "isTest", "test_mode", "testMode", "testmode", "sandbox", "is_sandbox"),
        (True, "true"),
    ),
}
#: Words in names of fields that hold an address for people.
_LINKS: Final = _set("href link page permalink url urls web")
#: Where a payload says what happened, if its sender's row does not.
_KINDS: Final = ("event", "event_type", "eventType", "event_name", "type", "topic", "action")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT?|\d{10}(?:\d{3})?\Z")


class _Field(NamedTuple):
    place: int
    rank: int
    name: str
    value: str


class _Fields(NamedTuple):
    """What is found in a payload: fields to be told, the first address, the marks of a test."""

    told: list[_Field]
    url: str
    in_test: bool


def summary_of(event: Event, payload: Any, facts: Mapping[str, Any]) -> str:
    """One line about any event: its type, its facts, and the most telling fields with their names.

    ``facts`` are those of :func:`hookstream.app.summaries.facts.find_facts`. Looks two levels deep,
    at some hundred fields.
    """
    name = own_tool_id(event.tool_id) if event.provider in SHAPELESS else event.provider
    kind = "" if event.type == UNKNOWN else event.type
    kind = kind or _kind_of(payload)
    words = [name, plain_text(kind, 200)] if kind else [name]
    if place := facts.get("place"):
        words.append(f"in {place}")
    if facts.get("count", 0) > 1:
        kinds = f" ({facts['kinds']})" if "kinds" in facts else ""
        words.append(f"{facts['count']} items{kinds}, the first")
    detail = " ".join(
        part
        for part in (
            f"#{facts['number']}" if "number" in facts else "",
            first_sentences(str(facts.get("title", "")), 160),
            f"[{facts['state']}]" if "state" in facts else "",
            f"by {facts['actor']}" if "actor" in facts else "",
        )
        if part
    )
    said = {str(value).casefold() for key, value in facts.items() if key not in ("count", "kinds")}
    found = _fields(payload)
    told = ", ".join(
        f"{field.name} {field.value}" for field in _telling(found.told, said | {kind.casefold()})
    )
    url = str(facts.get("url", ""))
    url = url if "://" in url and len(url) <= MAX_URL_CHARS else found.url
    parts = ((": ", detail), ("; " if detail else ": ", told), (" ", url))
    mark = " (test mode)" if found.in_test else ""
    return " ".join(words) + mark + "".join(f"{lead}{part}" for lead, part in parts if part)


def _kind_of(payload: Any) -> str:
    """What a payload says itself that has happened, in a word or a few; ""."""
    if isinstance(payload, dict):
        for name in _KINDS:
            value = payload.get(name)
            if isinstance(value, str) and 0 < len(value) <= 60 and not is_id(value):
                return value
    return ""


def _telling(fields: list[_Field], said: set[str]) -> list[_Field]:
    """The fields to be told, as they stand in the payload; nothing of what is ``said``."""
    chosen: list[_Field] = []
    size = 0
    for field in sorted(fields, key=lambda field: (field.rank, field.place)):
        value = field.value.casefold()
        cost = len(field.name) + len(field.value) + 3
        if value in said or len(chosen) == MAX_TOLD or size + cost > MAX_TOLD_CHARS:
            continue
        said.add(value)
        chosen.append(field)
        size += cost
    return sorted(chosen)


def _fields(payload: Any) -> _Fields:
    """What two levels of a payload have; what wraps it is no level, and who and where was told."""
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    apart = {first_of(payload, PLACES), first_of(payload, ACTORS)}
    told: list[_Field] = []
    url, in_test = "", False
    # its path, its levels so far, and the object
    waiting: list[tuple[str, int, Any]] = [("", 0, payload)]
    looked_at = 0
    while waiting:
        path, level, inside = waiting.pop(0)
        for name, value in inside.items() if isinstance(inside, dict) else ():
            looked_at += 1
            if looked_at > MAX_LOOKED_AT:
                return _Fields(told, url, in_test)
            in_test = in_test or value in _IN_TEST.get(name, ())
            if isinstance(value, dict):
                if name in _WRAPPERS and level < 2:
                    waiting.append((path, level, value))
                elif level < 1 and name not in apart:
                    waiting.append((f"{path}{name}.", level + 1, value))
            elif is_link(name, value):
                url = url or value
            elif (text := _said(value)) and (rank := _rank(name, value, text)) is not None:
                told.append(_Field(looked_at, rank + level, plain_text(f"{path}{name}", 60), text))
    return _Fields(told, url, in_test)


def is_link(name: str, value: Any) -> bool:
    """Whether a field holds an address for people, by its name."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_URL_CHARS
        and value.startswith(("https://", "http://"))
        and is_address(value)
        and bool(_words(name) & _LINKS)
        and not _words(name) & (_SILENT | {"api"})
    )


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORDS.findall(name[:60])}


def _said(value: Any) -> str:
    """A value as it is told; "" for one that says nothing."""
    if isinstance(value, bool) or value is None:
        return "yes" if value else ""
    if isinstance(value, str):
        return plain_text(first_sentences(value[:1000], MAX_VALUE_CHARS), MAX_VALUE_CHARS)
    if isinstance(value, (int, float)):
        return str(value) if abs(value) <= MAX_SAFE else ""
    if isinstance(value, list) and value and len(value) <= 4:
        if all(isinstance(item, str) and 0 < len(item) <= 30 for item in value):
            return plain_text("/".join(value), MAX_VALUE_CHARS)
        return ""
    return ""


def _rank(name: str, value: Any, text: str) -> int | None:
    """How telling a field is, 0 the most; None for one that is not told."""
    words = _words(name)
    if (
        words & _SILENT
        or {"api", "version"} <= words
        or name in _IN_TEST
        or is_id(text)
        or text.startswith(("http://", "https://", "hxxp", "/", "$"))
        or not any(char.isalnum() for char in text)
    ):
        return None
    if words & _TIMES or (isinstance(value, str) and _TIME.match(value)):
        return 3 if words & _WHEN else None
    if isinstance(value, bool):
        return 5
    if {"id", "key", "ref"} & words:
        return 4
    return 0 if words & _TELLING else 3
