"""Shopify."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    short_id,
    signed,
    unsigned,
)
from hookstream.app.providers.shapes import Shapes
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _of(kind: str, topics: str, more: str = "") -> dict[str, str]:
    """Topics whose bodies are of a kind, as the id of a thing in Shopify's other API names it.

    A subscription may leave out any field: what is not there says nothing against a topic.
    """
    return dict.fromkeys(topics.split(), f"admin_graphql_api_id~gid://shopify/{kind}/* {more}")


#: shopify.dev/docs/api/webhooks: those with REST payloads.
SHAPES = Shapes(
    {
        **_of("Order", "orders.create orders.updated"),
        **_of("Order", "orders.paid", "financial_status~paid"),
        **_of("Order", "orders.cancelled", "cancelled_at~20*"),
        **_of("Order", "orders.fulfilled", "fulfillment_status~fulfilled"),
        **_of("Order", "orders.partially_fulfilled", "fulfillment_status~partial"),
        **_of("DraftOrder", "draft_orders.create draft_orders.update"),
        **_of("Product", "products.create products.update"),
        **_of("ProductVariant", "variants.in_stock variants.out_of_stock"),
        **_of("Customer", "customers.create customers.update customers.delete"),
        **_of("Customer", "customers.enable customers.disable"),
        **_of("Collection", "collections.create collections.update collections.delete"),
        **_of("Fulfillment", "fulfillments.create fulfillments.update"),
        **_of("FulfillmentEvent", "fulfillment_events.create fulfillment_events.delete"),
        **_of("Refund", "refunds.create"),
        **_of("OrderTransaction", "order_transactions.create"),
        **_of("InventoryItem", "inventory_items.create inventory_items.update"),
        **_of(
            "InventoryLevel",
            "inventory_levels.connect inventory_levels.update inventory_levels.disconnect",
        ),
        **_of("Location", "locations.create locations.update"),
        **_of("Location", "locations.activate locations.deactivate"),
        **_of("BulkOperation", "bulk_operations.finish"),
        **_of("OnlineStoreTheme", "themes.create themes.update themes.publish"),
        **_of("TenderTransaction", "tender_transactions.create"),
        **_of("Shop", "app.uninstalled shop.update"),
        **_of("Cart", "carts.create carts.update"),
        **_of("Checkout", "checkouts.create checkouts.update"),
        # what is gone has an id and no more
        **_of("Order", "orders.delete", "!updated_at"),
        **_of("DraftOrder", "draft_orders.delete", "!updated_at"),
        **_of("Product", "products.delete", "!updated_at"),
        **_of("InventoryItem", "inventory_items.delete", "!updated_at"),
        **_of("Location", "locations.delete", "!updated_at"),
        **_of("OnlineStoreTheme", "themes.delete", "!updated_at"),
        **_of("Checkout", "checkouts.delete", "!updated_at"),
        "orders.edited": "order_edit",
        "app_subscriptions.update": "app_subscription",
        "disputes.create": "network_reason_code",
        "disputes.update": "network_reason_code",
        "customers.data_request": "shop_domain !admin_graphql_api_id",
        "customers.redact": "shop_domain !admin_graphql_api_id",
        "shop.redact": "shop_domain !admin_graphql_api_id",
    }
)


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, f"{_family(request)}Shopify-Hmac-Sha256", encoding="base64")


def _family(request: WebhookRequest) -> str:
    # deliveries of Shopify's "Events" have the same headers without the X-
    return "" if "shopify-hmac-sha256" in request.headers else "X-"


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # "orders/create"; the body is read so that what is not JSON is refused here
    payload = request.json()
    topic = request.header(f"{_family(request)}Shopify-Topic").replace("/", ".")
    return event_name(SHAPES.checked(topic, payload, request.decoded))


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return short_id(request.header(f"{_family(request)}Shopify-Webhook-Id"))


def _sold_in(payload: Any) -> str:
    """What has lines of things to be sold: an order, a draft of one, a checkout or a cart."""
    kind = text_at(payload, "admin_graphql_api_id").removeprefix("gid://shopify/").partition("/")[0]
    if kind in ("DraftOrder", "Checkout", "Cart"):
        return {"DraftOrder": "draft_order", "Checkout": "checkout", "Cart": "cart"}[kind]
    if kind or "financial_status" in payload or "order_number" in payload:
        return "order"
    if "abandoned_checkout_url" in payload:
        return "checkout"
    # a cart has no price as a whole
    return "cart" if "token" in payload and "total_price" not in payload else "order"


def _correlation(payload: Any) -> Iterator[str]:
    if order := word_at(payload, "order_id") or word_at(payload, "order_edit.order_id"):
        yield f"shopify:order/{order}"
    elif "line_items" in payload and (number := word_at(payload, "id")):
        yield f"shopify:{_sold_in(payload)}/{number}"
    elif "variants" in payload and (product := word_at(payload, "id")):
        yield f"shopify:product/{product}"
    if customer := word_at(payload, "customer.id"):
        yield f"shopify:customer/{customer}"


def _sign(hook: Delivery) -> dict[str, str]:
    topic = hook.event_type or SHAPES.fitting(hook.body) or "orders.create"
    return {
        "Content-Type": JSON,
        "User-Agent": "Shopify-Captain-Hook",
        "X-Shopify-Topic": topic.replace(".", "/"),
        "X-Shopify-Shop-Domain": "example.myshopify.com",
        "X-Shopify-API-Version": "2026-10",
        "X-Shopify-Webhook-Id": hook.delivery_id,
        "X-Shopify-Hmac-Sha256": sign_hmac(hook.body, hook.secret, encoding="base64"),
    }


PROVIDER = Provider(
    name="shopify",
    title="Shopify",
    hosts=("admin.shopify.com",),
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    signed_type=unsigned,
    shapes=SHAPES,
    # an order that is created and paid at once is sent as it is then, to both topics
    same_bodies=True,
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
    notes=Notes(
        setup="the app's client secret, or the one under Notifications, Webhooks",
        verified_by=(
            "`X-Shopify-Hmac-Sha256` (`Shopify-Hmac-Sha256` for Events): base64 HMAC-SHA256"
        ),
        type_from="the topic with dots: `orders.create`",
        delivery_from="`X-Shopify-Webhook-Id`",
        why="retries carry the original payload; the ids are not signed",
    ),
)
