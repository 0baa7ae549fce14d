"""Mailgun."""

from collections.abc import Iterator
from typing import Any

import orjson

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.lookup import value_at, word_at
from hookstream.app.providers.parts import answered_200, delivery_at, type_at, verified_by
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    signed,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    field="signature.signature",
    signed="{timestamp}{field:signature.token}",
    timestamp_field="signature.timestamp",
)
#: Mailgun repeats for eight hours, and does not say whether it signs anew.
TOLERANCE_SECONDS = 9 * HOUR


def _signature(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise BadRequestError("a Mailgun payload is a JSON object")
    found = value_at(payload, "signature")
    return payload, found if isinstance(found, dict) else {}


def _stamp(body: bytes, now: float) -> bytes:
    payload, signature = _signature(body)
    return orjson.dumps({**payload, "signature": {**signature, "timestamp": str(int(now))}})


def _seal(body: bytes, secret: str) -> bytes:
    payload, signature = _signature(body)
    # fifty characters, another for each webhook at Mailgun; here for each body
    token = word_at(signature, "token") or sign_hmac(body, b"token")[:50]
    text = word_at(signature, "timestamp") + token
    made = {"token": token, "signature": sign_hmac(text.encode(), secret)}
    return orjson.dumps({**payload, "signature": {**signature, **made}})


def _correlation(payload: Any) -> Iterator[str]:
    if found := word_at(payload, "event-data.message.headers.message-id"):
        yield f"mailgun:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": body_type(hook.body), "User-Agent": "mailgun/treq-20.9.0"}


PROVIDER = Provider(
    name="mailgun",
    title="Mailgun",
    verify=verified_by(SCHEME, TOLERANCE_SECONDS),
    event_type=type_at("event-data.event", "event-data.severity"),
    delivery_id=delivery_at("event-data.id"),
    sign=signed(_sign),
    stamp=_stamp,
    seal=_seal,
    # nothing that says what happened is signed; a retry has the event's id
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential="the account's HTTP webhook signing key",
    check_secret=any_secret,
    answer=answered_200,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="the account's HTTP webhook signing key",
        verified_by=(
            "`signature` in the body: hex HMAC-SHA256 of its `timestamp` and `token`; the event "
            "itself is not signed, so TLS alone keeps it as it was sent"
        ),
        type_from="`event` and `severity` of `event-data`: `delivered`, `failed.permanent`",
        delivery_from="`event-data.id`",
        why="a retry has the event's id; nine hours are as long as Mailgun retries, as it does not "
        "say whether it signs anew",
        retries="after 5, 10 and 15 minutes, 1, 2 and 4 hours; `delivered` is not sent again",
        source="https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks",
        answers=(
            (
                "all",
                "200, the same JSON",
                "[any status but 200 and 406](https://documentation.mailgun.com/docs/mailgun/"
                "user-manual/webhooks/webhook-retries) is a failure to Mailgun",
            ),
        ),
    ),
)
