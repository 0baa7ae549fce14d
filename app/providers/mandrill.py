"""Mandrill (Mailchimp Transactional)."""

import base64
import hmac
from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.batches import Batch
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import answered_empty
from hookstream.app.providers.provider import (
    HOUR,
    Answer,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.digests import digests_of, key_bytes, keys_of, match
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "X-Mandrill-Signature"
#: Mandrill's trial of a URL, signed by a key that everybody knows.
TRIALS = (b"mandrill_events=%5B%5D", b"mandrill_events=[]")


def _signed(request: WebhookRequest) -> bytes:
    """The URL, then each field's name and value, sorted by name."""
    fields = "".join(name + value for name, value in sorted(request.form().items()))
    return (request.url + fields).encode("utf-8", "surrogatepass")


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    keys = keys_of(secrets)
    candidates = digests_of(HEADER, [request.single(HEADER)], "base64", 20)
    try:
        text = _signed(request)
    except BadRequestError as error:
        raise SignatureError(f"Mandrill signs a form: {error}") from error
    match(
        HEADER,
        (hmac.digest(key, text, "sha1") for key in keys),
        candidates,
        "also check that the tool's public_url, or HOOKSTREAM_PUBLIC_URL, is as Mandrill has it",
    )


def _kind(event: Any) -> str:
    return event_name(text_at(event, "event") or text_at(event, "type"), text_at(event, "action"))


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return _kind(request.json())


def _batch(request: WebhookRequest) -> str:
    fields = request.form()
    # with others it is something else
    return fields.get("mandrill_events", "") if len(fields) == 1 else ""


def _challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    if request.method != "POST" or request.body not in TRIALS:
        return None
    return Answer(200, b"", "text/plain")


def _correlation(payload: Any) -> Iterator[str]:
    for event in payload if isinstance(payload, list) else [payload]:
        for path in ("msg._id", "_id"):
            if found := word_at(event, path):
                yield f"mandrill:{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    sent = {"Content-Type": body_type(hook.body), "User-Agent": "Mandrill-Webhook/1.0"}
    text = _signed(hook.request(sent))
    digest = hmac.digest(key_bytes(hook.secret), text, "sha1")
    return sent | {HEADER: base64.b64encode(digest).decode()}


PROVIDER = Provider(
    name="mandrill",
    title="Mandrill",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: "",
    sign=signed(_sign),
    batch=Batch([], kind=_kind, text=_batch),
    # _id is the message's, also of its opens and clicks; ts tells these apart
    dedup_strategy="payload",
    dedup_window_seconds=72 * HOUR,
    credential="the webhook's key, which Mandrill shows once it is made",
    check_secret=any_secret,
    challenge=_challenge,
    answer=answered_empty,
    correlation=_correlation,
    notes=Notes(
        setup="the webhook's key; its URL exactly as Mandrill has it",
        verified_by="`X-Mandrill-Signature`: base64 HMAC-SHA1 of the URL and the sorted fields",
        type_from="`event`, or `type` and `action`: `hard_bounce`, `blacklist.add`",
        delivery_from="none is sent",
        why="`_id` is the message's; `ts` is part of each event",
        source="https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/",
        answers=(
            ("all", "200, empty", "no other status is known to count"),
            (
                "HEAD, and `mandrill_events=[]`",
                "200, empty",
                "Mandrill tries out the URL so before it has shown the key",
            ),
        ),
    ),
)
