"""What makes two webhooks the same event, and which of them keep their order.

The receiver computes the message id, since with ordering ``none`` the partition follows from it.
Where a dedup function fails there, the event is kept without one, and the worker asks the same
function, in the same way, before it judges.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hookstream.app.errors import HookstreamError
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.lookup import value_at
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.paths import key_name
from hookstream.codecs.envelope import Event
from hookstream.codecs.inner import unfolded
from hookstream.codecs.json_payload import dump_json, parse_payload

__all__ = [
    "DedupFunction",
    "DedupFunctionError",
    "ask_again",
    "custom_message_id",
    "key_name_of",
    "message_id",
    "ordering_key",
    "unique_message_id",
    "with_digits",
]

#: What ``@app.dedup`` takes: what makes an event the same as another; None for never.
DedupFunction = Callable[[Event], str | None]

_MISSING = object()


class DedupFunctionError(HookstreamError):
    """A dedup function that is not here, or that returned neither text nor None."""


def message_id(
    tool: Tool, event_type: str, delivery_id: str, body: bytes, data: Any, event_id: str
) -> str:
    """``tool_id:event_type:hash``; what is hashed is the tool's dedup strategy.

    ``payload`` hashes the body, or what the provider signs of it; ``delivery`` the provider's
    delivery id; ``fields`` the values of the tool's fields; ``none`` gives every event an id of its
    own. Where the delivery id or all of the fields are missing the body is hashed instead: no key
    is built from an empty part, and an empty body gives an id of its own.

    A type that is not signed is left out where all of the content is the same: who repeats a
    captured webhook could give it any (:meth:`Provider.type_of_copies`).
    """
    if tool.strategy == "none":
        return unique_message_id(tool.tool_id, event_type, event_id)
    provider = PROVIDERS[tool.provider]
    name = provider.type_of_copies(event_type, tool.options)
    material = b"payload\0" + body
    if tool.strategy == "delivery" and delivery_id:
        material = b"delivery\0" + delivery_id.encode()
    elif tool.strategy == "fields":
        values = [value_at(data, field, _MISSING) for field in tool.fields]
        if any(value is not _MISSING for value in values):
            known = [None if value is _MISSING else [value] for value in values]
            name = provider.type_beside_keys(event_type)
            material = b"fields\0" + dump_json(known, sort_keys=True)
    if material == b"payload\0":
        # an empty body is nobody's identity: pushes that only say that something has changed
        return unique_message_id(tool.tool_id, event_type, event_id)
    return f"{tool.tool_id}:{name}:{hashlib.sha256(material).hexdigest()}"


def with_digits(tool: Tool, data: Any, body: bytes) -> Any:
    """``data``, which ``body`` was parsed to, for :func:`message_id` and :func:`ordering_key`.

    Where one of the tool's fields is a fraction it is parsed anew, with the digits as written: as
    doubles two of them may be one.
    """
    paths = tool.fields if tool.strategy == "fields" else ()
    if tool.order_by == "field":
        paths = (*paths, tool.order_field)
    if not any(_has_fraction(value_at(data, path)) for path in paths):
        return data
    try:
        return unfolded(parse_payload(body, exact=True), exact=True)
    except ValueError:
        # a form, whose fields are texts
        return data


def _has_fraction(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_fraction, value.values()))
    return any(map(_has_fraction, value)) if isinstance(value, list) else type(value) is float


def unique_message_id(tool_id: str, event_type: str, event_id: str) -> str:
    """The message id of an event that is never a duplicate."""
    return f"{tool_id}:{event_type}:{event_id}"


def custom_message_id(functions: Mapping[str, DedupFunction], name: str, event: Event) -> str:
    """The message id that the dedup function ``name`` gives an event; "" for never a duplicate.

    The function sees the event without its ids, which it has none of when it is first asked.

    Raises:
        DedupFunctionError: there is no such function here, or its result is no text.
        Exception: whatever the function raises.
    """
    if name not in functions:
        raise DedupFunctionError(
            f"there is no dedup function {name!r} here (there are: {', '.join(functions) or 'none'}"
            "): put its file into agents/ of every receiver and worker"
        )
    value = functions[name](replace(event, event_id="", message_id="", dedup_function=""))
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise DedupFunctionError(
            f"the dedup function {name!r} returned {type(value).__name__}: str or None is wanted"
        )
    # a payload's text may hold lone surrogates
    material = f"custom\0{name}\0{value}".encode(errors="surrogatepass")
    provider = PROVIDERS.get(event.provider)
    name = provider.type_beside_keys(event.type) if provider else event.type
    return f"{event.tool_id}:{name}:{hashlib.sha256(material).hexdigest()}"


def ask_again(functions: Mapping[str, DedupFunction], event: Event) -> Event:
    """An event whose dedup function failed before, with its message id.

    Raises:
        DedupFunctionError: as :func:`custom_message_id`.
        Exception: whatever the function raises.
    """
    found = custom_message_id(functions, event.dedup_function, event)
    if found:
        return replace(event, message_id=found, dedup_function="")
    never = unique_message_id(event.tool_id, event.type, event.event_id)
    return replace(
        event, message_id=never, dedup_function="", dedup_window_ms=0, dedup_history_ms=0
    )


def ordering_key(tool: Tool, message: str, data: Any) -> Sequence[str]:
    """What is hashed to a partition: events with the same key keep their order.

    With ``none`` it is the message id, so that copies of one event still meet in one partition.
    An event that lacks the tool's ordering field is ordered with the tool's other such events.
    """
    if tool.order_by == "none":
        return (tool.tenant, tool.tool_id, message)
    if tool.order_by == "field":
        value = value_at(data, tool.order_field, _MISSING)
        if value is not _MISSING:
            return (tool.tenant, tool.tool_id, dump_json(value).decode())
    return (tool.tenant, tool.tool_id)


def key_name_of(tool: Tool, event: Event) -> str:
    """An event's ordering key as it stands in Redis and in queues.

    Raises:
        CodecError: its payload, which has the tool's ordering field, cannot be read.
    """
    data = with_digits(tool, event.data(), event.payload) if tool.order_by == "field" else None
    return key_name(ordering_key(tool, event.message_id, data))
