"""Shopify."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Delivery,
    Provider,
    any_secret,
    event_name,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, f"{_family(request)}Shopify-Hmac-Sha256", encoding="base64")


def _family(request: WebhookRequest) -> str:
    # deliveries of Shopify's "Events" have the same headers without the X-
    return "" if "shopify-hmac-sha256" in request.headers else "X-"


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # "orders/create"; the body is read so that what is not JSON is refused here
    request.json()
    topic = request.header(f"{_family(request)}Shopify-Topic")
    return event_name(topic.replace("/", "."))


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return short_id(request.header(f"{_family(request)}Shopify-Webhook-Id"))


def _correlation(payload: Any) -> Iterator[str]:
    if (order := word_at(payload, "order_id")) or (
        "line_items" in payload and (order := word_at(payload, "id"))
    ):
        yield f"shopify:order/{order}"
    elif "variants" in payload and (product := word_at(payload, "id")):
        yield f"shopify:product/{product}"
    if customer := word_at(payload, "customer.id"):
        yield f"shopify:customer/{customer}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "Shopify-Captain-Hook",
        "X-Shopify-Topic": (hook.event_type or "orders.create").replace(".", "/"),
        "X-Shopify-Shop-Domain": "example.myshopify.com",
        "X-Shopify-API-Version": "2026-10",
        "X-Shopify-Webhook-Id": hook.delivery_id,
        "X-Shopify-Hmac-Sha256": sign_hmac(hook.body, hook.secret, encoding="base64"),
    }


PROVIDER = Provider(
    name="shopify",
    title="Shopify",
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(_sign),
    # repetitions have the original payload, which is signed; the ids in the headers are not
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        "x-shopify-topic",
        "x-shopify-shop-domain",
        "x-shopify-api-version",
        "x-shopify-webhook-id",
        "x-shopify-event-id",
        "x-shopify-triggered-at",
        "shopify-topic",
        "shopify-shop-domain",
        "shopify-api-version",
        "shopify-webhook-id",
        "shopify-triggered-at",
    ),
    credential="the app's client secret, or the secret shown under Notifications, Webhooks",
    check_secret=any_secret,
    correlation=_correlation,
)
