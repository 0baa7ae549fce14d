"""Google Chat: what people say to an app, and where it is added."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.correlation import tickets
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.parts import no_delivery, type_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    Answer,
    Delivery,
    Notes,
    Provider,
    nothing_guessed,
    signed,
)
from hookstream.app.providers.signatures.google_chat import (
    chat_keys,
    check_chat_secret,
    sign_chat,
    verify_chat,
)
from hookstream.app.providers.signatures.google_oidc import HEADER, TOLERANCE_SECONDS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

#: A message of nothing: nothing is said.
SILENT = Answer(200, b"{}", JSON)


def _answer(request: WebhookRequest, options: SignatureOptions, accepted: Answer) -> Answer:
    return SILENT


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("message.thread.name", "space.name"):
        if found := word_at(payload, path):
            yield f"googlechat:{found}"
    yield from tickets(text_at(payload, "message.text"))


def _sign(hook: Delivery) -> dict[str, str]:
    token = sign_chat(hook.secret, hook.now)
    return {"Content-Type": JSON, "User-Agent": "Google-Dynamite", HEADER: f"Bearer {token}"}


def _secret(secret: str, options: SignatureOptions) -> None:
    check_chat_secret(secret)


PROVIDER = Provider(
    name="googlechat",
    title="Google Chat",
    keys=chat_keys,
    verify=verify_chat,
    event_type=type_at("type"),
    delivery_id=no_delivery,
    sign=signed(_sign),
    # the body has the event's time (eventTime), so equal bodies are one event
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential="the project number of the Chat app, or its HTTP endpoint URL",
    check_secret=_secret,
    guessed_part=nothing_guessed,
    answer=_answer,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("chat.google.com", "mail.google.com"),
    notes=Notes(
        setup=(
            "Google Chat API, Configuration: HTTP endpoint URL, the tool's; Authentication "
            "Audience, Project Number: that number is the secret (or HTTP endpoint URL, and that "
            "is the secret: whoever makes an app with your URL can then have Chat send to it)"
        ),
        verified_by=(
            "`Authorization`: a token (RS256) for this audience, by Google Chat's keys or, for a "
            "URL, by Google's, which are fetched from `www.googleapis.com`; the body is not signed"
        ),
        type_from="`type`: `MESSAGE`, `ADDED_TO_SPACE`, `CARD_CLICKED`",
        delivery_from="none is sent",
        why="`eventTime` in the body is the event's time in microseconds",
        source="https://developers.google.com/workspace/chat/verify-requests-from-chat",
        answers=(("all", "200, `{}`", "Chat shows an answer as the app's message"),),
    ),
)
