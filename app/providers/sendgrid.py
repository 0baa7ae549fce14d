"""SendGrid."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Delivery,
    Provider,
    any_secret,
    batch_type,
    id_at,
    signed,
)
from hookstream.app.providers.signatures.ecdsa import ecdsa_public_key, sign_ecdsa, verify_ecdsa
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

#: SendGrid repeats for a day; whether it signs anew each time is not documented, so an hour more.
TOLERANCE_SECONDS = 25 * HOUR


HEADER = "X-Twilio-Email-Event-Webhook-Signature"


TIME_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_ecdsa(
        request,
        secrets,
        HEADER,
        TIME_HEADER,
        now=now,
        tolerance_seconds=options.tolerance(TOLERANCE_SECONDS),
    )


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    # a batch has an id for each of its events, and none of its own
    return id_at(payload, "0.sg_event_id") if _is_one(payload) else ""


def _is_one(payload: Any) -> bool:
    return isinstance(payload, ARRAYS) and len(payload) == 1


def _correlation(payload: Any) -> Iterator[str]:
    for item in payload if isinstance(payload, list) else ():
        if message := word_at(item, "sg_message_id"):
            yield f"sendgrid:{message.partition('.')[0]}"


def _sign(hook: Delivery) -> dict[str, str]:
    time = str(int(hook.now))
    return {
        "Content-Type": JSON,
        "User-Agent": "SendGrid Event API",
        TIME_HEADER: time,
        HEADER: sign_ecdsa(time.encode() + hook.body, hook.secret),
    }


def _secret(secret: str) -> None:
    any_secret(secret)
    if ecdsa_public_key(secret) is None:
        raise BadRequestError("not a public key of the curve P-256")


PROVIDER = Provider(
    name="sendgrid",
    title="SendGrid",
    verify=_verify,
    event_type=lambda request, options: batch_type(request.json(), "event"),
    delivery_id=_delivery,
    sign=signed(_sign),
    # every event in a payload has an id of its own, so equal payloads are one delivery
    dedup_strategy="payload",
    dedup_window_seconds=72 * HOUR,
    credential="the Verification Key (a public key, base64 of DER) of Signed Event Webhook",
    check_secret=_secret,
    correlation=_correlation,
)
