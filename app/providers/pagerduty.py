"""PagerDuty."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    id_at,
    signed,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac_list
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac_list(request, secrets, "X-PagerDuty-Signature", prefix="v1=")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(text_at(request.json(), "event.event_type"))


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return id_at(request.json(), "event.id")


def _correlation(payload: Any) -> Iterator[str]:
    data = value_at(payload, "event.data")
    if incident := word_at(data, "incident.id") or word_at(data, "id"):
        yield f"pagerduty:{incident}"
    if service := word_at(data, "service.id"):
        yield f"pagerduty:{service}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "PagerDuty-Webhook/V3.0",
        "X-PagerDuty-Signature": "v1=" + sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="pagerduty",
    title="PagerDuty",
    hosts=("*.pagerduty.com",),
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    keep_headers=("x-webhook-id", "x-webhook-subscription"),
    credential="the secret that PagerDuty shows once when the V3 subscription is made",
    check_secret=any_secret,
    correlation=_correlation,
    notes=Notes(
        setup="the secret shown once when a V3 subscription is made",
        verified_by="`X-PagerDuty-Signature`: a list of `v1=` and hex HMAC-SHA256",
        type_from="`event.event_type`: `incident.triggered`",
        delivery_from="`event.id`",
        why="the id is signed with the body",
    ),
)
