"""Twitch EventSub."""

from collections.abc import Iterator, Sequence
from typing import Any

from hookstream.app.providers.first_contact import echoed
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.app.providers.parts import delivery_header, signed_by, verified_by
from hookstream.app.providers.provider import HOUR, Answer, Notes, Provider, any_secret, event_name
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

ID_HEADER = "Twitch-Eventsub-Message-Id"
TIME_HEADER = "Twitch-Eventsub-Message-Timestamp"
SCHEME = HmacScheme(
    header="Twitch-Eventsub-Message-Signature",
    signed="{id}{timestamp}{body}",
    prefix="sha256=",
    timestamp_header=TIME_HEADER,
    timestamp_unit="iso",
    id_header=ID_HEADER,
)
#: Where the ids of the channel, and of who else has one in it, stand.
CHANNELS = (
    "event.broadcaster_user_id",
    "event.broadcaster_id",
    "event.to_broadcaster_user_id",
    "event.from_broadcaster_user_id",
    "event.to_user_id",
    "event.user_id",
)
#: What Twitch's own page advises.
TOLERANCE_SECONDS = 600


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    # the header that says so is not signed, the body is
    payload = request.json()
    if text_at(payload, "subscription.status") != "webhook_callback_verification_pending":
        return None
    return echoed(text_at(payload, "challenge"))


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    kind = event_name(text_at(payload, "subscription.type"))
    revoked = value_at(payload, "event") is None and value_at(payload, "events") is None
    status = text_at(payload, "subscription.status")
    return "revocation" if revoked and status not in ("", "enabled") else kind


def _correlation(payload: Any) -> Iterator[str]:
    for path in CHANNELS:
        if found := word_at(payload, path):
            yield f"twitch:{found}"
    if found := word_at(payload, "subscription.id"):
        yield f"twitch:subscription/{found}"


PROVIDER = Provider(
    name="twitch",
    title="Twitch EventSub",
    verify=verified_by(SCHEME, TOLERANCE_SECONDS),
    event_type=_type,
    delivery_id=delivery_header(ID_HEADER),
    sign=signed_by(SCHEME, {"Twitch-Eventsub-Message-Type": "notification"}),
    # the id in the header is signed, too
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    keep_headers=(
        "twitch-eventsub-message-id",
        "twitch-eventsub-message-retry",
        "twitch-eventsub-message-type",
        "twitch-eventsub-message-timestamp",
    ),
    credential="the secret of the subscription's transport, 10 to 100 characters",
    check_secret=any_secret,
    handshake=_handshake,
    correlation=_correlation,
    options=frozenset({"tolerance_seconds"}),
    hosts=("www.twitch.tv",),
    notes=Notes(
        setup="Create EventSub Subscription with the tool's URL as `callback` and a `secret`",
        verified_by=(
            "`Twitch-Eventsub-Message-Signature`: `sha256=` and hex HMAC-SHA256 of the headers "
            "`…-Message-Id` and `…-Message-Timestamp` and the body"
        ),
        type_from=(
            "`subscription.type`: `stream.online`; `revocation` where the subscription has ended"
        ),
        delivery_from="`Twitch-Eventsub-Message-Id`",
        why="the id stays the same in retries, and is signed; Twitch advises ten minutes",
        retries="a few times",
        source="https://dev.twitch.tv/docs/eventsub/handling-webhook-events/",
        answers=(
            (
                "`webhook_callback_verification`",
                "200, its `challenge` as text",
                "Twitch tries out the address so; it becomes no event",
            ),
        ),
    ),
)
