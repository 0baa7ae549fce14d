"""Meta: Facebook pages, Messenger, Instagram and other objects of the Graph API."""

from collections.abc import Iterator
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

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Hub-Signature-256", prefix="sha256=")
#: What a conversation's event carries, and the field that it is subscribed to by.
MESSAGING = {
    "message": "messages",
    "postback": "messaging_postbacks",
    "reaction": "message_reactions",
    "read": "message_reads",
    "delivery": "message_deliveries",
    "referral": "messaging_referrals",
    "optin": "messaging_optins",
    "message_edit": "message_edits",
}


def _items(payload: Any, name: str) -> Iterator[Any]:
    """What all entries have under a name: ``changes`` or ``messaging``."""
    entries = value_at(payload, "entry")
    for entry in entries if isinstance(entries, ARRAYS) else ():
        items = value_at(entry, name)
        yield from items if isinstance(items, ARRAYS) else ()


def _field(item: Any) -> str:
    """The field that an event of a conversation is subscribed to by."""
    if value_at(item, "message.is_echo") is True:
        return "message_echoes"
    found = (field for name, field in MESSAGING.items() if value_at(item, name) is not None)
    return next(found, "messaging")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    kind, entry = text_at(payload, "object"), value_at(payload, "entry.0")
    if change := value_at(entry, "changes.0"):
        field = text_at(change, "field")
    elif item := value_at(entry, "messaging.0"):
        field = _field(item)
    else:
        # a page may be subscribed without values; who hands a conversation over listens on
        field = text_at(entry, "changed_fields.0")
        field = field or ("standby" if value_at(entry, "standby.0") else "")
    return event_name(kind, field) if kind and field else UNKNOWN


def _kind(item: Any) -> str:
    return event_name(text_at(item, "field") or _field(item))


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    item = value_at(request.json(), "entry.0.messaging.0")
    # what takes a message back, or reacts to it, has the same id
    return "" if value_at(item, "message.is_deleted") is True else id_at(item, "message.mid")


def _correlation(payload: Any) -> Iterator[str]:
    kind = text_at(payload, "object")
    for change in _items(payload, "changes"):
        for path in ("value.post_id", "value.media.id", "value.leadgen_id", "value.media_id"):
            if found := word_at(change, path):
                yield f"meta:{found}"
    for item in _items(payload, "messaging"):
        # a conversation is named by who is not the page
        who = "recipient.id" if value_at(item, "message.is_echo") is True else "sender.id"
        if found := word_at(item, who):
            yield f"meta:{kind}/{found}"
    if found := word_at(payload, "entry.0.id"):
        yield f"meta:{kind}/{found}"


PROVIDER = Provider(
    name="meta",
    title="Meta (Facebook, Instagram)",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=_delivery,
    sign=signed_by(SCHEME, {"User-Agent": "facebookexternalua"}),
    batch=Batch({"entry": [{"changes": [], "messaging": [], "standby": []}]}, kind=_kind),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    credential="the app's App Secret; the Verify Token, made up by you, is one more secret",
    check_secret=any_secret,
    challenge=hub_challenge,
    answer=answered_200,
    correlation=_correlation,
    hosts=("www.facebook.com", "www.instagram.com"),
    notes=Notes(
        setup=(
            "Webhooks of the app: Callback URL and Verify Token; the tool has two secrets, the "
            "App Secret and a long random Verify Token"
        ),
        verified_by="`X-Hub-Signature-256`: `sha256=` and hex HMAC-SHA256 of the body",
        type_from="`object` and the field: `page.feed`, `instagram.comments`, `page.messages`",
        delivery_from="`message.mid` of a message",
        why="all else has its time in its entry, so equal ones are one event",
        retries="at once and a few times more, ever less often, for 36 hours",
        source="https://developers.facebook.com/docs/graph-api/webhooks/getting-started",
        answers=(
            (
                "GET with `hub.challenge`",
                "200, the challenge",
                "Meta tries out the address so; `hub.verify_token` has to be one of the secrets",
            ),
            ("all", "200, the same JSON", "Meta asks for 200"),
        ),
    ),
)
