"""Azure Event Grid, in its own schema and in that of CloudEvents."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
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
from hookstream.app.providers.signatures.entra import (
    check_entra_options,
    entra_keys,
    entra_tenant,
)
from hookstream.app.providers.signatures.key_source import KeySource
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

MAX_EVENTS = 8
#: The application that Event Grid's tokens are given to, in Microsoft's public cloud.
APPLICATION = "4962773b-9cdb-44cf-a8bf-237846a00ab7"
WHERE = "the token in Authorization"


def _token(request: WebhookRequest, options: SignatureOptions) -> str:
    """The token of Microsoft Entra, where the tool takes one and this is none of its secrets."""
    if not (options.audience and options.tenant) or "authorization" not in request.headers:
        return ""
    scheme, _, text = request.single("Authorization").partition(" ")
    return text.strip(" ") if scheme.lower() == "bearer" and text.count(".") == 2 else ""


def _keys(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> Sequence[KeySource]:
    text = _token(request, options)
    return (entra_keys(text, WHERE),) if text else ()


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    if text := _token(request, options):
        entra_tenant(text, request, options, now, APPLICATION, WHERE)
    else:
        verify_shared_secret(request, secrets, options, now)


def _check_options(options: SignatureOptions) -> None:
    check_entra_options(options)
    if options.audience and not options.tenant:
        raise BadRequestError("options.tenant: the tenant of the event subscription, its id")


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
    keys=_keys,
    verify=_verify,
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
    options=frozenset({"header", "audience", "tenant"}),
    named_by=("audience", "tenant"),
    check_options=_check_options,
    notes=Notes(
        setup=(
            "Event subscription, endpoint type Web Hook; Delivery properties: a static, secret "
            "header Authorization, `Bearer …`; or Microsoft Entra authentication, whose tenant id "
            "and application id (or URI) are `options.tenant` and `options.audience`"
        ),
        verified_by=(
            f"{VERIFIED_BY}. With `options.audience` and `tenant` `Authorization` may be a token "
            "(RS256) by Microsoft's keys, which are fetched from `login.microsoftonline.com`: of "
            "this tenant, for this audience, given to Event Grid; then no secret is needed"
        ),
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
