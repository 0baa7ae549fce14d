"""Datadog."""

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
    id_at,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.plain_token import verify_token
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

#: Datadog signs nothing; its webhooks take custom headers, and this is the one to set.
HEADER = "X-Hookstream-Token"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_token(request, secrets, options.header or HEADER)


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    # "Re-Triggered", "No Data"
    transition = text_at(payload, "alert_transition").lower().replace(" ", "_")
    return event_name(text_at(payload, "event_type"), transition)


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("alert_id", "alert.id", "aggreg_key", "id"):
        if found := word_at(payload, path):
            yield f"datadog:{found}"
            return


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": JSON, hook.options.header or HEADER: hook.secret}


PROVIDER = Provider(
    name="datadog",
    title="Datadog",
    hosts=(
        "app.datadoghq.com",
        "app.datadoghq.eu",
        "us3.datadoghq.com",
        "us5.datadoghq.com",
        "ap1.datadoghq.com",
    ),
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: id_at(request.json(), "id"),
    sign=signed(_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    credential=f"the value of the custom header {HEADER} in Datadog's webhook",
    check_secret=any_secret,
    correlation=_correlation,
    options=frozenset({"header"}),
    notes=Notes(
        setup='Webhook, Custom Headers: `{"X-Hookstream-Token": "…"}`',
        verified_by="that header is the secret; `options.header` names another",
        type_from=(
            "`event_type`, and `alert_transition` if the payload has it: "
            "`query_alert_monitor.triggered`"
        ),
        delivery_from="`id`",
        why="the payload is yours: without an `id` in it the whole payload counts",
    ),
)
