"""The facts that most payloads have."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from hookstream.app.summaries.links import is_address
from hookstream.app.summaries.text import plain_text

__all__ = ["ACTORS", "MAX_SAFE", "PLACES", "find_facts", "first_of", "is_id"]

MAX_FACT_CHARS = 300
MAX_NUMBER_CHARS = 40
#: The largest whole number that every reader of JSON takes as it is (RFC 7493); what is larger is
#: an id, and told as text.
MAX_SAFE = 2**53 - 1

#: Objects that a payload is usually about, most telling first.
_SUBJECTS = (
    "pull_request",
    "issue",
    "discussion",
    "release",
    "check_run",
    "check_suite",
    "workflow_run",
    "workflow_job",
    "deployment",
    "alert",
    "merge_request",
    "object_attributes",
    "incident",
    "data",
    "event",
    "object",
    "pullrequest",
    "card",
    "milestone",
    "package",
    "commit",
)
_FACTS = (
    (
        "title",
        ("title", "summary", "name", "subject", "text", "message", "description"),
    ),
    ("number", ("number", "iid", "key")),
    ("state", ("state", "status", "conclusion")),
    ("url", ("html_url", "web_url", "url", "permalink")),
)
#: What says of an item of a list what it is.
_KIND_NAMES: Final = ("type", "event_type", "eventType", "event", "kind", "action", "status")
#: Items of a list that are counted, and kinds that are told.
MAX_COUNTED: Final = 20_000
MAX_KINDS: Final = 8
#: Who did it, most telling first; and below where.
ACTORS: Final = ("sender", "actor", "user", "author", "pusher")
_ACTOR_NAMES = ("login", "username", "displayName", "name", "display_name", "email", "id")
PLACES: Final = ("repository", "project", "organization", "team", "channel")
_PLACE_NAMES = ("full_name", "path_with_namespace", "key", "name", "login", "id")
#: What tells things apart and tells a reader nothing: UUIDs, hashes, ``prefix_4kT9…``.
_ID: Final = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{16,}|[0-9]{9,}"
    r"|[a-z]{1,12}[_-](?=[A-Za-z_-]*[0-9])[A-Za-z0-9]{14,}"
    r"|(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}",
    re.IGNORECASE,
)


def first_of(payload: Any, names: tuple[str, ...]) -> str:
    """The first of ``names`` that an object has something by; "" for none."""
    if not isinstance(payload, dict):
        return ""
    return next((name for name in names if payload.get(name)), "")


def is_id(text: str) -> bool:
    """Whether a text is an id that says nothing by itself: no title, and not worth telling."""
    return len(text) <= MAX_FACT_CHARS and _ID.fullmatch(text) is not None


def find_facts(payload: Any) -> dict[str, Any]:
    """What most payloads have, under names that are the same for all: place, title, actor, …"""
    if isinstance(payload, list):
        first = payload[0] if payload else None
        return {"count": len(payload), **_kinds(payload), **find_facts(first)}
    if not isinstance(payload, dict):
        return {}
    facts: dict[str, Any] = {}
    for name in PLACES:
        if place := _named(payload.get(name), _PLACE_NAMES):
            facts["place"] = place
            break
    subject = payload
    for name in _SUBJECTS:
        found = payload.get(name)
        if found and type(found) is dict:
            subject = found
            break
    inner = subject.get("object")
    if inner and type(inner) is dict:
        subject = inner
    for fact, names in _FACTS:
        for name in names:
            value = subject.get(name)
            if fact == "url" and type(value) is str and is_address(value):
                # a field that is an address is one: it is where an agent goes on
                facts[fact] = value[:MAX_FACT_CHARS]
                break
            if value is not None and (value := _scalar(value)) is not None:
                if (fact == "title" and is_id(str(value))) or (
                    fact == "number" and len(str(value)) > MAX_NUMBER_CHARS
                ):
                    # an id is no title, and a public key no number, whatever its sender calls it
                    continue
                facts[fact] = value
                break
    for name in ACTORS:
        if actor := _named(payload.get(name) or subject.get(name), _ACTOR_NAMES):
            facts["actor"] = actor
            break
    if (action := _scalar(payload.get("action"))) is not None:
        facts["action"] = action
    return facts


def _kinds(items: Sequence[Any]) -> dict[str, str]:
    """How many items of each kind a list has, by the first name that says one."""
    first = items[0] if len(items) > 1 else None
    if not isinstance(first, dict):
        return {}
    name = next((name for name in _KIND_NAMES if type(first.get(name)) is str), None)
    if name is None:
        return {}
    found = (item.get(name) if type(item) is dict else None for item in items[:MAX_COUNTED])
    counts = Counter(kind[:80] if type(kind) is str else "others" for kind in found)
    said = ", ".join(f"{n} {kind}" for kind, n in counts.most_common(MAX_KINDS))
    return {"kinds": plain_text(said, MAX_FACT_CHARS)}


def _named(value: Any, names: tuple[str, ...]) -> Any:
    if type(value) is not dict:
        return _scalar(value)
    for name in names:
        if found := _scalar(value.get(name)):
            return found
    return None


def _scalar(value: Any) -> Any:
    if type(value) is str:
        return plain_text(value, MAX_FACT_CHARS) or None
    if isinstance(value, int) and abs(value) > MAX_SAFE:
        return str(value)
    return value if isinstance(value, (int, float)) else None
