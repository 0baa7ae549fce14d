"""What makes two webhooks the same event, and which of them keep their order."""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from hookstream.app.registry import Tool

__all__ = ["field_value", "message_id", "ordering_key"]

_MISSING = object()


def message_id(
    tool: Tool, event_type: str, delivery_id: str, body: bytes, data: Any, event_id: str
) -> str:
    """``tool_id:event_type:hash``; what is hashed is the tool's dedup strategy.

    ``payload`` hashes the body; ``delivery`` the provider's delivery id; ``fields`` the values of
    the tool's fields; ``none`` gives every event an id of its own. Where the delivery id or all
    of the fields are missing the body is hashed instead: no key is built from an empty part.
    """
    if tool.strategy == "none":
        return f"{tool.tool_id}:{event_type}:{event_id}"
    material = b"payload\0" + body
    if tool.strategy == "delivery" and delivery_id:
        material = b"delivery\0" + delivery_id.encode()
    elif tool.strategy == "fields":
        values = [field_value(data, field) for field in tool.fields]
        if any(value is not _MISSING for value in values):
            known = [None if value is _MISSING else [value] for value in values]
            material = b"fields\0" + orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
    return f"{tool.tool_id}:{event_type}:{hashlib.sha256(material).hexdigest()}"


def ordering_key(tool: Tool, message: str, data: Any) -> Sequence[str]:
    """What is hashed to a partition: events with the same key keep their order.

    With ``none`` it is the message id, so that copies of one event still meet in one partition.
    An event that lacks the tool's ordering field is ordered with the tool's other such events.
    """
    if tool.order_by == "none":
        return (tool.tenant, tool.tool_id, message)
    if tool.order_by == "field":
        value = field_value(data, tool.order_field)
        if value is not _MISSING:
            return (tool.tenant, tool.tool_id, orjson.dumps(value).decode())
    return (tool.tenant, tool.tool_id)


def field_value(data: Any, path: str) -> Any:
    """The value at a dotted path (``issue.id``, ``items.0.sku``), or a marker for missing."""
    for name in path.split("."):
        if isinstance(data, dict) and name in data:
            data = data[name]
        elif isinstance(data, list) and name.isdecimal() and name.isascii() and len(name) < 10:
            if int(name) >= len(data):
                return _MISSING
            data = data[int(name)]
        else:
            return _MISSING
    return data
