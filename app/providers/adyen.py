"""Adyen: standard webhooks of payments."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import kind_at, type_at
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Delivery,
    Notes,
    Provider,
    body_type,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.adyen import seal_adyen, verify_adyen
from hookstream.app.providers.signatures.digests import check_key
from hookstream.app.providers.signatures.hmac_scheme import hmac_key
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

ITEM = "NotificationRequestItem"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_adyen(request, secrets)


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    item = value_at(request.json(), f"notificationItems.0.{ITEM}")
    parts = [word_at(item, name) for name in ("eventCode", "pspReference", "success")]
    return short_id(":".join(parts)) if all(parts) else ""


def _correlation(payload: Any) -> Iterator[str]:
    items = value_at(payload, "notificationItems")
    for item in items if isinstance(items, list) else ():
        # the first is the payment's own, where this is about a capture or a refund of it
        for path in ("originalReference", "pspReference", "merchantReference"):
            if found := word_at(item, f"{ITEM}.{path}"):
                yield f"adyen:{found}"


def _answer(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    return Answer(200, b"[accepted]", "text/plain")


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": body_type(hook.body), "User-Agent": "Adyen HttpClient 1.0"}


def _secret(secret: str, options: SignatureOptions) -> None:
    check_key(hmac_key(secret, "hex"))


PROVIDER = Provider(
    name="adyen",
    title="Adyen",
    verify=_verify,
    event_type=type_at(f"notificationItems.0.{ITEM}.eventCode"),
    delivery_id=_delivery,
    sign=signed(_sign),
    seal=seal_adyen,
    batch=Batch({"notificationItems": []}, kind=kind_at(f"{ITEM}.eventCode")),
    # code, reference and outcome are signed, and what Adyen tells duplicates by
    dedup_strategy="delivery",
    dedup_window_seconds=31 * 24 * HOUR,
    credential="the webhook's HMAC key (hex), from the Customer Area",
    check_secret=_secret,
    answer=_answer,
    correlation=_correlation,
    hosts=("ca-test.adyen.com", "ca-live.adyen.com"),
    notes=Notes(
        setup="a Standard webhook, method JSON; its HMAC key is the secret",
        verified_by=(
            "`additionalData.hmacSignature` of each item: base64 HMAC-SHA256, by the key as hex, "
            "of references, merchant account, amount, `eventCode` and `success`; no other field "
            "is signed"
        ),
        type_from="`eventCode`: `AUTHORISATION`",
        delivery_from="`eventCode`, `pspReference` and `success`",
        why="Adyen tells duplicates by code and reference; a second outcome is an event of its own",
        retries="three times at once, then from 2 minutes to 8 hours apart, for up to 30 days",
        source="https://docs.adyen.com/development-resources/webhooks/verify-hmac-signatures",
        answers=(
            (
                "all",
                "200, `[accepted]`",
                "[any 2xx counts](https://docs.adyen.com/development-resources/webhooks/"
                "handle-webhook-events), and to older accounts these words",
            ),
        ),
    ),
)
