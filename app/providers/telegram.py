"""Telegram bots."""

import re
from collections.abc import Iterator
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import OBJECTS
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.parts import delivery_at, token_in
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Delivery,
    Notes,
    Provider,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "X-Telegram-Bot-Api-Secret-Token"
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    # an update has its number, and one field more, which is named after what it is
    names = payload.keys() if isinstance(payload, OBJECTS) else ()
    return event_name(next((name for name in names if name != "update_id"), UNKNOWN))


def _correlation(payload: Any) -> Iterator[str]:
    for kind, update in payload.items() if isinstance(payload, dict) else ():
        for path in ("chat.id", "message.chat.id"):
            if chat := word_at(update, path):
                yield f"telegram:{chat}"
        if kind.endswith("query") and (user := word_at(update, "from.id")):
            yield f"telegram:{user}"


def _sign(hook: Delivery) -> dict[str, str]:
    return {"Content-Type": JSON, HEADER: hook.secret}


def _secret(secret: str, options: SignatureOptions) -> None:
    if not _SECRET.fullmatch(secret):
        raise BadRequestError("not a secret_token: 1 to 256 letters, digits, _ and -")


PROVIDER = Provider(
    name="telegram",
    title="Telegram",
    verify=token_in(HEADER),
    event_type=_type,
    delivery_id=delivery_at("update_id"),
    sign=signed(_sign),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    credential="the secret_token that setWebhook was called with",
    check_secret=_secret,
    correlation=_correlation,
    hosts=("t.me",),
    notes=Notes(
        setup="`setWebhook` of the Bot API with the tool's URL and a `secret_token`",
        verified_by="`X-Telegram-Bot-Api-Secret-Token` is the secret; the body is not signed",
        type_from="the name of the field beside `update_id`: `message`, `callback_query`",
        delivery_from="`update_id`",
        why="`update_id` is a number of its own for each update of a bot",
        retries="a reasonable number of times, says Telegram; it keeps updates for a day",
        source="https://core.telegram.org/bots/api#setwebhook",
    ),
)
