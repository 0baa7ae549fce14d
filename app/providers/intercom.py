"""Intercom."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import (
    answered_200,
    delivery_at,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Answer, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Hub-Signature", prefix="sha1=", algorithm="sha1")


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    payload = request.json()
    return Answer(200, b"", "text/plain") if text_at(payload, "topic") == "ping" else None


def _correlation(payload: Any) -> Iterator[str]:
    kind = text_at(payload, "data.item.type")
    if kind and (found := word_at(payload, "data.item.id")):
        yield f"intercom:{kind}/{found}"
    for path in ("data.item.conversation.id", "data.item.conversation_id"):
        if found := word_at(payload, path):
            yield f"intercom:conversation/{found}"
    if found := word_at(payload, "data.item.contacts.contacts.0.id"):
        yield f"intercom:contact/{found}"
    yield from tickets(text_at(payload, "data.item.title"))


PROVIDER = Provider(
    name="intercom",
    title="Intercom",
    verify=verified_by(SCHEME),
    event_type=type_at("topic"),
    delivery_id=delivery_at("id"),
    sign=signed_by(SCHEME, {"User-Agent": "intercom-webhooks"}),
    # the body has the number of the attempt, so a repetition's differs
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    credential="the app's client secret, from Basic Information in the Developer Hub",
    check_secret=any_secret,
    handshake=_handshake,
    answer=answered_200,
    correlation=_correlation,
    hosts=("app.intercom.com",),
    notes=Notes(
        setup="Webhooks of the app in the Developer Hub; its client secret is the secret",
        verified_by="`X-Hub-Signature`: `sha1=` and hex HMAC-SHA1 of the body",
        type_from="`topic`: `conversation.user.replied`",
        delivery_from="`id`",
        why="`delivery_attempts` in the body counts the attempts, so a retry's body differs",
        source="https://developers.intercom.com/docs/webhooks/webhook-notifications",
        answers=(
            ("`ping`", "200, empty", "Intercom tries out the address so; it becomes no event"),
            ("all", "200, the same JSON", "nothing else is known to count as received"),
        ),
    ),
)
