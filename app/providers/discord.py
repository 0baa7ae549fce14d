"""Discord: interactions (commands, buttons, forms) and webhook events of an app."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import delivery_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Answer,
    Delivery,
    Notes,
    Provider,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.ed25519 import (
    ed25519_public_key,
    sign_ed25519,
    verify_ed25519,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "X-Signature-Ed25519"
TIME_HEADER = "X-Signature-Timestamp"
#: Webhook events are repeated for ten minutes; whether signed anew is not documented.
TOLERANCE_SECONDS = 900
#: Types of interactions; a webhook has the same field, with 0 for PING and 1 for an event.
PING, COMMAND, COMPONENT, AUTOCOMPLETE, MODAL = 1, 2, 3, 4, 5
KINDS = {COMMAND: "command", COMPONENT: "component", AUTOCOMPLETE: "autocomplete", MODAL: "modal"}
EMPTY = Answer(204, b"", "text/plain")
PONG = Answer(200, b'{"type":1}', JSON)
NO_CHOICES = Answer(200, b'{"type":8,"data":{"choices":[]}}', JSON)
#: A message that only who typed the command sees; it can be edited for 15 minutes with the token.
RECEIVED = Answer(200, b'{"type":4,"data":{"content":"Received.","flags":64}}', JSON)
#: Nothing is to be seen: the message that the button is of stays as it is.
SEEN = Answer(200, b'{"type":6}', JSON)


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    tolerance = options.tolerance(TOLERANCE_SECONDS)
    verify_ed25519(request, secrets, HEADER, TIME_HEADER, now=now, tolerance_seconds=tolerance)


def _kind(payload: Any) -> int:
    """The number that says what a body is; -1 where there is none."""
    kind = value_at(payload, "type")
    return kind if type(kind) is int else -1


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    if event := text_at(payload, "event.type"):
        return event_name(event)
    kind = _kind(payload)
    action = text_at(payload, "data.name") if kind == COMMAND else ""
    return event_name(KINDS.get(kind, UNKNOWN), action)


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    payload = request.json()
    kind = _kind(payload)
    if kind == 0:
        return EMPTY
    if value_at(payload, "event") is None:
        return {PING: PONG, AUTOCOMPLETE: NO_CHOICES}.get(kind)
    return None


def _answer(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    payload = request.json()
    if value_at(payload, "event") is None:
        if (kind := _kind(payload)) == COMMAND:
            return RECEIVED
        if kind in (COMPONENT, MODAL):
            # a form that a command has opened has no message of its own
            return SEEN if value_at(payload, "message") is not None else RECEIVED
    return EMPTY


def _correlation(payload: Any) -> Iterator[str]:
    channel = word_at(payload, "channel_id") or word_at(payload, "event.data.channel_id")
    for path in ("message.id", "data.target_id"):
        if channel and (found := word_at(payload, path)):
            yield f"discord:{channel}/{found}"
    if channel:
        yield f"discord:{channel}"
    if found := word_at(payload, "event.data.lobby_id"):
        yield f"discord:lobby/{found}"
    for path in ("event.data.user.id", "event.data.user_id"):
        if found := word_at(payload, path):
            yield f"discord:user/{found}"


def _sign(hook: Delivery) -> dict[str, str]:
    time = str(int(hook.now))
    return {
        "Content-Type": JSON,
        "User-Agent": "Discord-Interactions/1.0 (+https://discord.com)",
        TIME_HEADER: time,
        HEADER: sign_ed25519(time.encode() + hook.body, hook.secret),
    }


def _secret(secret: str, options: SignatureOptions) -> None:
    if ed25519_public_key(secret) is None:
        raise BadRequestError("not a public key of Ed25519: 64 hex digits")


PROVIDER = Provider(
    name="discord",
    title="Discord",
    verify=_verify,
    event_type=_type,
    delivery_id=delivery_at("id"),
    sign=signed(_sign),
    # an interaction has an id; an event's body has its time in microseconds
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential="the app's Public Key, from its General Information page",
    check_secret=_secret,
    handshake=_handshake,
    answer=_answer,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("discord.com",),
    notes=Notes(
        setup=(
            "Interactions Endpoint URL, or Webhooks, of the app; its Public Key (64 hex digits) "
            "is the secret"
        ),
        verified_by=(
            "`X-Signature-Ed25519`: Ed25519 of the time in `X-Signature-Timestamp` and the body"
        ),
        type_from=(
            "`event.type`: `APPLICATION_AUTHORIZED`; of interactions `command.NAME`, `component`, "
            "`modal`"
        ),
        delivery_from="`id` of an interaction; an event has none",
        why="an interaction's `id` is signed; an event's body has its time in microseconds",
        retries="webhook events for up to 10 minutes; interactions never",
        source="https://docs.discord.com/developers/events/webhook-events",
        answers=(
            ("PING", "200, `type` 1; of webhook events 204", "Discord tries out the address so"),
            ("webhook events", "204, empty", "any other answer is a failure to Discord"),
            (
                "commands, and forms that they open",
                "200, a message “Received.”",
                "no answer in 3 seconds is a failure to who typed it; only they see it, and the "
                "interaction's `token` changes it",
            ),
            ("buttons and their forms", "200, `type` 6", "nothing is to be seen"),
            (
                "autocomplete",
                "200, no choices",
                "each letter that is typed is one; it becomes no event",
            ),
        ),
    ),
)
