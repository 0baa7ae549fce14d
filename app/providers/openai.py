"""OpenAI: webhooks of a project."""

from hookstream.app.providers.parts import keys_at, type_at
from hookstream.app.providers.provider import HOUR, Notes, Provider
from hookstream.app.providers.signatures.options import DEFAULT_TOLERANCE_SECONDS
from hookstream.app.providers.standard_parts import (
    KEPT,
    VERIFIED_BY,
    WHY,
    check_standard_secret,
    standard_delivery,
    standard_sign,
    verify_standard_webhook,
)

__all__ = ["PROVIDER"]

PROVIDER = Provider(
    name="openai",
    title="OpenAI",
    verify=verify_standard_webhook,
    event_type=type_at("type"),
    delivery_id=standard_delivery,
    sign=standard_sign,
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    keep_headers=KEPT,
    credential="the endpoint's signing secret, whsec_…, shown once",
    check_secret=check_standard_secret,
    correlation=keys_at("openai", "data.id", "data.call_id", "data.session_id", "data.request_id"),
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="the project's Settings, Webhooks; its signing secret, `whsec_…`",
        verified_by=VERIFIED_BY,
        type_from="`type`: `response.completed`",
        delivery_from="`webhook-id`",
        why=WHY,
        retries="for 72 hours, ever more seldom",
        source="https://platform.openai.com/docs/guides/webhooks",
    ),
)
