"""Makes a verified request an event, or several where its provider sends batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hookstream.app import tasks
from hookstream.app.ids import new_event_id, partition_of
from hookstream.app.providers import Provider
from hookstream.app.providers.batches import BULK, Bulk, Parts, split
from hookstream.app.providers.provider import JSON
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.event_keys import (
    DedupFunction,
    custom_message_id,
    message_id,
    ordering_key,
    with_digits,
)
from hookstream.codecs.envelope import Event
from hookstream.codecs.form import FORM
from hookstream.codecs.inner import token_claims, unfolded
from hookstream.codecs.json_payload import dump_json, parse_payload
from hookstream.codecs.readable import read_payload

__all__ = ["Incoming", "incoming", "make_event", "make_events", "printable"]

#: The lowest bits of an event's random ones count within a batch, so that ids keep its order.
INDEX_BITS = 14


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a verified request brings: requests that are an event each, and who looks at them.

    ``is_batch``: it was taken to pieces, of which there may be one, or none. ``bulk``: it is a
    batch that was not. ``source``: the event's, "" for a webhook.
    """

    requests: Sequence[WebhookRequest] | Parts
    provider: Provider
    is_batch: bool = False
    bulk: Bulk | None = None
    source: str = ""


def incoming(
    hook: WebhookRequest, provider: Provider, most: int, options: SignatureOptions | None = None
) -> Incoming:
    """What a verified request brings; a batch of more than ``most`` things is one event.

    ``options`` are the tool's, which may say where the things stand.
    """
    batch = provider.batch
    if options is not None and provider.batch_by:
        batch = provider.batch_by(options)
    found = split(hook, batch, most)
    if isinstance(found, Bulk):
        whole = replace(
            provider,
            event_type=lambda request, options: BULK,
            delivery_id=lambda request, options: "",
        )
        return Incoming([hook], whole, bulk=found)
    is_one = isinstance(found, Sequence) and len(found) == 1 and found[0] is hook
    return Incoming(found, provider, is_batch=not is_one)


def make_events(
    came: Incoming,
    tool: Tool,
    *,
    partitions: int,
    registry_version: int,
    registry_token: int = 0,
    now_ms: int,
    random_bits: int,
    functions: Mapping[str, DedupFunction],
) -> Iterator[tuple[Event, int]]:
    """The events in a verified request, in order, and the partition that each belongs to.

    Those of a batch have one time, ids in its order within a partition, and know the first one's
    id. They are made one at a time.
    """
    several = len(came.requests) > 1
    bits = random_bits >> INDEX_BITS << INDEX_BITS if several else random_bits
    first = ""
    for index, request in enumerate(came.requests):
        event, partition = make_event(
            request,
            came.provider,
            tool,
            partitions=partitions,
            registry_version=registry_version,
            registry_token=registry_token,
            now_ms=now_ms,
            random_bits=bits + index,
            functions=functions,
        )
        if several:
            first = first or event.event_id
            event = replace(event, batch_id=first, batch_index=index)
        elif came.bulk:
            counts = {"events": came.bulk.events, "kinds": dict(came.bulk.kinds)}
            event = replace(event, enriched=dump_json({BULK: counts}))
        if came.source:
            event = replace(event, source=came.source)
        yield event, partition


def make_event(
    hook: WebhookRequest,
    provider: Provider,
    tool: Tool,
    *,
    partitions: int,
    registry_version: int,
    registry_token: int = 0,
    now_ms: int,
    random_bits: int,
    functions: Mapping[str, DedupFunction],
) -> tuple[Event, int]:
    """The event in a verified request, and the partition it belongs to.

    Where the tool's dedup function fails the event has no message id yet: it is kept all the same,
    and the worker asks the function again.
    """
    event_type = provider.event_type(hook, tool.options)
    delivery_id = printable(provider.delivery_id(hook, tool.options), 256)
    data = None
    if tool.strategy == "fields" or tool.order_by == "field":
        data = with_digits(tool, _read(hook), hook.decoded)
    # with ordering "none" the partition follows from the message id, which for strategy "none"
    # is the event id, which carries the partition: random bits break the circle
    unique = f"{now_ms:x}-{random_bits:x}"
    content = provider.content(hook) if provider.content else hook.decoded
    message = message_id(tool, event_type, delivery_id, content, data, unique)
    partition = partition_of(partitions, *ordering_key(tool, message, data))
    event = Event(
        event_id=new_event_id(now_ms, partition, random_bits),
        tenant=tool.tenant,
        tool_id=tool.tool_id,
        provider=tool.provider,
        type=event_type,
        message_id=message,
        delivery_id=delivery_id,
        received_at_ms=now_ms,
        headers={
            name: printable(", ".join(hook.headers[name]), 1024)
            for name in provider.keep_headers
            if name in hook.headers
        },
        content_type=printable(hook.header("content-type"), 256),
        trace_context=printable(hook.header("traceparent"), 128),
        payload=hook.decoded,
        dedup_window_ms=tool.window_ms,
        dedup_history_ms=tool.history_ms,
        registry_version=registry_version,
        registry_token=registry_token,
    )
    if tool.strategy == "custom":
        event = _named(event, tool, functions, never=f"{tool.tool_id}:{event_type}:{unique}")
        # one without a message id yet goes where its payload leads
        partition = partition_of(partitions, *ordering_key(tool, event.message_id or message, data))
        event = replace(event, event_id=new_event_id(now_ms, partition, random_bits))
    return event, partition


def _named(
    event: Event, tool: Tool, functions: Mapping[str, DedupFunction], *, never: str
) -> Event:
    """The event with the message id that its tool's dedup function gives, or without one."""
    try:
        message = custom_message_id(functions, tool.function, event)
    except BaseException as error:  # user code; it is told where it is asked again
        if tasks.ends_task(error):
            raise
        return replace(event, message_id="", dedup_function=tool.function)
    if message:
        return replace(event, message_id=message)
    return replace(event, message_id=never, dedup_window_ms=0, dedup_history_ms=0)


def printable(text: str, limit: int) -> str:
    """Without control characters and lone surrogates, which neither protobuf nor SQL can hold."""
    text = text[:limit]
    return text if text.isprintable() else "".join(char for char in text if char.isprintable())


def _read(hook: WebhookRequest) -> object:
    """What fields are looked up in; None where nothing can be read.

    JSON is JSON, with what other writers put into it; all else is what its header says, as rules
    see it, or a form. Nobody signs that header, and a copy under another one is to be a copy.
    """
    try:
        return token_claims(hook.decoded) or unfolded(parse_payload(hook.decoded))
    except ValueError:
        said = hook.header("content-type")
        kinds = (f"{JSON};{said.partition(';')[2]}", said, FORM)
        read = (read_payload(hook.decoded, kind) for kind in kinds)
        return next((found for found in read if isinstance(found, (dict, list))), None)
