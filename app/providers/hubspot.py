"""HubSpot."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import kind_at, signed_by, type_at, verified_by
from hookstream.app.providers.provider import (
    HOUR,
    Notes,
    Provider,
    any_secret,
    short_id,
)
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import (
    DEFAULT_TOLERANCE_SECONDS,
    SignatureOptions,
)
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="X-HubSpot-Signature-v3",
    signed="{method}{decoded_url}{body}{timestamp}",
    encoding="base64",
    timestamp_header="X-HubSpot-Request-Timestamp",
    timestamp_unit="ms",
)
#: HubSpot's own page says that an eventId need not be unique: what else says which event it was.
IDENTITY = ("eventId", "subscriptionId", "objectId", "occurredAt")


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    event = request.json()
    words = [word_at(event, name) for name in IDENTITY]
    return short_id("-".join(words)) if words[0] else ""


def _correlation(payload: Any) -> Iterator[str]:
    for event in payload if isinstance(payload, list) else [payload]:
        kind = text_at(event, "subscriptionType").partition(".")[0]
        if kind == "object":
            kind = text_at(event, "objectTypeId")
        if kind and (found := word_at(event, "objectId")):
            yield f"hubspot:{kind}/{found}"


PROVIDER = Provider(
    name="hubspot",
    title="HubSpot",
    verify=verified_by(SCHEME),
    event_type=type_at("subscriptionType"),
    delivery_id=_delivery,
    sign=signed_by(SCHEME),
    batch=Batch([], kind=kind_at("subscriptionType")),
    # the body has the number of the attempt, so a repetition's differs
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    credential="the app's client secret, from its Auth page",
    check_secret=any_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("app.hubspot.com",),
    notes=Notes(
        setup="Webhooks of the app; its client secret is the secret",
        verified_by=(
            "`X-HubSpot-Signature-v3`: base64 HMAC-SHA256 of method, URL, body and the "
            "milliseconds in `X-HubSpot-Request-Timestamp`"
        ),
        type_from="`subscriptionType`: `contact.creation`",
        delivery_from="`eventId`, `subscriptionId`, `objectId` and `occurredAt`",
        why=(
            "an `eventId` alone need not be unique, and `attemptNumber` makes a retry's body differ"
        ),
        retries="up to 10 times within 24 hours",
        source=(
            "https://developers.hubspot.com/docs/apps/legacy-apps/authentication/"
            "validating-requests"
        ),
    ),
)
