"""Stripe."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    id_at,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.stripe import sign_stripe, verify_stripe

__all__ = ["PROVIDER"]

HEADER = "Stripe-Signature"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_stripe(
        request,
        secrets,
        options.header or HEADER,
        now=now,
        tolerance_seconds=options.tolerance(),
    )


def _correlation(payload: Any) -> Iterator[str]:
    thing = value_at(payload, "data.object")
    for path in ("invoice", "payment_intent", "charge", "id", "subscription", "customer"):
        if found := word_at(thing, path):
            yield f"stripe:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        hook.options.header or HEADER: sign_stripe(hook.body, hook.secret, hook.now),
    }


PROVIDER = Provider(
    name="stripe",
    title="Stripe",
    hosts=("dashboard.stripe.com", "invoice.stripe.com", "pay.stripe.com"),
    verify=_verify,
    event_type=lambda request, options: event_name(text_at(request.json(), "type")),
    delivery_id=lambda request, options: id_at(request.json(), "id"),
    sign=signed(_sign),
    # Stripe repeats for three days, and signs the event's id with the body
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    credential="the endpoint's Signing secret (whsec_…), whole, as Stripe shows it",
    check_secret=any_secret,
    correlation=_correlation,
    # Calendly, WorkOS and others sign as Stripe does, in a header of their own
    options=frozenset({"tolerance_seconds", "header"}),
    notes=Notes(
        setup="the endpoint's Signing secret",
        verified_by="`Stripe-Signature`: time and hex HMAC-SHA256 of `time.body`",
        type_from="`type`: `invoice.paid`",
        delivery_from="the event's `id`",
        why="Stripe retries for three days; the id is signed with the body",
    ),
    tolerance_seconds=300,
)
