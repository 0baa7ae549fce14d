"""What an erasure is about: whether an event, an update or a text has to go. All of it is pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from hookstream.app.feeds.update import ERASED, erased_update
from hookstream.app.ids import event_time_ms
from hookstream.app.privacy.subjects import Subject
from hookstream.app.stores.erasures import (
    CONTEXT,
    EVENT,
    SUBJECT,
    TENANT,
    Erasure,
    sent_hashes,
)
from hookstream.codecs.envelope import Event

__all__ = ["ERASED_TEXT", "Target", "erased_digest", "left_of", "told_of"]

#: What stands in a digest of which a part was erased.
ERASED_TEXT: Final = "Some of what this told of was erased, and its text with that."
#: Words of the text above, as models count them, at most.
ERASED_TOKENS: Final = 16


@dataclass(slots=True)
class Target:
    """An erasure, for one that carries it out. ``events``: those that it has found by now."""

    erasure: Erasure
    subject: Subject | None = None
    events: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.events |= set(self.erasure.target.get("events", ()))

    @property
    def tenant(self) -> str:
        """Whose data it is."""
        return self.erasure.tenant

    @property
    def tool(self) -> str:
        """The tool whose events it is about; "" for all, or others."""
        return str(self.erasure.target.get("tool", ""))

    @property
    def context(self) -> str:
        """The context whose feed it is about; "" for none alone."""
        return str(self.erasure.target.get("context", ""))

    @property
    def doomed(self) -> frozenset[int]:
        """Data keys that are destroyed in the end."""
        return self.erasure.data_keys

    @property
    def searches(self) -> bool:
        """Whether texts have to be looked into."""
        return self.subject is not None

    def takes_id(self, tenant: str, tool_id: str, event_id: str) -> bool:
        """Whether an event has to go by what is said of it outside its payload."""
        if tenant != self.tenant or not event_id:
            return False
        if self.erasure.kind in (EVENT, SUBJECT):
            return event_id in self.events
        if self.erasure.kind == CONTEXT or not self._came_before(event_id):
            return False
        return self.erasure.kind == TENANT or tool_id == self.tool

    def _came_before(self, event_id: str) -> bool:
        try:
            return event_time_ms(event_id) <= self.erasure.created_ms
        except ValueError:
            return True

    def says(self, tenant: str, *texts: bytes | str) -> bool:
        """Whether a text of a tenant's names the person."""
        if self.subject is None or tenant != self.tenant:
            return False
        return any(self.subject.found_in(text) for text in texts if text)

    def takes_event(self, event: Event, *, opened: bool = True) -> bool:
        """Whether an event has to go; ``opened``: its payload can be read here."""
        if self.takes_id(event.tenant, event.tool_id, event.event_id):
            return True
        if self.subject is None or event.tenant != self.tenant:
            return False
        if event.received_at_ms > self.erasure.created_ms:
            return False
        return self.says(
            event.tenant,
            event.payload if opened else b"",
            event.enriched,
            event.delivery_id,
            event.type,
            event.message_id,
            *event.headers.values(),
            *event.schema_errors,
        )

    def sent(self, event: Event) -> list[bytes]:
        """What its sender repeats, if that sends it again."""
        said = (event.tool_id, event.message_id, event.delivery_id)
        return sent_hashes(self.erasure.salt, *said)

    def takes_update(self, tenant: str, context_id: str, value: Mapping[str, Any]) -> bool:
        """Whether an update of a feed has to go, which is told as a whole."""
        if tenant != self.tenant or value.get("kind") == ERASED:
            return False
        if self.erasure.kind == CONTEXT:
            return context_id == self.context
        if self.erasure.kind == TENANT:
            return int(value.get("received_at") or 0) <= self.erasure.created_ms
        event_id, tool_id = value.get("event_id") or "", value.get("tool_id") or ""
        if self.takes_id(tenant, tool_id, event_id):
            return True
        if int(value.get("received_at") or 0) > self.erasure.created_ms:
            return False
        return self.searches and self.says(tenant, orjson.dumps(value))


def left_of(context_id: str, value: Mapping[str, Any]) -> bytes:
    """What stands in place of an update that was erased."""
    priority, received_at = value.get("priority"), value.get("received_at")
    return erased_update(context_id, priority or "normal", received_at or 0)


def erased_digest(value: Mapping[str, Any], gone: Iterable[str]) -> bytes:
    """A digest whose text told of something that was erased: how much it stands for stays."""
    folded = dict(value.get("folded") or {})
    without = set(gone)
    folded["event_ids"] = [one for one in folded.get("event_ids", ()) if one not in without]
    return orjson.dumps(
        {
            **value,
            "summary": ERASED_TEXT,
            "tokens": ERASED_TOKENS,
            "data": {},
            "keys": [],
            "folded": folded,
        }
    )


def told_of(value: Mapping[str, Any], times: Iterable[int]) -> bool:
    """Whether a digest may have told of updates that came at these times."""
    folded = value.get("folded") or {}
    first, last = folded.get("first_at", 0), folded.get("last_at", 0)
    return any(first <= at <= last for at in times)
