"""Linear."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import answered_200
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Notes,
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

#: Linear's retries, after a minute, an hour and six hours, have the time of the first attempt. Its
#: own library allows 60 s; a copy within the longer time is a duplicate, as it signs the same.
TOLERANCE_SECONDS = 7 * HOUR
#: Within a text its quotes would be escaped.
_SENT_AT = re.compile(rb'"webhookTimestamp"\s*:\s*[0-9.eE+-]+')


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


def _content(request: WebhookRequest) -> bytes:
    return _SENT_AT.sub(b"", request.decoded)


def _stamp(body: bytes, now: float) -> bytes:
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise BadRequestError("a Linear payload is a JSON object")
    return orjson.dumps({**payload, "webhookTimestamp": int(now * 1000)})


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("data.identifier", "data.issue.identifier", "agentSession.issue.identifier"):
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
    hosts=("linear.app",),
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("linear-delivery")),
    sign=signed(_sign),
    # Linear-Delivery is not signed; the time of sending is, and differs when it is sent again
    dedup_strategy="payload",
    content=_content,
    dedup_window_seconds=24 * HOUR,
    keep_headers=("linear-event", "linear-delivery"),
    credential="the webhook's Signing secret, from Linear's API settings",
    check_secret=any_secret,
    # any other status is a failure to Linear, and sent again three times
    # (linear.app/developers/webhooks)
    answer=answered_200,
    stamp=_stamp,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="the webhook's Signing secret",
        verified_by="`Linear-Signature`: hex HMAC-SHA256, and `webhookTimestamp` in the body",
        type_from="`type` and `action`, in Linear's spelling: `Issue.create`",
        delivery_from="`Linear-Delivery`",
        why=(
            "the id is not signed; of the body `webhookTimestamp`, the time of sending, does "
            "not count. Retries come up to six hours later, with the time of the first attempt"
        ),
        answers=(
            (
                "all",
                "200, the same JSON",
                "[any status but 200](https://linear.app/developers/webhooks) is a failure to "
                "Linear: it sends again after a minute, an hour and six hours",
            ),
        ),
    ),
    tolerance_seconds=TOLERANCE_SECONDS,
)
