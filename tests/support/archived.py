"""Events as the archive gets them, and how they are compared."""

import random
from collections.abc import Iterable, Mapping, Sequence

from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import ArchivedEvent, Place, parse_entry
from hookstream.app.ids import new_event_id
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event, decode_event, encode_event

__all__ = ["HOUR", "T0", "alone", "archived", "everything", "places", "ranges", "store", "values"]

HOUR = 3_600_000
#: The beginning of a day.
T0 = 1_767_225_600_000


def archived(
    number: int,
    *,
    at_ms: int | None = None,
    partition: int = 3,
    entry_id: str | None = None,
    payload: bytes | None = None,
    tenant: str = "default",
    tool_id: str = "github",
    headers: Mapping[str, str] | None = None,
    **fields: object,
) -> ArchivedEvent:
    """An event of its own, received a second after the one before it."""
    at_ms = T0 + number * 1000 if at_ms is None else at_ms
    bits = random.Random(f"{tenant}/{tool_id}/{number}")
    text = b'{"number":%d,"text":"%x"}' % (number, bits.getrandbits(64))
    event = make_event(
        text if payload is None else payload,
        event_id=new_event_id(at_ms, partition, bits.getrandbits(62)),
        tenant=tenant,
        tool_id=tool_id,
        provider="github",
        type=("issues.opened", "push", "issue_comment.created")[number % 3],
        message_id=f"{tool_id}:push:{bits.getrandbits(128):032x}",
        delivery_id=f"{bits.getrandbits(128):032x}",
        headers={"x-github-event": "push"} if headers is None else headers,
        received_at_ms=at_ms,
        dedup_window_ms=86_400_000,
        registry_version=12,
        **fields,
    )
    return ArchivedEvent(partition, entry_id or f"{at_ms}-0", encode_event(event))


def values(envelopes: Iterable[bytes | None]) -> list[Event | None]:
    """Events, which are compared, of envelopes, whose bytes may differ. None stays."""
    return [None if envelope is None else decode_event(envelope) for envelope in envelopes]


def places(
    events: Sequence[ArchivedEvent], tenant: str = "default", tool_id: str = "github"
) -> list[Place]:
    """Where they are asked for."""
    return [Place(tenant, tool_id, event.partition, event.entry_id) for event in events]


def ranges(events: Iterable[ArchivedEvent]) -> list[tuple[int, str, str]]:
    """Of each partition from its first to its last."""
    found: dict[int, list[str]] = {}
    for event in events:
        found.setdefault(event.partition, []).append(event.entry_id)
    return [
        (partition, min(entries, key=parse_entry), max(entries, key=parse_entry))
        for partition, entries in found.items()
    ]


def alone(events: Iterable[ArchivedEvent]) -> list[tuple[int, str, str]]:
    """Of each event nothing but itself."""
    return [(event.partition, event.entry_id, event.entry_id) for event in events]


async def store(
    archive: Archive,
    events: Sequence[ArchivedEvent],
    tool_id: str = "github",
    tenant: str = "default",
) -> list[str]:
    """Store all there is of a tool from the first of these events to the last."""
    return await archive.store(tenant, tool_id, events, ranges(events))


async def everything(
    archive: Archive,
    tenant: str = "default",
    tool_id: str | None = "github",
    since_ms: int = 0,
    until_ms: int = 1 << 47,
) -> list[ArchivedEvent]:
    """All that a scan gives."""
    return [
        event async for some in archive.scan(tenant, tool_id, since_ms, until_ms) for event in some
    ]
