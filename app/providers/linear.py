"""Linear."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Delivery,
    Provider,
    any_secret,
    event_name,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.timestamps import check_age

__all__ = ["PROVIDER"]

#: Linear's own library allows no more.
TOLERANCE_SECONDS = 60


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, "Linear-Signature")
    try:
        payload: Any = parse_json(request.decoded or request.body)
    except BadRequestError:
        # genuine all the same; event_type refuses it with the reason
        return
    sent_at = value_at(payload, "webhookTimestamp")
    if type(sent_at) not in (int, float):
        raise SignatureError("webhookTimestamp in the body is missing, or not in milliseconds")
    tolerance = options.tolerance(TOLERANCE_SECONDS)
    check_age(now - sent_at / 1000, tolerance, "webhookTimestamp in the body")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    return event_name(text_at(payload, "type"), text_at(payload, "action"))


def _stamp(body: bytes, now: float) -> bytes:
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise BadRequestError("a Linear payload is a JSON object")
    return orjson.dumps({**payload, "webhookTimestamp": int(now * 1000)})


def _answer(request: WebhookRequest, accepted: Answer) -> Answer:
    # any other status is a failure to Linear, and sent again three times
    # (linear.app/developers/webhooks)
    return replace(accepted, status=200)


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("data.identifier", "data.issue.identifier"):
        if key := word_at(payload, path):
            yield f"linear:{key}"
            yield f"ticket:{key}"
    if not word_at(payload, "data.identifier") and (found := word_at(payload, "data.issueId")):
        yield f"linear:{found}"
    if found := word_at(payload, "data.id"):
        yield f"linear:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Linear-Webhook",
        "Linear-Event": hook.event_type.partition(".")[0] or "Issue",
        "Linear-Delivery": hook.delivery_id,
        "Linear-Signature": sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="linear",
    title="Linear",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("linear-delivery")),
    sign=signed(_sign),
    # the time of sending is part of the body, so a repetition's body may differ
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    keep_headers=("linear-event", "linear-delivery"),
    credential="the webhook's Signing secret, from Linear's API settings",
    check_secret=any_secret,
    answer=_answer,
    stamp=_stamp,
    correlation=_correlation,
)
