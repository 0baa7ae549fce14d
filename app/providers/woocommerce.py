"""WooCommerce."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import (
    delivery_header,
    signed_by,
    type_header,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Answer, Notes, Provider, any_secret, unsigned
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-WC-Webhook-Signature", encoding="base64")
PING: Final = re.compile(rb"webhook_id=[0-9]{1,20}")


def _challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    """The ping that WooCommerce sends when a webhook is made: a form, signed by nobody."""
    if request.method != "POST" or not PING.fullmatch(request.body):
        return None
    return Answer(200, b"", "text/plain")


def _correlation(payload: Any) -> Iterator[str]:
    if not (found := word_at(payload, "id")):
        return
    # what it is of is in a header; each kind has something that no other has
    for kind, names in (
        ("order", ("line_items", "order_key")),
        ("product", ("regular_price", "stock_status")),
        ("coupon", ("discount_type",)),
        ("customer", ("is_paying_customer",)),
    ):
        if any(value_at(payload, name) is not None for name in names):
            yield f"woocommerce:{kind}/{found}"
            break
    else:
        yield f"woocommerce:{found}"
    customer = word_at(payload, "customer_id")
    if customer and customer != "0":
        yield f"woocommerce:customer/{customer}"


PROVIDER = Provider(
    name="woocommerce",
    title="WooCommerce",
    verify=verified_by(SCHEME),
    event_type=type_header("x-wc-webhook-topic"),
    delivery_id=delivery_header("x-wc-webhook-delivery-id"),
    sign=signed_by(
        SCHEME,
        {
            "User-Agent": "WooCommerce/9.4.2 Hookshot (WordPress/6.7)",
            "X-WC-Webhook-Source": "https://shop.example.com/",
            "X-WC-Webhook-Topic": "order.updated",
        },
        type_header="X-WC-Webhook-Topic",
        delivery_header="X-WC-Webhook-Delivery-ID",
    ),
    # topic and id are in headers that nobody signs; a payload has the time of its last change
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        "x-wc-webhook-topic",
        "x-wc-webhook-source",
        "x-wc-webhook-id",
        "x-wc-webhook-delivery-id",
    ),
    credential="the webhook's Secret (WooCommerce, Settings, Advanced, Webhooks)",
    check_secret=any_secret,
    challenge=_challenge,
    correlation=_correlation,
    signed_type=unsigned,
    notes=Notes(
        setup="the webhook's Secret; the tool has to be there before the webhook is saved",
        verified_by="`X-WC-Webhook-Signature`: base64 HMAC-SHA256",
        type_from="`X-WC-Webhook-Topic`: `order.created`",
        delivery_from="`X-WC-Webhook-Delivery-ID`",
        why="topic and id are in headers that are not signed",
        retries="none; after five failures in a row the webhook is disabled",
        source="https://developer.woocommerce.com/docs/webhooks/",
        answers=(
            (
                "`webhook_id=…`",
                "200, empty",
                "[the ping](https://github.com/woocommerce/woocommerce/blob/trunk/plugins/"
                "woocommerce/includes/class-wc-webhook.php) with which a webhook is made; it "
                "becomes no event",
            ),
        ),
    ),
)
