"""Makes a line of a history the events that it would have been at its tool's door, then. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hookstream.app.archive.rows import Place
from hookstream.app.history.records import HistoryRecord
from hookstream.app.ingest.events import incoming, make_events, printable
from hookstream.app.providers import PROVIDERS, Provider
from hookstream.app.providers.provider import UNKNOWN, body_type, event_name, short_id
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.event_keys import DedupFunction, unique_message_id
from hookstream.app.sqs.messages import PREDECESSOR_HEADERS
from hookstream.codecs.envelope import Event

__all__ = ["PastEvent", "past_events", "place_in_archive"]

#: ``Event.source`` of all of them.
IMPORT: Final = "import"
_RAND_B: Final = (1 << 62) - 1
#: Of a place's second number: milliseconds stand above it, below it what tells events apart.
_SEQ_BITS: Final = 53


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of before, with the partition that its ordering key leads to.

    ``duplicate_of``: the event that its history says it is a duplicate of.
    """

    event: Event
    partition: int
    duplicate_of: str = ""


def past_events(
    record: HistoryRecord,
    tool: Tool,
    *,
    partitions: int,
    registry_version: int,
    registry_token: int,
    functions: Mapping[str, DedupFunction],
    max_batch: int,
    taken: bool = False,
) -> Iterator[PastEvent]:
    """The events in a line: several where its payload is a batch of its provider's.

    Their ids follow from what the source says: the same line is the same events, whenever, and
    from whichever file, it comes again. An event that was exported keeps its id, but for the
    partition in it, which is this installation's; ``taken``: somebody else has that id here.
    """
    hook = _hook(record)
    provider = _row(PROVIDERS[tool.provider], record)
    if record.event_id:
        # what it was made of has been taken to pieces already
        provider = replace(provider, batch=None, batch_by=None)
    came = replace(incoming(hook, provider, max_batch, tool.options), source=IMPORT)
    for event, partition in make_events(
        came,
        tool,
        partitions=partitions,
        registry_version=registry_version,
        registry_token=registry_token,
        now_ms=record.received_at_ms,
        random_bits=_bits(record, tool, taken=taken),
        functions=functions,
    ):
        if not event.message_id:
            # nobody can ask its dedup function again
            never = unique_message_id(tool.tool_id, event.type, event.event_id)
            event = replace(
                event, message_id=never, dedup_function="", dedup_window_ms=0, dedup_history_ms=0
            )
        yield PastEvent(_with_past(event, record, tool), partition, record.duplicate_of)


def place_in_archive(event: Event, partition: int) -> Place:
    """Where an event is kept that never was an entry of its stream.

    Its first number is the time in seconds, not milliseconds: below all that Redis gives, so no
    range of such places has an entry in it, and their order is that of time.
    """
    seconds, ms = divmod(event.received_at_ms, 1000)
    own = int(event.event_id.replace("-", ""), 16) & ((1 << _SEQ_BITS) - 1)
    entry = f"{seconds}-{ms << _SEQ_BITS | own}"
    return Place(event.tenant, event.tool_id, partition, entry)


def _hook(record: HistoryRecord) -> WebhookRequest:
    headers = dict(record.headers)
    if record.content_type:
        headers["content-type"] = record.content_type
    headers.setdefault("content-type", body_type(record.payload))
    # it stands in the line as it is
    headers.pop("content-encoding", None)
    if record.sent_as:
        for header, name in PREDECESSOR_HEADERS.items():
            said = record.sent_as if name == "event_type" else record.delivery_id
            if said:
                headers.setdefault(header, said)
    shown = {name: (value,) for name, value in headers.items()}
    return WebhookRequest("POST", "", shown, record.payload, record.payload)


def _row(provider: Provider, record: HistoryRecord) -> Provider:
    """The provider's row, which takes from the line what that says beside the payload."""

    def event_type(request: WebhookRequest, options: SignatureOptions) -> str:
        if record.type:
            return event_name(record.type)
        found = provider.event_type(request, options)
        return event_name(record.sent_as) if found == UNKNOWN else found

    def delivery_id(request: WebhookRequest, options: SignatureOptions) -> str:
        found = provider.delivery_id(request, options)
        return (
            (short_id(record.delivery_id) or found)
            if record.event_id
            else (found or short_id(record.delivery_id))
        )

    return replace(provider, event_type=event_type, delivery_id=delivery_id)


def _bits(record: HistoryRecord, tool: Tool, *, taken: bool) -> int:
    """What tells its id from others of its millisecond: 62 bits that follow from the source."""
    if record.event_id and not taken:
        return int(record.event_id.replace("-", ""), 16) & _RAND_B
    own = hashlib.blake2b(digest_size=8)
    if record.event_id or record.source_id:
        parts = ["id", record.event_id or record.source_id]
    else:
        content = hashlib.sha256(record.payload).hexdigest()
        parts = ["content", record.delivery_id, record.type, record.sent_as, content]
    for part in (tool.tenant, tool.tool_id, *parts):
        own.update(part.encode(errors="replace") + b"\0")
    return int.from_bytes(own.digest(), "big") & _RAND_B


def _with_past(event: Event, record: HistoryRecord, tool: Tool) -> Event:
    """The event with what only its own past knows."""
    changed: dict[str, object] = {}
    if record.event_id:
        if record.enriched:
            changed["enriched"] = record.enriched
        if record.batch_id:
            changed |= {"batch_id": record.batch_id, "batch_index": record.batch_index}
    if record.kept_masked:
        changed |= {"kept_masked": True, "blocked_by": printable(record.blocked_by, 64)}
        _, _, content = record.message_id.rpartition(":")
        if content and record.message_id.count(":") >= 2:
            # what was sent is nowhere any more: its hash is what redeliveries are known by
            changed["message_id"] = _message_of(record.message_id, tool)
    return replace(event, **changed) if changed else event  # type: ignore[arg-type]


def _message_of(message_id: str, tool: Tool) -> str:
    """A message id of another installation's tool as it is of this one."""
    *_, name, content = message_id.rsplit(":", 2)
    return f"{tool.tool_id}:{printable(name, 256)}:{printable(content, 128)}"
