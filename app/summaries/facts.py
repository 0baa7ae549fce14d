"""The plain summary of an event without a template: the facts that most payloads have."""

from collections.abc import Mapping
from typing import Any

from hookstream.app.summaries.text import plain_text
from hookstream.codecs.envelope import Event

__all__ = ["find_facts", "summary_of"]

MAX_FACT_CHARS = 300

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
        ("title", "summary", "name", "subject", "text", "message", "description", "key", "id"),
    ),
    ("number", ("number", "iid", "key")),
    ("state", ("state", "status", "conclusion")),
    ("url", ("html_url", "web_url", "url", "permalink")),
)
_ACTORS = ("sender", "actor", "user", "author", "pusher")
_ACTOR_NAMES = ("login", "username", "displayName", "name", "display_name", "email", "id")
_PLACES = ("repository", "project", "organization", "team", "channel")
_PLACE_NAMES = ("full_name", "path_with_namespace", "key", "name", "login", "id")


def summary_of(event: Event, facts: Mapping[str, Any]) -> str:
    """One line about any event, from its :func:`find_facts`."""
    words = [event.provider, plain_text(event.type, 200)]
    if place := facts.get("place"):
        words.append(f"in {place}")
    line = " ".join(words)
    detail = " ".join(
        part
        for part in (
            f"#{facts['number']}" if "number" in facts else "",
            str(facts.get("title", "")),
            f"[{facts['state']}]" if "state" in facts else "",
            f"by {facts['actor']}" if "actor" in facts else "",
        )
        if part
    )
    return f"{line}: {detail}" if detail else line


def find_facts(payload: Any) -> dict[str, Any]:
    """What most payloads have, under names that are the same for all: place, title, actor, …"""
    if isinstance(payload, list):
        return {"count": len(payload), **find_facts(payload[0] if payload else None)}
    if not isinstance(payload, dict):
        return {}
    facts: dict[str, Any] = {}
    for name in _PLACES:
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
            if value is not None and (value := _scalar(value)) is not None:
                facts[fact] = value
                break
    for name in _ACTORS:
        if actor := _named(payload.get(name) or subject.get(name), _ACTOR_NAMES):
            facts["actor"] = actor
            break
    if (action := _scalar(payload.get("action"))) is not None:
        facts["action"] = action
    return facts


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
    return value if isinstance(value, (int, float)) else None
