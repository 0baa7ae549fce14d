"""What senders have in common that nobody has a file for: names in headers and fields."""

from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.provider import (
    UNKNOWN,
    Delivery,
    body_type,
    event_name,
    id_at,
    short_id,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["json_or_none", "named_delivery", "named_headers", "named_type"]


def named_type(request: WebhookRequest, options: SignatureOptions) -> str:
    """From the header or the field that the options name; a body need not be JSON."""
    if options.type_header and (text := request.header(options.type_header)):
        return event_name(text)
    if options.type_field:
        return event_name(text_at(json_or_none(request), options.type_field))
    return UNKNOWN


def named_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    if options.delivery_header and (text := request.header(options.delivery_header)):
        return short_id(text)
    if options.delivery_field:
        return id_at(json_or_none(request), options.delivery_field)
    return ""


def json_or_none(request: WebhookRequest) -> Any:
    try:
        return request.json()
    except BadRequestError:
        return None


def named_headers(hook: Delivery) -> dict[str, str]:
    headers = {"Content-Type": body_type(hook.body)}
    if hook.options.type_header:
        headers[hook.options.type_header] = hook.event_type
    if hook.options.delivery_header:
        headers[hook.options.delivery_header] = hook.delivery_id
    return headers
