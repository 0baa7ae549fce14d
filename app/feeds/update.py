"""Updates as JSON: of one event, a digest of what a context's rate held up, a day's summary.

``kind`` tells them apart. All of them have the same fields; ``seq`` and ``type`` are added when an
update is sent.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from hookstream.app.feeds.digests import Digest, DigestBuilder, digest_budget
from hookstream.app.ids import own_tool_id
from hookstream.app.providers import is_signed
from hookstream.app.summaries.summariser import Summary
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target

__all__ = [
    "DAILY",
    "DIGEST",
    "ERASED",
    "UPDATE",
    "addressed",
    "coalesced_values",
    "digest_update",
    "erased_update",
    "event_update",
    "told_update",
]

#: Kinds of updates.
UPDATE: Final = "update"
DIGEST: Final = "digest"
DAILY: Final = "daily"
#: What stands in the place of one that is erased.
ERASED: Final = "erased"


def event_update(event: Event, summary: Summary) -> bytes:
    """The update that one event is, for :func:`addressed` to make one context's of."""
    body: dict[str, Any] = {
        "event_id": event.event_id,
        "tool_id": own_tool_id(event.tool_id),
        "event_type": event.type,
        "summary": summary.text,
        "data": summary.facts,
        "received_at": event.received_at_ms,
        "tokens": summary.tokens,
        "template": summary.template,
        "keys": summary.keys,
        "untrusted": ["summary", "data", "event_type", "keys", "provenance.author"],
        "provenance": {
            "provider": event.provider,
            "source": event.brought_by,
            "signature": "none" if event.source or not is_signed(event.provider) else "verified",
            "author": summary.author,
        },
    }
    if event.schema_errors:
        body["schema_errors"] = event.schema_errors
        body["untrusted"].append("schema_errors")
    if event.replay_id:
        body["replay_id"] = event.replay_id
    return orjson.dumps(body)


def addressed(update: bytes, target: Target) -> bytes:
    """One context's update, of what :func:`event_update` has made for all of them."""
    head = {"kind": UPDATE, "context_id": target.context_id, "priority": target.priority}
    # two objects are joined as text: the long one is the same for every context
    return b"%b,%b" % (orjson.dumps(head)[:-1], update[1:])


def digest_update(
    kind: str, context_id: str, updates: Sequence[Mapping[str, Any]], budget: int | None
) -> bytes:
    """One update that stands for ``updates`` (JSON values with ``seq``), in ``budget`` tokens.

    Its text is a digest; ``folded`` says how many there are, when, and the first of their ids.
    """
    told = DigestBuilder()
    told.add(updates)
    digest = told.fit(digest_budget(budget), sign="~" if kind == DIGEST else "#")
    return told_update(kind, context_id, told, digest)


def told_update(kind: str, context_id: str, told: DigestBuilder, digest: Digest) -> bytes:
    """One update that stands for all that was ``told``, whose text is ``digest``."""
    return orjson.dumps(
        {
            "kind": kind,
            "context_id": context_id,
            "event_id": None,
            "tool_id": None,
            "event_type": f"hookstream.{kind}",
            "priority": told.priority,
            "summary": digest.text,
            "data": {},
            "received_at": told.last_at,
            "tokens": digest.tokens,
            "template": kind,
            "keys": [],
            "untrusted": ["summary"],
            "folded": {
                "count": told.count,
                "first_at": told.first_at,
                "last_at": told.last_at,
                "event_ids": told.named,
                "more": told.events - len(told.named),
            },
        }
    )


def erased_update(context_id: str, priority: str = "normal", received_at: int = 0) -> bytes:
    """What stands in place of an update that is erased, or whose data key was destroyed.

    Its number has to stay. Nothing else is left but the context and, where they are known, how
    urgent it was and when it came.
    """
    return orjson.dumps(
        {
            "kind": ERASED,
            "context_id": context_id,
            "event_id": None,
            "tool_id": None,
            "event_type": f"hookstream.{ERASED}",
            "priority": priority,
            "summary": "",
            "data": {},
            "received_at": received_at,
            "tokens": 0,
            "template": ERASED,
            "keys": [],
            "untrusted": [],
        }
    )


def coalesced_values(bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    """Updates that a digest stands for, with their places in it (from 1) as ``seq``."""
    return [{"seq": at, **orjson.loads(body)} for at, body in enumerate(bodies, 1)]
