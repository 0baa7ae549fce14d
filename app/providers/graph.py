"""Microsoft Graph change notifications: Outlook, Teams, OneDrive, users, groups."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.first_contact import query_challenge
from hookstream.app.providers.json_body import OBJECTS
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import delivery_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Notes,
    Provider,
    any_secret,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.client_state import verify_client_state
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    # what validationTokens of notifications with resource data prove is not looked at
    verify_client_state(request, secrets)


def _name(notification: Any) -> str:
    if lifecycle := text_at(notification, "lifecycleEvent"):
        return event_name("lifecycle", lifecycle)
    change = text_at(notification, "changeType")
    if not change:
        return UNKNOWN
    # "#Microsoft.Graph.Message"
    data = value_at(notification, "resourceData")
    # its name has a dot in it, so it is no path
    kind = data.get("@odata.type") if isinstance(data, OBJECTS) else None
    kind = kind.rpartition(".")[2] if isinstance(kind, str) else ""
    return event_name(kind[:1].lower() + kind[1:] or "resource", change)


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return _name(value_at(request.json(), "value.0"))


def _correlation(payload: Any) -> Iterator[str]:
    notifications = value_at(payload, "value")
    for one in notifications if isinstance(notifications, list) else ():
        found = word_at(one, "resourceData.id") or word_at(one, "resource")
        if found:
            yield f"graph:{found}"
    for one in notifications if isinstance(notifications, list) else ():
        if found := word_at(one, "subscriptionId"):
            yield f"graph:subscription/{found}"


PROVIDER = Provider(
    name="graph",
    title="Microsoft Graph",
    verify=_verify,
    event_type=_type,
    delivery_id=delivery_at("value.0.id"),
    # the body has the secret already: nothing can be added to it
    sign=signed(lambda hook: {"Content-Type": JSON}),
    batch=Batch({"value": []}, kind=_name),
    # two true changes of one thing may have the same notification
    dedup_strategy="none",
    dedup_window_seconds=24 * HOUR,
    credential="the clientState of the subscription, a long random text of yours",
    check_secret=any_secret,
    challenge=query_challenge("validationToken", method="POST"),
    correlation=_correlation,
    hosts=("graph.microsoft.com",),
    notes=Notes(
        setup=(
            "`POST /subscriptions` of Graph with the tool's URL as `notificationUrl`, and as "
            "`lifecycleNotificationUrl`, and a long random `clientState`"
        ),
        verified_by=(
            "`clientState` of each notification in `value`; nothing is signed, and the "
            "`validationTokens` of notifications with resource data are not looked at"
        ),
        type_from=(
            "the resource's kind and `changeType`: `message.created`; "
            "`lifecycle.reauthorizationRequired`"
        ),
        delivery_from="`id`, where it has one",
        why="notifications have no time: two of them that are equal may be two changes",
        retries="for up to 4 hours",
        source="https://learn.microsoft.com/graph/change-notifications-delivery-webhooks",
        answers=(
            (
                "POST with `validationToken` in the query",
                "200, the token as text",
                "Graph tries out the address so; it becomes no event",
            ),
        ),
    ),
)
