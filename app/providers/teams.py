"""Microsoft Teams: outgoing webhooks of a team."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import (
    delivery_at,
    hmac_secret,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, JSON, Answer, Notes, Provider
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="Authorization", prefix="HMAC ", encoding="base64", key_encoding="base64"
)
#: Shown as a reply to who has mentioned the webhook.
RECEIVED = Answer(200, b'{"type":"message","text":"Received."}', JSON)


def _answer(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    return RECEIVED


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("conversation.id", "channelData.teamsChannelId"):
        if found := word_at(payload, path):
            yield f"teams:{found}"
    yield from tickets(text_at(payload, "text"))


PROVIDER = Provider(
    name="teams",
    title="Microsoft Teams (outgoing webhook)",
    verify=verified_by(SCHEME),
    event_type=type_at("type"),
    delivery_id=delivery_at("id"),
    sign=signed_by(SCHEME),
    # a message's id is the time of it in milliseconds: its body tells it from another channel's
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the security token that Teams shows once when the outgoing webhook is made",
    check_secret=hmac_secret(SCHEME),
    answer=_answer,
    correlation=_correlation,
    hosts=("teams.microsoft.com",),
    notes=Notes(
        setup="Manage team, Apps, Create an outgoing webhook; its security token is the secret",
        verified_by=(
            "`Authorization`: `HMAC ` and base64 HMAC-SHA256 of the body; the key is the security "
            "token, decoded from base64"
        ),
        type_from="`type`: `message`",
        delivery_from="`id`",
        why="a message's `id` is a time, which another channel's message may have, too",
        source=(
            "https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/"
            "add-outgoing-webhook"
        ),
        answers=(
            (
                "all",
                "200, a message “Received.”",
                "Teams shows the answer as a reply, and a failure where none comes in 5 seconds",
            ),
        ),
    ),
)
