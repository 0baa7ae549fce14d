"""Twilio."""

from collections.abc import Sequence

from hookstream.app.providers.batches import Batch, body_text
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import keys_at, kind_at, type_at
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Answer,
    Delivery,
    Notes,
    Provider,
    any_secret,
    body_type,
    event_name,
    id_at,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.twilio import sign_twilio, verify_twilio
from hookstream.codecs.form import FORM, form_pairs
from hookstream.codecs.json_payload import dump_json

__all__ = ["PROVIDER"]

#: What an event is about, the field that shows it, and the field with its state. The first that
#: fits counts: a recording's callback has a CallStatus, too, and a transcription's a recording.
STATES = (
    ("message", "MessageStatus", "MessageStatus"),
    ("message", "SmsStatus", "SmsStatus"),
    ("transcription", "TranscriptionSid", "TranscriptionStatus"),
    ("recording", "RecordingSid", "RecordingStatus"),
    ("conference", "ConferenceSid", "StatusCallbackEvent"),
    ("room", "RoomSid", "StatusCallbackEvent"),
    ("call", "CallStatus", "CallStatus"),
)

_event_type = type_at("type")
#: TwiML that asks Twilio for nothing.
NO_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_twilio(request, secrets)


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    if request.content_type != FORM:
        return _event_type(request, options)
    fields = request.form()
    for event, shown_by, state in STATES:
        if shown_by in fields:
            return event_name(event, fields.get(state, ""))
    return UNKNOWN


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    if request.content_type != FORM and text_at(payload := request.json(), "specversion"):
        # of Event Streams, whose header is that of all events in the body
        return id_at(payload, "id")
    return short_id(request.header("i-twilio-idempotency-token"))


def _batch(request: WebhookRequest) -> str:
    # Event Streams send lists of CloudEvents
    return "" if request.content_type == FORM else body_text(request)


def _content(request: WebhookRequest) -> bytes:
    """What is signed: a form's fields and the address, whatever order and escapes they come in."""
    if request.content_type != FORM:
        return request.decoded
    # with its port or without it an address verifies
    path = request.url.partition("://")[2].partition("/")[2]
    return dump_json([path, sorted(set(form_pairs(request.decoded)))])


def _answer(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    # a call or a message that comes in wants TwiML and logs error 12300 for anything else
    # (twilio.com/docs/api/errors/12300); this one does nothing, and status callbacks do not look.
    # Event Streams (JSON) take any 2xx
    return Answer(200, NO_TWIML, "text/xml") if request.content_type == FORM else accepted


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
    hosts=("console.twilio.com", "www.twilio.com"),
    verify=_verify,
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(_sign),
    batch=Batch([], kind=kind_at("type"), text=_batch),
    # the token of idempotency is not signed
    dedup_strategy="payload",
    content=_content,
    dedup_window_seconds=24 * HOUR,
    keep_headers=("i-twilio-idempotency-token",),
    credential="the account's primary Auth Token, or the shared key's secret",
    check_secret=any_secret,
    answer=_answer,
    correlation=keys_at(
        "twilio",
        *("CallSid", "MessageSid", "SmsSid", "ConferenceSid"),
        # of Event Streams
        *("data.callSid", "data.messageSid"),
    ),
    notes=Notes(
        setup="nothing: the account's Auth Token signs",
        verified_by=(
            "`X-Twilio-Signature`: base64 HMAC-SHA1 of the URL and the sorted fields; "
            "SHA-256 where `X-Twilio-Webhooks-Signature-Settings` says so"
        ),
        type_from=(
            "`message.`, `recording.`, `transcription.`, `conference.`, `room.` or "
            "`call.` and the status: `message.delivered`, `call.completed`; of Event Streams `type`"
        ),
        delivery_from="`I-Twilio-Idempotency-Token`; of Event Streams `id`",
        why=(
            "the id is not signed; what counts is what is: the fields in any order, and the "
            "address. Where the same fields come twice at one address for two true events (one "
            "key pressed twice in one call) choose `delivery`"
        ),
        answers=(
            (
                "forms",
                "200, `<Response/>` as `text/xml`",
                "a call or message that comes in wants TwiML: anything else is logged as "
                "[error 12300](https://www.twilio.com/docs/api/errors/12300). This TwiML does "
                "nothing: a call ends, a message gets no reply",
            ),
        ),
    ),
)
