"""Microsoft Graph change notifications: Outlook, Teams, OneDrive, users, groups."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import SignatureError
from hookstream.app.providers.batches import Batch
from hookstream.app.providers.first_contact import query_challenge
from hookstream.app.providers.json_body import ARRAYS, OBJECTS
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
from hookstream.app.providers.signatures.entra import (
    check_entra_options,
    entra_keys,
    entra_tenant,
)
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


#: The application that tokens of notifications are given to: Microsoft Graph Change Tracking.
APPLICATION = "0bf30f3b-4a52-48df-9a82-234910c4a086"
WHERE = "a token in validationTokens"
#: One for each tenant and application that share an address.
MAX_TOKENS = 32


def _tokens(request: WebhookRequest, options: SignatureOptions) -> list[str]:
    """The tokens that have to verify: those that are there, where the tool says for whom.

    Raises:
        SignatureError: they are no list of texts, or too many.
    """
    found = value_at(request.json(), "validationTokens") if options.audience else None
    if found is None:
        return []
    tokens = list(found[: MAX_TOKENS + 1]) if isinstance(found, ARRAYS) else []
    if len(tokens) > MAX_TOKENS or not all(isinstance(text, str) for text in tokens):
        raise SignatureError(f"validationTokens is no list of at most {MAX_TOKENS} tokens")
    return tokens


def _keys(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> Sequence[KeySource]:
    # who does not know clientState has nothing fetched
    verify_client_state(request, secrets)
    # all of them are in one place
    return [entra_keys(text, WHERE) for text in _tokens(request, options)][:1]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_client_state(request, secrets)
    if not options.audience:
        return
    tenants = {
        entra_tenant(text, request, options, now, APPLICATION, WHERE)
        for text in _tokens(request, options)
    }
    for notification in value_at(request.json(), "value"):
        if value_at(notification, "encryptedContent") is None:
            # only resource data comes with a token
            continue
        if text_at(notification, "tenantId").lower() not in tenants:
            raise SignatureError(
                "validationTokens has no token of the tenant of a notification with resource data"
            )


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
    keys=_keys,
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
    options=frozenset({"audience", "tenant"}),
    check_options=check_entra_options,
    challenge=query_challenge("validationToken", method="POST"),
    correlation=_correlation,
    hosts=("graph.microsoft.com",),
    notes=Notes(
        setup=(
            "`POST /subscriptions` of Graph with the tool's URL as `notificationUrl`, and as "
            "`lifecycleNotificationUrl`, and a long random `clientState`"
        ),
        verified_by=(
            "`clientState` of each notification in `value`; nothing is signed. With "
            "`options.audience`, the application's id, notifications with resource data need "
            "`validationTokens` (RS256) by Microsoft's keys, which are fetched from "
            "`login.microsoftonline.com`: given to Graph, for this application, of the "
            "notification's tenant, which `options.tenant` may name"
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
