"""Figma: webhooks of version 2."""

from collections.abc import Sequence

import orjson

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import (
    answered_200,
    keys_at,
    no_delivery,
    ping_at,
    type_at,
)
from hookstream.app.providers.provider import HOUR, JSON, Notes, Provider, any_secret, signed
from hookstream.app.providers.signatures.digests import key_bytes, keys_of, match
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

PLACE = "the body's passcode"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    keys = keys_of(secrets)
    passcode = text_at(request.json(), "passcode")
    if not passcode:
        raise SignatureError(f"{PLACE} is missing or empty: the webhook has to carry it")
    match(PLACE, keys, [key_bytes(passcode)])


def _seal(body: bytes, secret: str) -> bytes:
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise BadRequestError("a Figma payload is a JSON object")
    return orjson.dumps({**payload, "passcode": secret})


PROVIDER = Provider(
    name="figma",
    title="Figma",
    verify=_verify,
    event_type=type_at("event_type"),
    delivery_id=no_delivery,
    seal=_seal,
    sign=signed(lambda hook: {"Content-Type": JSON}),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the passcode given when the webhook was created",
    check_secret=any_secret,
    # its page speaks of 200 alone
    answer=answered_200,
    handshake=ping_at("event_type", "PING"),
    correlation=keys_at("figma", "file_key", naming=("file_name", "label")),
    hosts=("www.figma.com", "figma.com"),
    notes=Notes(
        setup="`POST /v2/webhooks` with a `passcode`, which is the secret",
        verified_by="`passcode` in the body is the secret; nothing is signed",
        type_from="`event_type`: `FILE_COMMENT`",
        delivery_from="none is sent",
        why="no id is sent; the body has the file and a time",
        retries="three times: after 5 minutes, 30 minutes and 3 hours",
        source="https://developers.figma.com/docs/rest-api/webhooks/",
        answers=(
            ("`PING`", "200", "sent when the webhook is created; it becomes no event"),
            ("all else", "200, the same JSON", "Figma's page speaks of 200 alone"),
        ),
    ),
)
