"""Paddle Billing."""

from hookstream.app.providers.parts import (
    answered_200,
    delivery_at,
    keys_at,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import DEFAULT_TOLERANCE_SECONDS

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="Paddle-Signature",
    signed="{timestamp}:{body}",
    signature_name="h1",
    timestamp_name="ts",
    separator=";",
)


PROVIDER = Provider(
    name="paddle",
    title="Paddle",
    verify=verified_by(SCHEME),
    event_type=type_at("event_type"),
    delivery_id=delivery_at("event_id"),
    sign=signed_by(SCHEME, {"User-Agent": "Paddle"}),
    # the event's own id; notification_id is one of each destination
    dedup_strategy="delivery",
    dedup_window_seconds=96 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    credential="the notification destination's secret key (pdl_ntfset_…)",
    check_secret=any_secret,
    answer=answered_200,
    correlation=keys_at(
        "paddle", "data.transaction_id", "data.subscription_id", "data.id", "data.customer_id"
    ),
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="the notification destination's secret key",
        verified_by=(
            "`Paddle-Signature`: `ts=`, and hex HMAC-SHA256 of `time:body` in one or more `h1=`"
        ),
        type_from="`event_type`: `transaction.completed`",
        delivery_from="`event_id`",
        why="the id is signed with the body; Paddle's own library allows 5 s, so retries are "
        "signed anew",
        retries="60 times in 3 days (sandbox: 3 times in 15 minutes)",
        source="https://developer.paddle.com/webhooks/signature-verification",
        answers=(
            (
                "all",
                "200, the same JSON",
                "[Paddle waits for a 200](https://developer.paddle.com/webhooks/respond-to-webhooks)",
            ),
        ),
    ),
)
