"""PayPal."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.parts import delivery_at, type_at
from hookstream.app.providers.provider import HOUR, JSON, Delivery, Notes, Provider, signed
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.paypal import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIME_HEADER,
    TOLERANCE_SECONDS,
    URL_HEADER,
    paypal_content,
    paypal_keys,
    verify_paypal,
)
from hookstream.app.providers.signatures.pinned import check_sender, signer
from hookstream.app.providers.signatures.rsa import sign_rsa

__all__ = ["PROVIDER"]

#: What a resource says it belongs to: a refund to its capture, a capture to its order.
KEY_PATHS = (
    "resource.supplementary_data.related_ids.order_id",
    "resource.supplementary_data.related_ids.capture_id",
    "resource.billing_agreement_id",
    "resource.parent_payment",
    "resource.dispute_id",
    "resource.payout_item_id",
    "resource.invoice.id",
    "resource.id",
)


def _correlation(payload: Any) -> Iterator[str]:
    for path in KEY_PATHS:
        if found := word_at(payload, path):
            yield f"paypal:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    name, key = signer(hook.secret)
    time = datetime.fromtimestamp(hook.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers = {
        "Content-Type": JSON,
        "User-Agent": "PayPal/AUHD-214.0-58843656",
        "PayPal-Auth-Algo": "SHA256withRSA",
        URL_HEADER: "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-df8cd2d5",
        ID_HEADER: hook.delivery_id,
        TIME_HEADER: time,
    }
    return headers | {SIGNATURE_HEADER: sign_rsa(key, paypal_content(hook.request(headers), name))}


def _secret(secret: str, options: SignatureOptions) -> None:
    check_sender(secret, "the webhook's ID")


PROVIDER = Provider(
    name="paypal",
    title="PayPal",
    keys=paypal_keys,
    verify=verify_paypal,
    event_type=type_at("event_type"),
    delivery_id=delivery_at("id"),
    sign=signed(_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential="the webhook's ID, from the app's page: only PayPal can sign for it",
    check_secret=_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("www.paypal.com", "www.sandbox.paypal.com"),
    notes=Notes(
        setup=(
            "Apps & Credentials, the app, Webhooks; its Webhook ID is the secret (mock events of "
            "the simulator are of another one, `WEBHOOK_ID`)"
        ),
        verified_by=(
            "`PayPal-Transmission-Sig`: RSA-SHA256 of transmission id, time, webhook id and the "
            "body's CRC-32, by the certificate at `PayPal-Cert-Url`, fetched from PayPal's API "
            "hosts only"
        ),
        type_from="`event_type`: `PAYMENT.CAPTURE.COMPLETED`",
        delivery_from="`id`",
        why=(
            "the event's `id` stays when it is sent again, for three days; whether with a new time "
            "is not documented"
        ),
        retries="25 times in 3 days",
        source="https://developer.paypal.com/api/rest/webhooks/rest",
    ),
)
