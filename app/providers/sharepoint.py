"""SharePoint list webhooks."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.first_contact import query_challenge
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import no_delivery
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Notes,
    Provider,
    any_secret,
    signed,
)
from hookstream.app.providers.signatures.client_state import verify_client_state
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_client_state(request, secrets)


def _kind(notification: Any) -> str:
    # what changed is not said
    return "list.changed" if word_at(notification, "resource") else UNKNOWN


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return _kind(value_at(request.json(), "value.0"))


def _correlation(payload: Any) -> Iterator[str]:
    notifications = value_at(payload, "value")
    for one in notifications if isinstance(notifications, ARRAYS) else ():
        if found := word_at(one, "resource"):
            yield f"sharepoint:{found}"


PROVIDER = Provider(
    name="sharepoint",
    title="SharePoint",
    verify=_verify,
    event_type=_type,
    delivery_id=no_delivery,
    # the body has the secret already: nothing can be added to it
    sign=signed(lambda hook: {"Content-Type": JSON}),
    batch=Batch({"value": []}, kind=_kind),
    # every change of a list has the same notification
    dedup_strategy="none",
    dedup_window_seconds=HOUR,
    credential="the clientState of the subscription, a long random text of yours",
    check_secret=any_secret,
    challenge=query_challenge("validationtoken", "validationToken", method="POST"),
    correlation=_correlation,
    notes=Notes(
        setup=(
            "`POST /_api/web/lists('…')/subscriptions` with the tool's URL as `notificationUrl` "
            "and a long random `clientState`"
        ),
        verified_by="`clientState` of each notification in `value`; nothing is signed",
        type_from="`list.changed`: what changed is to be asked of SharePoint's `GetChanges`",
        delivery_from="none is sent",
        why="every change of a list has the same notification, without a time",
        retries="5 times, every 5 minutes",
        source="https://learn.microsoft.com/sharepoint/dev/apis/webhooks/overview-sharepoint-webhooks",
        answers=(
            (
                "POST with `validationtoken` in the query",
                "200, the token as text",
                "SharePoint tries out the address so; it becomes no event",
            ),
        ),
    ),
)
