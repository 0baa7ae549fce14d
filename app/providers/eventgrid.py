"""Azure Event Grid, in its own schema and in that of CloudEvents."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.first_contact import event_grid_challenge
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import delivery_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    signed,
)
from hookstream.app.providers.shared_secret import (
    VERIFIED_BY,
    password_of,
    shared_secret_headers,
    verify_shared_secret,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

MAX_EVENTS = 8


def _kind(event: Any) -> str:
    # one subscription has one schema
    return event_name(text_at(event, "eventType") or text_at(event, "type"))


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return _kind(request.json())


def _correlation(payload: Any) -> Iterator[str]:
    for event in payload[:MAX_EVENTS] if isinstance(payload, ARRAYS) else [payload]:
        if subject := word_at(event, "subject"):
            yield f"eventgrid:{subject}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {"aeg-event-type": "Notification", **shared_secret_headers(hook)}


PROVIDER = Provider(
    name="eventgrid",
    title="Azure Event Grid",
    verify=verify_shared_secret,
    event_type=_type,
    delivery_id=delivery_at("id"),
    sign=signed(_sign),
    batch=Batch([], kind=_kind),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    keep_headers=("aeg-event-type", "aeg-subscription-name", "aeg-delivery-count"),
    browsers_can_send=True,
    credential="the value of a delivery property (a static, secret header)",
    check_secret=any_secret,
    guessed_part=password_of,
    challenge=event_grid_challenge,
    correlation=_correlation,
    options=frozenset({"header"}),
    notes=Notes(
        setup=(
            "Event subscription, endpoint type Web Hook; Delivery properties: a static, secret "
            "header Authorization, `Bearer …`"
        ),
        # Microsoft Entra's tokens are not verified: that takes its keys, fetched
        verified_by=VERIFIED_BY,
        type_from="`eventType`, or `type` of CloudEvents: `Microsoft.Storage.BlobCreated`",
        delivery_from="`id`",
        why="the event's id stays when it is sent again",
        retries="for 24 hours, ever more seldom",
        source="https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema",
        answers=(
            (
                "`SubscriptionValidation`; `OPTIONS` of CloudEvents",
                "200, `validationResponse`; `WebHook-Allowed-Origin`",
                "Event Grid asks whether it may send; it becomes no event",
            ),
        ),
    ),
)
