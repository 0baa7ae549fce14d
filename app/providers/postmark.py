"""Postmark."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.basic import PROVIDER as BASIC
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import answered_200, delivery_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    body_type,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.basic import sign_basic
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    # inbound mail says what it is in newer payloads only
    inbound = "Inbound" if text_at(payload, "FromFull.Email") else ""
    return event_name(text_at(payload, "RecordType") or inbound)


def _correlation(payload: Any) -> Iterator[str]:
    if found := word_at(payload, "MessageID"):
        yield f"postmark:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "Postmark",
        "Authorization": sign_basic(hook.secret),
    }


PROVIDER = Provider(
    name="postmark",
    title="Postmark",
    verify=BASIC.verify,
    event_type=_type,
    delivery_id=delivery_at("ID"),
    sign=signed(_sign),
    # only bounces and complaints have an id; opens and clicks differ in their times
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    browsers_can_send=True,
    credential="username:password, as they stand in the webhook's URL at Postmark",
    check_secret=BASIC.check_secret,
    guessed_part=BASIC.guessed_part,
    answer=answered_200,
    correlation=_correlation,
    notes=Notes(
        setup="`https://username:password@…` as the webhook's URL; the secret is "
        "`username:password`",
        verified_by="`Authorization: Basic`; Postmark signs nothing",
        type_from="`RecordType`: `Bounce`; `Inbound` for mail that comes in",
        delivery_from="`ID` of bounces and complaints",
        why="opens, clicks and deliveries have no id",
        retries="inbound mail ten times in about 10.5 hours; 403 ends it",
        source="https://postmarkapp.com/developer/webhooks/webhooks-overview",
        answers=(
            (
                "all",
                "200, the same JSON",
                "[Postmark waits for a 200](https://postmarkapp.com/support/article/"
                "understanding-inbound-webhook-retries-in-postmark)",
            ),
        ),
    ),
)
