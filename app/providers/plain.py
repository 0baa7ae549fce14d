"""What senders have in common that nobody has a file for: names in headers and fields."""

from functools import lru_cache
from typing import Any

from hookstream.app.providers.batches import BULK, Batch
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.provider import (
    UNKNOWN,
    Answer,
    Delivery,
    body_type,
    event_name,
    id_at,
    short_id,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.json_items import Shape

__all__ = [
    "ANSWERED",
    "CHALLENGED",
    "NAMED",
    "named_answer",
    "named_batch",
    "named_delivery",
    "named_headers",
    "named_type",
]

#: The type of a body that says itself what it is and which (cloudevents.io).
CLOUD_EVENT = "application/cloudevents+json"


def named_type(request: WebhookRequest, options: SignatureOptions) -> str:
    """From the header or the field that the options name; a body need not be JSON."""
    if options.type_header and (text := request.header(options.type_header)):
        return event_name(text)
    if options.type_field:
        return _field_type(request.json(), options.type_field)
    if request.content_type == CLOUD_EVENT:
        return event_name(text_at(request.json(), "type"))
    return UNKNOWN


def _field_type(payload: Any, path: str) -> str:
    """What the field says; of a list what it says in all of its items, ``batch`` where they differ.

    Nobody has said that its items are events: it stays one.
    """
    if not isinstance(payload, ARRAYS) or not len(payload):
        return event_name(text_at(payload, path))
    kinds = {event_name(text_at(item, path)) for item in payload}
    return kinds.pop() if len(kinds) == 1 else BULK


def named_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    if options.delivery_header and (text := request.header(options.delivery_header)):
        return short_id(text)
    if options.delivery_field:
        return id_at(request.json(), options.delivery_field)
    if request.content_type == CLOUD_EVENT:
        return id_at(request.json(), "id")
    return ""


def named_headers(hook: Delivery) -> dict[str, str]:
    headers = {"Content-Type": body_type(hook.body)}
    if hook.options.type_header:
        headers[hook.options.type_header] = hook.event_type
    if hook.options.delivery_header:
        headers[hook.options.delivery_header] = hook.delivery_id
    return headers


@lru_cache(256)
def named_batch(options: SignatureOptions) -> Batch | None:
    """Where the options say that a list of events stands, if they do."""
    if not options.batch_field:
        return None
    shape: Shape = []
    for name in reversed(options.batch_names()):
        shape = {name: shape}
    # of an item within an object, what is before it is the same for all
    path = options.type_field.removeprefix(options.first_item())
    return Batch(shape, kind=lambda item: event_name(text_at(item, path)))


#: The options by which events and deliveries are named, and by which they are answered.
NAMED = frozenset({"type_header", "type_field", "delivery_header", "delivery_field", "batch_field"})
CHALLENGED = frozenset({"challenge", "challenge_answer"})
ANSWERED = frozenset({"answer_status", "answer_body", "answer_type"})


def named_answer(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    """What the options say, else ``accepted``."""
    if not (options.answer_status or options.answer_body or options.answer_type):
        return accepted
    status = options.answer_status or 200
    body = options.answer_body.encode("utf-8", "replace")
    return Answer(status, body, options.answer_type or "text/plain")
