"""Messaging: Slack, Twilio, SendGrid."""

# ruff: noqa: S106
# (a secret_format is a sentence for people)

from collections.abc import Sequence
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import ARRAYS, parse_json
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Challenge,
    Delivery,
    Provider,
    any_secret,
    body_type,
    event_name,
    id_at,
    short_id,
    signed,
    text_at,
)
from hookstream.app.providers.signatures import (
    FORM,
    SignatureOptions,
    WebhookRequest,
    ecdsa_public_key,
    sign_ecdsa,
    sign_slack,
    sign_twilio,
    verify_ecdsa,
    verify_slack,
    verify_twilio,
)

__all__ = ["SENDGRID", "SLACK", "TWILIO"]

#: Slack's channel types as they stand in the names of its message events.
SLACK_CHANNELS = {"channel": "channels", "group": "groups"}
MAX_CHALLENGE_CHARS = 1024


def _slack_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_slack(request, secrets, now=now, tolerance_seconds=options.tolerance())


def _slack_payload(request: WebhookRequest) -> Any:
    """Events are JSON; commands are forms; interactions are forms with JSON in one field."""
    if request.content_type != FORM:
        return request.json()
    fields = request.form()
    return parse_json(fields["payload"]) if "payload" in fields else fields


def _slack_type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = _slack_payload(request)
    kind = text_at(payload, "type")
    if kind == "event_callback":
        event = text_at(payload, "event.type")
        channel = text_at(payload, "event.channel_type")
        if event == "message" and channel:
            return event_name(event, SLACK_CHANNELS.get(channel, channel))
        return event_name(event)
    if not kind and (command := text_at(payload, "command")):
        return event_name("command", command.removeprefix("/"))
    return event_name(kind)


def _slack_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = _slack_payload(request)
    return id_at(payload, "event_id") or id_at(payload, "trigger_id")


def _slack_challenge(request: WebhookRequest) -> Challenge | None:
    if request.content_type == FORM:
        return None
    payload = request.json()
    challenge = text_at(payload, "challenge")
    if text_at(payload, "type") != "url_verification" or not challenge:
        return None
    if len(challenge) > MAX_CHALLENGE_CHARS or not (
        challenge.isascii() and challenge.isprintable()
    ):
        raise BadRequestError("the challenge is not a short printable text")
    return Challenge(200, challenge.encode(), "text/plain")


def _slack_sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        "X-Slack-Request-Timestamp": str(int(hook.now)),
        "X-Slack-Signature": sign_slack(hook.body, hook.secret, hook.now),
    }


SLACK = Provider(
    name="slack",
    title="Slack",
    verify=_slack_verify,
    event_type=_slack_type,
    delivery_id=_slack_delivery,
    sign=signed(_slack_sign),
    # with delayed events on, Slack repeats for a day
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    keep_headers=("x-slack-retry-num", "x-slack-retry-reason", "x-slack-request-timestamp"),
    secret_format="the app's Signing Secret, from Basic Information",
    check_secret=any_secret,
    challenge=_slack_challenge,
)

#: What an event is about, the field that shows it, and the field with its state. The first that
#: fits counts: a recording's callback has a CallStatus, too.
TWILIO_STATES = (
    ("message", "MessageStatus", "MessageStatus"),
    ("message", "SmsStatus", "SmsStatus"),
    ("recording", "RecordingSid", "RecordingStatus"),
    ("transcription", "TranscriptionSid", "TranscriptionStatus"),
    ("conference", "ConferenceSid", "StatusCallbackEvent"),
    ("room", "RoomSid", "StatusCallbackEvent"),
    ("call", "CallStatus", "CallStatus"),
)


def _twilio_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_twilio(request, secrets)


def _twilio_type(request: WebhookRequest, options: SignatureOptions) -> str:
    if request.content_type != FORM:
        return _batch_type(request.json(), "type")
    fields = request.form()
    for event, shown_by, state in TWILIO_STATES:
        if shown_by in fields:
            return event_name(event, fields.get(state, ""))
    return UNKNOWN


def _batch_type(payload: Any, path: str) -> str:
    """The type that all events of a list have; ``batch`` where they differ."""
    events = payload if isinstance(payload, ARRAYS) else [payload]
    types = {event_name(text_at(event, path)) for event in events}
    if len(types) == 1:
        return types.pop()
    return "batch" if types else UNKNOWN


def _twilio_sign(hook: Delivery) -> dict[str, str]:
    content_type = body_type(hook.body)
    return {
        "Content-Type": content_type,
        "User-Agent": "TwilioProxy/1.1",
        "I-Twilio-Idempotency-Token": hook.delivery_id,
        "X-Twilio-Signature": sign_twilio(hook.url, hook.body, content_type, hook.secret),
    }


TWILIO = Provider(
    name="twilio",
    title="Twilio",
    verify=_twilio_verify,
    event_type=_twilio_type,
    delivery_id=lambda request, options: short_id(request.header("i-twilio-idempotency-token")),
    sign=signed(_twilio_sign),
    # a caller who presses the same key twice makes two events with one payload
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    keep_headers=("i-twilio-idempotency-token",),
    secret_format="the account's primary Auth Token, or the shared key's secret",
    check_secret=any_secret,
)

#: SendGrid repeats for a day; whether it signs anew each time is not documented, so an hour more.
SENDGRID_TOLERANCE_SECONDS = 25 * HOUR
SENDGRID_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
SENDGRID_TIME_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"


def _sendgrid_verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_ecdsa(
        request,
        secrets,
        SENDGRID_HEADER,
        SENDGRID_TIME_HEADER,
        now=now,
        tolerance_seconds=options.tolerance(SENDGRID_TOLERANCE_SECONDS),
    )


def _sendgrid_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    # a batch has an id for each of its events, and none of its own
    return id_at(payload, "0.sg_event_id") if _is_one(payload) else ""


def _is_one(payload: Any) -> bool:
    return isinstance(payload, ARRAYS) and len(payload) == 1


def _sendgrid_sign(hook: Delivery) -> dict[str, str]:
    time = str(int(hook.now))
    return {
        "Content-Type": JSON,
        "User-Agent": "SendGrid Event API",
        SENDGRID_TIME_HEADER: time,
        SENDGRID_HEADER: sign_ecdsa(time.encode() + hook.body, hook.secret),
    }


def _sendgrid_secret(secret: str) -> None:
    any_secret(secret)
    if ecdsa_public_key(secret) is None:
        raise BadRequestError("not a public key of the curve P-256")


SENDGRID = Provider(
    name="sendgrid",
    title="SendGrid",
    verify=_sendgrid_verify,
    event_type=lambda request, options: _batch_type(request.json(), "event"),
    delivery_id=_sendgrid_delivery,
    sign=signed(_sendgrid_sign),
    # every event in a payload has an id of its own, so equal payloads are one delivery
    dedup_strategy="payload",
    dedup_window_seconds=72 * HOUR,
    secret_format="the Verification Key (a public key, base64 of DER) of Signed Event Webhook",
    check_secret=_sendgrid_secret,
)
