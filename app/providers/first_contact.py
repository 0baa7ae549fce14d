"""How senders try out an address before they send, in the forms that several of them share.

Nothing is verified yet, so nothing is taken in: what is echoed is short, printable, of a type that
a browser does not render, and asks for nothing.
"""

import hmac
from collections.abc import Sequence
from typing import Final

import orjson

from hookstream.app.providers.json_body import ARRAYS, OBJECTS
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.provider import JSON, Answer, Challenge
from hookstream.app.providers.signatures.digests import encoded
from hookstream.app.providers.signatures.hmac_scheme import hmac_key
from hookstream.app.providers.signatures.named_challenge import (
    AS_HEADER,
    fill_answer,
    is_token,
    parse_answer,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = [
    "any_challenge",
    "echoed",
    "echoed_json",
    "event_grid_challenge",
    "first_of",
    "handed_over",
    "hub_challenge",
    "learn_named",
    "named_challenge",
    "query_challenge",
    "signs_challenges",
]

MAX_CHARS: Final = 1024
MAX_SECRET_CHARS: Final = 256
#: A body that only tries out an address is short.
MAX_BODY_BYTES: Final = 4096
#: Names that stand beside a challenge in a body that is nothing else.
BESIDE: Final = frozenset({"challenge", "token", "type", "subscription"})
TEXT: Final = "text/plain"


def echoed(text: str) -> Answer | None:
    """A challenge as plain text; None where it is none that can be sent back."""
    return Answer(200, text.encode(), TEXT) if _is_echoable(text) else None


def echoed_json(name: str, text: str) -> Answer | None:
    """A challenge as ``{name: text}``; None where it is none that can be sent back."""
    return Answer(200, orjson.dumps({name: text}), JSON) if _is_echoable(text) else None


def first_of(*challenges: Challenge) -> Challenge:
    """The first answer that one of them has."""

    def challenge(
        request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
    ) -> Answer | None:
        return next((a for c in challenges if (a := c(request, secrets, options))), None)

    return challenge


def query_challenge(*names: str, method: str = "GET") -> Challenge:
    """A query parameter, sent back as text: Dropbox, Nylas, Microsoft Graph (by POST)."""

    def challenge(
        request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
    ) -> Answer | None:
        if request.method != method or "?" not in request.url:
            return None
        return next((echoed(text) for name in names if (text := request.query(name))), None)

    return challenge


def hub_challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    """``hub.challenge``, where ``hub.verify_token`` is one of the tool's secrets: Meta.

    Source: https://developers.facebook.com/docs/graph-api/webhooks/getting-started.
    """
    if request.method != "GET" or request.query("hub.mode") != "subscribe":
        return None
    token = request.query("hub.verify_token").encode()
    known = [hmac.compare_digest(token, secret.encode()) for secret in secrets if secret]
    return echoed(request.query("hub.challenge")) if any(known) else None


def event_grid_challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    """Azure Event Grid's validation event, and the OPTIONS request of CloudEvents.

    Sources: https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema,
    https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md#4-abuse-protection.
    """
    if request.method == "OPTIONS":
        origin = request.header("webhook-request-origin")
        if not _is_echoable(origin):
            return None
        rate = {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
        return Answer(200, b"", TEXT, rate)
    if request.header("aeg-event-type") != "SubscriptionValidation":
        return None
    if len(request.decoded) > MAX_BODY_BYTES:
        return None
    payload = request.json()
    first = payload[0] if isinstance(payload, ARRAYS) and len(payload) == 1 else payload
    return echoed_json("validationResponse", text_at(first, "data.validationCode"))


def _body_challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    """A body that is a challenge and nothing else: monday and others; as text for Twitch."""
    if request.method != "POST" or len(request.decoded) > MAX_BODY_BYTES:
        return None
    if b'"challenge"' not in request.decoded:
        return None
    payload = request.json()
    if not isinstance(payload, OBJECTS) or not BESIDE.issuperset(payload.keys()):
        return None
    challenge = text_at(payload, "challenge")
    if request.header("twitch-eventsub-message-type") == "webhook_callback_verification":
        return echoed(challenge)
    return echoed_json("challenge", challenge)


def named_challenge(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    """What a tool's own options say: ``challenge`` and ``challenge_answer``.

    Nothing is verified, so an HMAC is given away only of what is no body that would be accepted.
    """
    place = options.challenge_place()
    if place is None or len(request.decoded) > MAX_BODY_BYTES:
        return None
    challenge = place.text(request)
    if not _is_echoable(challenge):
        return None
    template = options.challenge_template(place)
    if template == AS_HEADER:
        return Answer(200, b"", TEXT, {place.name: challenge})
    digest = ""
    if signs_challenges(options):
        key = next((secret for secret in secrets if secret), "")
        if not key or not is_token(challenge):
            return None
        digest = encoded(
            hmac.digest(hmac_key(key, options.key_encoding), challenge.encode(), options.algorithm),
            options.encoding,
        )
    body, is_json = fill_answer(template, challenge, digest)
    return Answer(200, body, JSON if is_json else TEXT)


def signs_challenges(options: SignatureOptions) -> bool:
    """Whether a tool signs, for anybody who asks, what its sender may have to be shown."""
    place = options.challenge_place()
    return place is not None and "hmac" in parse_answer(options.challenge_template(place), place)


def handed_over(secret: str, header: str = "") -> tuple[str, Answer] | None:
    """A secret that a first request brings, and its answer, with the secret back in ``header``.

    None where it is none that can be sent back.
    """
    if not (0 < len(secret) <= MAX_SECRET_CHARS and secret.isascii() and secret.isprintable()):
        return None
    return secret, Answer(200, b"", TEXT, {header: secret} if header else {})


def learn_named(request: WebhookRequest, options: SignatureOptions) -> tuple[str, Answer] | None:
    """The secret at ``options.secret_from``; it goes back in the same header if it came in one."""
    place = options.secret_place()
    if place is None or len(request.decoded) > MAX_BODY_BYTES:
        return None
    return handed_over(place.text(request), place.name if place.kind == "header" else "")


#: What a tool whose sender nobody has a file for answers.
any_challenge: Final[Challenge] = first_of(
    named_challenge,
    query_challenge("challenge", "validationToken", "validationtoken", "hub.challenge"),
    query_challenge("validationToken", "validationtoken", method="POST"),
    event_grid_challenge,
    _body_challenge,
)


def _is_echoable(text: str) -> bool:
    return 0 < len(text) <= MAX_CHARS and text.isascii() and text.isprintable()
