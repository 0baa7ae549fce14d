"""Sentry."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.lookup import text_at, word_at
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
    # Sentry-Hook-Timestamp is not covered by the signature, so its age would prove nothing
    verify_hmac(request, secrets, "Sentry-Hook-Signature")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(request.header("sentry-hook-resource"), text_at(request.json(), "action"))


def _correlation(payload: Any) -> Iterator[str]:
    for path in (
        "data.issue.id", "data.event.issue_id", "data.error.issue_id", "data.issue_id",
        "data.metric_alert.id",
    ):  # fmt: skip
        if found := word_at(payload, path):
            yield f"sentry:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "sentry/hookstream",
        "Request-ID": hook.delivery_id,
        "Sentry-Hook-Resource": hook.event_type.partition(".")[0] or "issue",
        "Sentry-Hook-Timestamp": str(int(hook.now)),
        "Sentry-Hook-Signature": sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="sentry",
    title="Sentry",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("request-id")),
    sign=signed(_sign),
    # a repetition has a new Request-ID; the window is short because an issue that is resolved,
    # opened and resolved again can have the same payload twice
    dedup_strategy="payload",
    dedup_window_seconds=HOUR // 2,
    keep_headers=("sentry-hook-resource", "sentry-hook-timestamp", "request-id"),
    credential="the integration's Client Secret, from Sentry's Custom Integrations",
    check_secret=any_secret,
    correlation=_correlation,
)
