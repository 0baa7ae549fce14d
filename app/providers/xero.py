"""Xero: batches that say what has changed, and where it is to be had."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.json_body import ARRAYS, OBJECTS
from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import (
    answered_empty,
    kind_at,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Notes,
    Provider,
    any_secret,
    short_id,
)
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="x-xero-signature", encoding="base64")


def _events(payload: Any) -> Any:
    events = value_at(payload, "events")
    return events if isinstance(events, ARRAYS) else []


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    # the body's sequence numbers are those of its first and last event, whichever this one is
    payload = request.json()
    parts = [word_at(payload, f"events.0.{name}") for name in ("resourceId", "eventDateUtc")]
    return short_id("-".join(parts)) if all(parts) else ""


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    """The "intent to receive": no events; 200 where its signature is right, 401 where not."""
    payload = request.json()
    is_one = isinstance(payload, OBJECTS) and "entropy" in payload and not len(_events(payload))
    return Answer(200, b"", "text/plain") if is_one else None


def _correlation(payload: Any) -> Iterator[str]:
    for event in _events(payload):
        if found := word_at(event, "resourceId"):
            yield f"xero:{found}"


PROVIDER = Provider(
    name="xero",
    title="Xero",
    verify=verified_by(SCHEME),
    event_type=type_at("events.0.eventCategory", "events.0.eventType"),
    delivery_id=_delivery,
    sign=signed_by(SCHEME, {"User-Agent": "Xero"}),
    batch=Batch({"events": []}, kind=kind_at("eventCategory", "eventType")),
    # signed with the body; entropy in it may differ in a retry
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    credential="the app's webhook key",
    check_secret=any_secret,
    handshake=_handshake,
    answer=answered_empty,
    correlation=_correlation,
    hosts=("api.xero.com", "go.xero.com"),
    notes=Notes(
        setup="the app's webhook key; then “Send intent to receive”",
        verified_by="`x-xero-signature`: base64 HMAC-SHA256",
        type_from="`eventCategory` and `eventType`: `INVOICE.UPDATE`",
        delivery_from="`resourceId` and `eventDateUtc`, which is to the millisecond",
        why="both are signed with the body; `entropy` in it is another each time",
        source="https://developer.xero.com/documentation/guides/webhooks/configuring-your-server/",
        answers=(
            ("all", "200, empty", "Xero wants no body, and an answer within five seconds"),
            (
                "no events",
                "200, empty",
                "the “intent to receive”; what is signed wrong gets 401, which Xero tries too",
            ),
        ),
    ),
)
