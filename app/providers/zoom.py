"""Zoom."""

import hmac
import math
from collections.abc import Sequence

import orjson

from hookstream.app.errors import SignatureError
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import keys_at, no_delivery, signed_by, type_at, verified_by
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Answer,
    Notes,
    Provider,
    any_secret,
)
from hookstream.app.providers.signatures.digests import key_bytes
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import (
    DEFAULT_TOLERANCE_SECONDS,
    SignatureOptions,
)
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="x-zm-signature",
    signed="v0:{timestamp}:{body}",
    prefix="v0=",
    timestamp_header="x-zm-request-timestamp",
)
MAX_TOKEN_CHARS = 256


def _has_signed(request: WebhookRequest, secret: str) -> bool:
    try:
        # when it was signed has been looked at
        SCHEME.verify(request, [secret], now=0, tolerance_seconds=math.inf)
    except SignatureError:
        return False
    return True


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    payload = request.json()
    token = text_at(payload, "payload.plainToken")
    if text_at(payload, "event") != "endpoint.url_validation" or not token:
        return None
    token = token[:MAX_TOKEN_CHARS]
    # while a secret is replaced there are two, and Zoom knows one of them
    secret = next((one for one in secrets if _has_signed(request, one)), "")
    if not secret:
        return None
    proof = hmac.digest(key_bytes(secret), token.encode("utf-8", "replace"), "sha256").hex()
    return Answer(200, orjson.dumps({"plainToken": token, "encryptedToken": proof}), JSON)


PROVIDER = Provider(
    name="zoom",
    title="Zoom",
    verify=verified_by(SCHEME),
    event_type=type_at("event"),
    delivery_id=no_delivery,
    sign=signed_by(SCHEME, {"User-Agent": "Zoom Marketplace/1.0a"}),
    # the body has the event's time in milliseconds (event_ts), so equal bodies are one event
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    keep_headers=("x-zm-request-timestamp",),
    credential="the app's Secret Token, from its Features page",
    check_secret=any_secret,
    handshake=_handshake,
    correlation=keys_at("zoom", "payload.object.uuid", "payload.object.id"),
    options=frozenset({"tolerance_seconds"}),
    hosts=("zoom.us", "*.zoom.us"),
    notes=Notes(
        setup="Event Subscriptions of the app; its Secret Token is the secret",
        verified_by=(
            "`x-zm-signature`: `v0=` and hex HMAC-SHA256 of `v0:time:body`, the time in "
            "`x-zm-request-timestamp`"
        ),
        type_from="`event`: `meeting.started`",
        delivery_from="none is sent",
        why="`event_ts` in the body is the event's time in milliseconds",
        retries="three times: after 5, 30 and 90 minutes",
        source="https://developers.zoom.us/docs/api/webhooks/",
        answers=(
            (
                "`endpoint.url_validation`",
                "200, `plainToken` and its HMAC",
                "Zoom validates the address so, now and every 72 hours; it becomes no event",
            ),
        ),
    ),
)
