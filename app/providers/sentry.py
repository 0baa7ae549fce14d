"""Sentry."""

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

#: docs.sentry.io/integrations/integration-platform/webhooks
SHAPES = Shapes(
    {
        "comment": "data.comment",
        "error": "data.error",
        "event_alert": "data.event action~triggered",
        "installation": "data.installation",
        "issue": "data.issue",
        "metric_alert": "data.metric_alert",
        "seer": "data.run_id",
    },
    own_name="data.{}",
)


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    # Sentry-Hook-Timestamp is not covered by the signature, so its age would prove nothing
    verify_hmac(request, secrets, "Sentry-Hook-Signature")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    name = SHAPES.checked(request.header("sentry-hook-resource"), payload, request.decoded)
    return event_name(name, text_at(payload, "action"))


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("data.issue.id", "data.event.issue_id", "data.error.issue_id", "data.issue_id"):
        if issue := word_at(payload, path):
            yield f"sentry:{issue}"
    # metric alerts have numbers of their own
    if alert := word_at(payload, "data.metric_alert.id"):
        yield f"sentry:metric-alert/{alert}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        "User-Agent": "sentry/hookstream",
        "Request-ID": hook.delivery_id,
        "Sentry-Hook-Resource": hook.event_type.partition(".")[0]
        or SHAPES.fitting(hook.body)
        or "issue",
        "Sentry-Hook-Timestamp": str(int(hook.now)),
        "Sentry-Hook-Signature": sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="sentry",
    title="Sentry",
    hosts=("sentry.io", "*.sentry.io"),
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("request-id")),
    signed_type=unsigned,
    shapes=SHAPES,
    sign=signed(_sign),
    # a repetition has a new Request-ID; the window is short because an issue that is resolved,
    # opened and resolved again can have the same payload twice
    dedup_strategy="payload",
    dedup_window_seconds=HOUR // 2,
    keep_headers=("sentry-hook-resource", "sentry-hook-timestamp", "request-id"),
    credential="the integration's Client Secret, from Sentry's Custom Integrations",
    check_secret=any_secret,
    correlation=_correlation,
    notes=Notes(
        setup="the integration's Client Secret",
        verified_by="`Sentry-Hook-Signature`: hex HMAC-SHA256",
        type_from="`Sentry-Hook-Resource` and `action`: `issue.created`",
        delivery_from="`Request-ID`",
        why=(
            "a retry has a new `Request-ID`; the window is short because an issue that "
            "is resolved, reopened and resolved can have one payload twice"
        ),
    ),
)
