"""WhatsApp Business Platform (Meta's Cloud API)."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.first_contact import hub_challenge
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import answered_200, signed_by, verified_by
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Notes,
    Provider,
    any_secret,
    event_name,
    id_at,
)
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.json_items import Shape, grouped, value_of

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Hub-Signature-256", prefix="sha256=")
#: Where the contacts of messages and calls are.
CONTACTS: Shape = {"entry": [{"changes": [{"value": {"contacts": []}}]}]}


def _list(data: Any, path: str) -> Any:
    found = value_at(data, path)
    return found if isinstance(found, ARRAYS) else ()


def _changes(payload: Any) -> Iterator[Any]:
    for entry in _list(payload, "entry"):
        yield from _list(entry, "changes")


def _named(payload: Any) -> Iterator[tuple[str, Any]]:
    """The type of each event of a body, and what has its id."""
    for change in _changes(payload):
        field = text_at(change, "field")
        messages = _list(change, "value.messages")
        statuses = _list(change, "value.statuses")
        calls = _list(change, "value.calls")
        for message in messages:
            yield event_name("message", text_at(message, "type")), message
        for status in statuses:
            yield event_name("status", text_at(status, "status")), status
        for call in calls:
            yield event_name("call", text_at(call, "event")), call
        if field and not any(map(len, (messages, statuses, calls))):
            yield event_name(field, text_at(change, "value.event")), None


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return next((name for name, _ in _named(request.json())), UNKNOWN)


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return next((id_at(event, "id") for _, event in _named(request.json())), "")


def _with_its_contact(text: str) -> str:
    """The body of one message with the contact it is from; a body may name those of several."""
    if text.count('"wa_id"') < 2:
        return text
    value = value_at(value_of(text), "entry.0.changes.0.value")
    event = value_at(value, "messages.0") or value_at(value, "calls.0")
    sender = {word_at(event, "from"), word_at(event, "from_user_id")} - {""}
    contacts = value_at(value, "contacts")
    found = (
        place
        for place, contact in enumerate(contacts if isinstance(contacts, list) else ())
        if sender & {word_at(contact, "wa_id"), word_at(contact, "user_id")}
    )
    groups = grouped(text, CONTACTS, len(text)) or []
    if (place := next(found, -1)) < 0 or not groups:
        return text
    return next(islice(groups[0].texts(text), place, None), text)


def _kind(item: Any) -> str:
    return event_name(text_at(item, "type") or text_at(item, "status") or text_at(item, "event"))


def _correlation(payload: Any) -> Iterator[str]:
    for change in _changes(payload):
        for message in _list(change, "value.messages"):
            if found := word_at(message, "from") or word_at(message, "from_user_id"):
                yield f"whatsapp:{found}"
        for status in _list(change, "value.statuses"):
            if found := word_at(status, "recipient_id"):
                yield f"whatsapp:{found}"
            if found := word_at(status, "id"):
                yield f"whatsapp:{found}"
        for call in _list(change, "value.calls"):
            ours = text_at(call, "direction") == "BUSINESS_INITIATED"
            if found := word_at(call, "to" if ours else "from"):
                yield f"whatsapp:{found}"
        if found := word_at(change, "value.message_template_id"):
            yield f"whatsapp:template/{found}"
    if found := word_at(payload, "entry.0.id"):
        yield f"whatsapp:account/{found}"


PROVIDER = Provider(
    name="whatsapp",
    title="WhatsApp",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=_delivery,
    sign=signed_by(SCHEME, {"User-Agent": "facebookexternalua"}),
    batch=Batch(
        {"entry": [{"changes": [{"value": {"messages": [], "statuses": [], "calls": []}}]}]},
        kind=_kind,
        alone=_with_its_contact,
    ),
    # a message and what becomes of it have one id: the type, which is part of what is compared,
    # tells them apart
    dedup_strategy="delivery",
    dedup_window_seconds=8 * 24 * HOUR,
    credential="the app's App Secret; the Verify Token, made up by you, is one more secret",
    check_secret=any_secret,
    challenge=hub_challenge,
    answer=answered_200,
    correlation=_correlation,
    notes=Notes(
        setup=(
            "WhatsApp, Configuration of the app: Callback URL and Verify Token; the tool has two "
            "secrets, the App Secret and a long random Verify Token"
        ),
        verified_by="`X-Hub-Signature-256`: `sha256=` and hex HMAC-SHA256 of the body",
        type_from=(
            "`message.text`, `message.image`, `status.delivered`, `call.connect`; of other fields "
            "the field and its event: `message_template_status_update.APPROVED`"
        ),
        delivery_from="`id` of the message or status",
        why="a message's `id` is its own; its statuses have the same, and another type",
        retries="for up to 7 days",
        source=(
            "https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/"
            "overview"
        ),
        answers=(
            (
                "GET with `hub.challenge`",
                "200, the challenge",
                "Meta tries out the address so; `hub.verify_token` has to be one of the secrets",
            ),
            (
                "all",
                "200, the same JSON",
                "any status but 200 is a failure to Meta, and sent again",
            ),
        ),
    ),
)
