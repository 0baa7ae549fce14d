"""X (Twitter): Account Activity, X Activity and filtered stream webhooks."""

import base64
import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from hookstream.app.errors import SignatureError
from hookstream.app.providers.batches import Batch
from hookstream.app.providers.json_body import ARRAYS, OBJECTS
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import (
    answered_200,
    kind_at,
    no_delivery,
    signed_by,
    verified_by,
)
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Answer,
    Notes,
    Provider,
    any_secret,
    event_name,
)
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="x-twitter-webhooks-signature", prefix="sha256=", encoding="base64")
_verify_hmac = verified_by(SCHEME)
#: What a token of X is made of. The answer is the signature of a body that is this text: whoever
#: asks may choose it, so it must be nothing that is accepted as a body.
_TOKEN = re.compile(r"[A-Za-z0-9_+/=-]{1,256}")


def _challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    token = request.query("crc_token") if request.method == "GET" else ""
    key = next((secret for secret in secrets if secret), "")
    if not key or not _TOKEN.fullmatch(token):
        return None
    digest = hmac.digest(key.encode("utf-8", "surrogatepass"), token.encode(), "sha256")
    proof = f"sha256={base64.b64encode(digest).decode()}"
    return Answer(200, orjson.dumps({"response_token": proof}), JSON)


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    _verify_hmac(request, secrets, options, now)
    if not request.body.startswith(b"{"):
        raise SignatureError("the body is no JSON object: X signs texts that are none for anybody")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    if kind := text_at(payload, "data.event_type"):
        return event_name(kind)
    if isinstance(value_at(payload, "matching_rules"), ARRAYS):
        return "filtered_stream"
    names = payload.keys() if isinstance(payload, OBJECTS) else ()
    return event_name(next((n for n in names if n.endswith(("_events", "_event"))), UNKNOWN))


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("tweet_create_events.0", "favorite_events.0.favorited_status", "data"):
        for name in ("in_reply_to_status_id_str", "id_str", "id"):
            if found := word_at(payload, f"{path}.{name}"):
                yield f"x:{found}"
                break
    for path in (
        "tweet_create_events.0.id_str",
        "tweet_delete_events.0.status.id",
        "direct_message_events.0.message_create.sender_id",
        "follow_events.0.source.id",
        "for_user_id",
        "data.filter.user_id",
    ):
        if found := word_at(payload, path):
            yield f"x:{found}"


PROVIDER = Provider(
    name="x",
    title="X (Twitter)",
    verify=_verify,
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(SCHEME),
    batch=Batch({"*_events": []}, kind=kind_at("type")),
    # each event has its id and its time in the body
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the app's consumer secret (API secret key)",
    check_secret=any_secret,
    challenge=_challenge,
    answer=answered_200,
    correlation=_correlation,
    hosts=("x.com",),
    notes=Notes(
        setup="`POST /2/webhooks` of X's API with the tool's URL; the app's consumer secret",
        verified_by="`x-twitter-webhooks-signature`: `sha256=` and base64 HMAC-SHA256 of the body",
        type_from=(
            "the field that has the events: `tweet_create_events`; `data.event_type` of the X "
            "Activity API; `filtered_stream`"
        ),
        delivery_from="none is sent",
        why="each event has its own id, or its time, in the body",
        source="https://docs.x.com/x-api/webhooks/quickstart",
        answers=(
            (
                "GET with `crc_token`",
                "200, `response_token`: its HMAC with the first secret",
                "X tries out the address so, every hour",
            ),
            ("all", "200, the same JSON", "X asks for 200"),
        ),
    ),
)
