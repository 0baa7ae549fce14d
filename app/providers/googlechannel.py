"""Google's notification channels: Calendar, Drive, Admin SDK and others.

Such a notification says that something has changed, not what: its body is empty, but for a few.
"""

from collections.abc import Sequence

from hookstream.app.providers.parts import keys_at, token_in
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
    short_id,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

TOKEN = "X-Goog-Channel-Token"  # noqa: S105 the name of a header
STATE = "X-Goog-Resource-State"


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    state = request.header(STATE)
    # https://www.googleapis.com/drive/v3/files/…
    parts = request.header("X-Goog-Resource-URI").split("/")
    api = parts[3] if len(parts) > 3 else "resource"
    return event_name(api, state) if state else UNKNOWN


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    channel, number = request.header("X-Goog-Channel-ID"), request.header("X-Goog-Message-Number")
    return short_id(f"{channel}/{number}") if channel and number else ""


def _handshake(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions
) -> Answer | None:
    return Answer(200, b"", "text/plain") if request.header(STATE) == "sync" else None


def _sign(hook: Delivery) -> dict[str, str]:
    api, _, state = hook.event_type.rpartition(".")
    return {
        "Content-Type": body_type(hook.body),
        TOKEN: hook.secret,
        STATE: state or "exists",
        "X-Goog-Channel-ID": "hookstream",
        "X-Goog-Message-Number": hook.delivery_id,
        "X-Goog-Resource-ID": "hookstream",
        "X-Goog-Resource-URI": f"https://www.googleapis.com/{api or 'calendar'}/v3/",
    }


PROVIDER = Provider(
    name="googlechannel",
    title="Google notification channels",
    verify=token_in(TOKEN),
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(_sign),
    # an empty body is no identity
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        *("x-goog-channel-id", "x-goog-message-number", "x-goog-resource-id"),
        *("x-goog-resource-uri", "x-goog-resource-state", "x-goog-changed"),
        "x-goog-channel-expiration",
    ),
    credential="the channel's token, as given to watch",
    check_secret=any_secret,
    handshake=_handshake,
    correlation=keys_at("googlechannel", "id"),
    notes=Notes(
        setup='`watch` with `{"type": "web_hook", "address": URL, "token": SECRET}`',
        verified_by="`X-Goog-Channel-Token` is the secret; nothing is signed",
        type_from=(
            "the API of `X-Goog-Resource-URI` and `X-Goog-Resource-State`: `calendar.exists`, "
            "`drive.update`"
        ),
        delivery_from="`X-Goog-Channel-ID` and `X-Goog-Message-Number`",
        why="the body is empty; numbers rise in a channel and are none's twice",
        retries="after 500, 502, 503 and 504, ever more seldom",
        source="https://developers.google.com/workspace/calendar/api/guides/push",
        answers=(("`sync`", "200", "a channel begins; it becomes no event"),),
    ),
)
