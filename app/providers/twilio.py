"""Twilio."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Answer,
    Delivery,
    Provider,
    any_secret,
    batch_type,
    body_type,
    event_name,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.twilio import sign_twilio, verify_twilio
from hookstream.codecs.envelope import FORM

__all__ = ["PROVIDER"]

#: What an event is about, the field that shows it, and the field with its state. The first that
#: fits counts: a recording's callback has a CallStatus, too.
STATES = (
    ("message", "MessageStatus", "MessageStatus"),
    ("message", "SmsStatus", "SmsStatus"),
    ("recording", "RecordingSid", "RecordingStatus"),
    ("transcription", "TranscriptionSid", "TranscriptionStatus"),
    ("conference", "ConferenceSid", "StatusCallbackEvent"),
    ("room", "RoomSid", "StatusCallbackEvent"),
    ("call", "CallStatus", "CallStatus"),
)

#: TwiML that asks Twilio for nothing.
NO_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_twilio(request, secrets)


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    if request.content_type != FORM:
        return batch_type(request.json(), "type")
    fields = request.form()
    for event, shown_by, state in STATES:
        if shown_by in fields:
            return event_name(event, fields.get(state, ""))
    return UNKNOWN


def _answer(request: WebhookRequest, accepted: Answer) -> Answer:
    # a call or a message that comes in wants TwiML and logs error 12300 for anything else
    # (twilio.com/docs/api/errors/12300); this one does nothing, and status callbacks do not look.
    # Event Streams (JSON) take any 2xx
    return Answer(200, NO_TWIML, "text/xml") if request.content_type == FORM else accepted


def _correlation(payload: Any) -> Iterator[str]:
    for name in ("CallSid", "MessageSid", "SmsSid", "ConferenceSid"):
        if sid := word_at(payload, name):
            yield f"twilio:{sid}"


def _sign(hook: Delivery) -> dict[str, str]:
    content_type = body_type(hook.body)
    return {
        "Content-Type": content_type,
        "User-Agent": "TwilioProxy/1.1",
        "I-Twilio-Idempotency-Token": hook.delivery_id,
        "X-Twilio-Signature": sign_twilio(hook.url, hook.body, content_type, hook.secret),
    }


PROVIDER = Provider(
    name="twilio",
    title="Twilio",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("i-twilio-idempotency-token")),
    sign=signed(_sign),
    # a caller who presses the same key twice makes two events with one payload
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    keep_headers=("i-twilio-idempotency-token",),
    credential="the account's primary Auth Token, or the shared key's secret",
    check_secret=any_secret,
    answer=_answer,
    correlation=_correlation,
)
