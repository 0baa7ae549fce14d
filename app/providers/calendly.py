"""Calendly."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import no_delivery, signed_by, type_at, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import DEFAULT_TOLERANCE_SECONDS

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="Calendly-Webhook-Signature",
    signed="{timestamp}.{body}",
    signature_name="v1",
    timestamp_name="t",
)


def _correlation(payload: Any) -> Iterator[str]:
    # addresses of things at api.calendly.com; a meeting that was moved names the one before
    for path in ("scheduled_event.uri", "uri", "old_invitee", "new_invitee", "submitter"):
        if found := text_at(payload, f"payload.{path}").rpartition("/")[2]:
            yield f"calendly:{found}"


PROVIDER = Provider(
    name="calendly",
    title="Calendly",
    verify=verified_by(SCHEME),
    event_type=type_at("event"),
    delivery_id=no_delivery,
    sign=signed_by(SCHEME, {"User-Agent": "Calendly"}),
    # the body has the event's time, to the microsecond, and is signed
    dedup_strategy="payload",
    dedup_window_seconds=48 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    credential="the webhook subscription's signing_key",
    check_secret=any_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("calendly.com",),
    notes=Notes(
        setup="the `signing_key` that the webhook subscription was made with",
        verified_by="`Calendly-Webhook-Signature`: `t=`, and hex HMAC-SHA256 of `time.body` in "
        "`v1=`",
        type_from="`event`: `invitee.created`",
        delivery_from="none is sent",
        why="`created_at` in the body is the event's time; Calendly checks three minutes, so "
        "retries are signed anew",
        retries="for 24 hours, each later than the last; then the webhook is disabled",
        source="https://developer.calendly.com/api-docs/overview/webhooks/webhook-errors",
    ),
)
