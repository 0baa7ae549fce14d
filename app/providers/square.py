"""Square."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import delivery_at, signed_by, type_at, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="x-square-hmacsha256-signature", signed="{url}{body}", encoding="base64")


def _correlation(payload: Any) -> Iterator[str]:
    # what changed stands under its own name: data.object.payment, data.object.order_created
    inside = value_at(payload, "data.object")
    for thing in inside.values() if isinstance(inside, dict) else ():
        for path in ("order_id", "payment_id", "subscription_id", "id", "customer_id"):
            if found := word_at(thing, path):
                yield f"square:{found}"
    if found := word_at(payload, "data.id"):
        yield f"square:{found}"


PROVIDER = Provider(
    name="square",
    title="Square",
    verify=verified_by(SCHEME),
    event_type=type_at("type"),
    delivery_id=delivery_at("event_id"),
    sign=signed_by(SCHEME, {"User-Agent": "Square Connect v2", "square-environment": "Production"}),
    # signed with the body, and the same in every retry
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    keep_headers=(
        "square-environment",
        "square-initial-delivery-timestamp",
        "square-retry-number",
        "square-retry-reason",
    ),
    credential="the webhook subscription's Signature Key",
    check_secret=any_secret,
    correlation=_correlation,
    hosts=("squareup.com",),
    notes=Notes(
        setup="the webhook subscription's Signature Key; its URL exactly as Square has it",
        verified_by="`x-square-hmacsha256-signature`: base64 HMAC-SHA256 of the URL and the body",
        type_from="`type`: `payment.updated`",
        delivery_from="`event_id`",
        why="the id is signed with the body, and the same in every retry",
        retries="for 24 hours (72 in older editions of its page), each later than the last",
        source="https://developer.squareup.com/docs/webhooks/step3validate",
    ),
)
