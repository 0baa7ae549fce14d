"""Commerce: Stripe, Shopify."""

# ruff: noqa: S106
# (a secret_format is a sentence for people)

from collections.abc import Sequence

from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Delivery,
    Provider,
    any_secret,
    event_name,
    id_at,
    short_id,
    signed,
    text_at,
)
from hookstream.app.providers.signatures import (
    SignatureOptions,
    WebhookRequest,
    sign_hmac,
    sign_stripe,
    verify_hmac,
    verify_stripe,
)

__all__ = ["SHOPIFY", "STRIPE"]


def _stripe_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_stripe(
        request, secrets, "Stripe-Signature", now=now, tolerance_seconds=options.tolerance()
    )


def _stripe_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": sign_stripe(hook.body, hook.secret, hook.now),
    }


STRIPE = Provider(
    name="stripe",
    title="Stripe",
    verify=_stripe_verify,
    event_type=lambda request, options: event_name(text_at(request.json(), "type")),
    delivery_id=lambda request, options: id_at(request.json(), "id"),
    sign=signed(_stripe_sign),
    # Stripe repeats for three days, and signs the event's id with the body
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    secret_format="the endpoint's Signing secret (whsec_…), whole, as Stripe shows it",
    check_secret=any_secret,
)


def _shopify_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(
        request, secrets, f"{_shopify_family(request)}Shopify-Hmac-Sha256", encoding="base64"
    )


def _shopify_family(request: WebhookRequest) -> str:
    # deliveries of Shopify's "Events" have the same headers without the X-
    return "" if "shopify-hmac-sha256" in request.headers else "X-"


def _shopify_type(request: WebhookRequest, options: SignatureOptions) -> str:
    # "orders/create"; the body is read so that what is not JSON is refused here
    request.json()
    topic = request.header(f"{_shopify_family(request)}Shopify-Topic")
    return event_name(topic.replace("/", "."))


def _shopify_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return short_id(request.header(f"{_shopify_family(request)}Shopify-Webhook-Id"))


def _shopify_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "Shopify-Captain-Hook",
        "X-Shopify-Topic": (hook.event_type or "orders.create").replace(".", "/"),
        "X-Shopify-Shop-Domain": "example.myshopify.com",
        "X-Shopify-API-Version": "2026-10",
        "X-Shopify-Webhook-Id": hook.delivery_id,
        "X-Shopify-Hmac-Sha256": sign_hmac(hook.body, hook.secret, encoding="base64"),
    }


SHOPIFY = Provider(
    name="shopify",
    title="Shopify",
    verify=_shopify_verify,
    event_type=_shopify_type,
    delivery_id=_shopify_delivery,
    sign=signed(_shopify_sign),
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
    secret_format="the app's client secret, or the secret shown under Notifications, Webhooks",
    check_secret=any_secret,
)
