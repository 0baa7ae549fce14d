"""Operations: PagerDuty, Sentry, Datadog."""

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
    verify_hmac,
    verify_hmac_list,
    verify_token,
)

__all__ = ["DATADOG", "PAGERDUTY", "SENTRY"]


def _pagerduty_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac_list(request, secrets, "X-PagerDuty-Signature", prefix="v1=")


def _pagerduty_type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(text_at(request.json(), "event.event_type"))


def _pagerduty_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return id_at(request.json(), "event.id")


def _pagerduty_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "PagerDuty-Webhook/V3.0",
        "X-PagerDuty-Signature": "v1=" + sign_hmac(hook.body, hook.secret),
    }


PAGERDUTY = Provider(
    name="pagerduty",
    title="PagerDuty",
    verify=_pagerduty_verify,
    event_type=_pagerduty_type,
    delivery_id=_pagerduty_delivery,
    sign=signed(_pagerduty_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    keep_headers=("x-webhook-id", "x-webhook-subscription"),
    secret_format="the secret that PagerDuty shows once when the V3 subscription is made",
    check_secret=any_secret,
)


def _sentry_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    # Sentry-Hook-Timestamp is not covered by the signature, so its age would prove nothing
    verify_hmac(request, secrets, "Sentry-Hook-Signature")


def _sentry_type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(request.header("sentry-hook-resource"), text_at(request.json(), "action"))


def _sentry_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "sentry/hookstream",
        "Request-ID": hook.delivery_id,
        "Sentry-Hook-Resource": hook.event_type.partition(".")[0] or "issue",
        "Sentry-Hook-Timestamp": str(int(hook.now)),
        "Sentry-Hook-Signature": sign_hmac(hook.body, hook.secret),
    }


SENTRY = Provider(
    name="sentry",
    title="Sentry",
    verify=_sentry_verify,
    event_type=_sentry_type,
    delivery_id=lambda request, options: short_id(request.header("request-id")),
    sign=signed(_sentry_sign),
    # a repetition has a new Request-ID; the window is short because an issue that is resolved,
    # opened and resolved again can have the same payload twice
    dedup_strategy="payload",
    dedup_window_seconds=HOUR // 2,
    keep_headers=("sentry-hook-resource", "sentry-hook-timestamp", "request-id"),
    secret_format="the integration's Client Secret, from Sentry's Custom Integrations",
    check_secret=any_secret,
)

#: Datadog signs nothing; its webhooks take custom headers, and this is the one to set.
DATADOG_HEADER = "X-Hookstream-Token"


def _datadog_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_token(request, secrets, options.header or DATADOG_HEADER)


def _datadog_type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    # "Re-Triggered", "No Data"
    transition = text_at(payload, "alert_transition").lower().replace(" ", "_")
    return event_name(text_at(payload, "event_type"), transition)


def _datadog_sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": JSON, hook.options.header or DATADOG_HEADER: hook.secret}


DATADOG = Provider(
    name="datadog",
    title="Datadog",
    verify=_datadog_verify,
    event_type=_datadog_type,
    delivery_id=lambda request, options: id_at(request.json(), "id"),
    sign=signed(_datadog_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    secret_format=f"the value of the custom header {DATADOG_HEADER} in Datadog's webhook",
    check_secret=any_secret,
)
