"""Zendesk."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import delivery_at, signed_by, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret, event_name
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="X-Zendesk-Webhook-Signature",
    signed="{timestamp}{body}",
    encoding="base64",
    timestamp_header="X-Zendesk-Webhook-Signature-Timestamp",
    timestamp_unit="iso",
)
#: Whether a retry is signed anew is not documented; all come within minutes.
TOLERANCE_SECONDS = 900


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # zen:event-type:ticket.created; webhooks of triggers have whatever somebody has written
    return event_name(text_at(request.json(), "type").removeprefix("zen:event-type:"))


def _correlation(payload: Any) -> Iterator[str]:
    # zen:ticket:35436
    kind, _, number = text_at(payload, "subject").removeprefix("zen:").partition(":")
    if kind and number:
        yield f"zendesk:{kind}/{number}"
    yield from tickets(text_at(payload, "detail.subject"))


PROVIDER = Provider(
    name="zendesk",
    title="Zendesk",
    verify=verified_by(SCHEME, TOLERANCE_SECONDS),
    event_type=_type,
    delivery_id=delivery_at("id"),
    sign=signed_by(SCHEME, {"User-Agent": "Zendesk Webhook"}),
    # the id in the body is signed; that of the invocation, in a header, is not
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    keep_headers=(
        "x-zendesk-account-id",
        "x-zendesk-webhook-id",
        "x-zendesk-webhook-invocation-id",
    ),
    credential="the webhook's signing secret, from its page in the Admin Center",
    check_secret=any_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("*.zendesk.com",),
    notes=Notes(
        setup="Apps and integrations, Webhooks; its signing secret is the secret",
        verified_by=(
            "`X-Zendesk-Webhook-Signature`: base64 HMAC-SHA256 of the time in "
            "`X-Zendesk-Webhook-Signature-Timestamp` (ISO 8601) and the body"
        ),
        type_from=(
            "`type` without `zen:event-type:`: `ticket.comment_added`; the bodies of triggers and "
            "automations are yours: give them a `type` and an `id`"
        ),
        delivery_from="`id`",
        why="the `id` is signed; the invocation's id in a header is not",
        retries="up to 3 times on 409, 429 and 503, up to 5 times when no answer comes in time",
        source="https://developer.zendesk.com/documentation/webhooks/verifying/",
    ),
)
