"""SendGrid."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.batches import Batch
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.parts import delivery_at, kind_at, type_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Delivery,
    Notes,
    Provider,
    any_secret,
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


def _correlation(payload: Any) -> Iterator[str]:
    for item in payload if isinstance(payload, list) else [payload]:
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


def _secret(secret: str, options: SignatureOptions) -> None:
    any_secret(secret, options)
    if ecdsa_public_key(secret) is None:
        raise BadRequestError("not a public key of the curve P-256")


PROVIDER = Provider(
    name="sendgrid",
    title="SendGrid",
    hosts=("app.sendgrid.com",),
    verify=_verify,
    event_type=type_at("event"),
    delivery_id=delivery_at("sg_event_id"),
    sign=signed(_sign),
    batch=Batch([], kind=kind_at("event")),
    # signed with the body
    dedup_strategy="delivery",
    dedup_window_seconds=72 * HOUR,
    credential="the Verification Key (a public key, base64 of DER) of Signed Event Webhook",
    check_secret=_secret,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="Signed Event Webhook on; its Verification Key is the secret",
        verified_by=(
            "`X-Twilio-Email-Event-Webhook-Signature` and `-Timestamp`: ECDSA P-256 of "
            "time and body"
        ),
        type_from="`event`: `bounce`",
        delivery_from="`sg_event_id`",
        why=(
            "each event has an id; SendGrid retries for a day and does not say whether it signs "
            "anew"
        ),
    ),
    tolerance_seconds=TOLERANCE_SECONDS,
)
