"""Razorpay."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import delivery_header, signed_by, type_at, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Razorpay-Signature")


def _correlation(payload: Any) -> Iterator[str]:
    # payload.payment.entity, and beside it the order, refund, dispute that it belongs to
    inside = value_at(payload, "payload")
    things = [value_at(part, "entity") for part in inside.values()] if type(inside) is dict else []
    for path in ("id", "payment_id", "order_id", "subscription_id", "invoice_id"):
        for thing in things:
            if found := word_at(thing, path):
                yield f"razorpay:{found}"


PROVIDER = Provider(
    name="razorpay",
    title="Razorpay",
    verify=verified_by(SCHEME),
    event_type=type_at("event"),
    delivery_id=delivery_header("x-razorpay-event-id"),
    sign=signed_by(
        SCHEME, {"User-Agent": "Razorpay-Webhook/v1"}, delivery_header="x-razorpay-event-id"
    ),
    # the id is in a header that nobody signs; the body has the event's time
    dedup_strategy="payload",
    dedup_window_seconds=48 * HOUR,
    keep_headers=("x-razorpay-event-id",),
    credential="the webhook's Secret, as it was typed in at Razorpay",
    check_secret=any_secret,
    correlation=_correlation,
    hosts=("rzp.io", "dashboard.razorpay.com"),
    notes=Notes(
        setup="the webhook's Secret",
        verified_by="`X-Razorpay-Signature`: hex HMAC-SHA256",
        type_from="`event`: `payment.captured`",
        delivery_from="`x-razorpay-event-id`",
        why="the id is in a header that is not signed; `created_at` in the body is the event's",
        retries="for 24 hours, each later than the last; then the webhook is disabled",
        source="https://razorpay.com/docs/webhooks/validate-test/",
    ),
)
