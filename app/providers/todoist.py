"""Todoist: webhooks of an app."""

from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import (
    answered_200,
    keys_at,
    no_delivery,
    signed_by,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret, event_name
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Todoist-Hmac-SHA256", encoding="base64")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(text_at(request.json(), "event_name").replace(":", "."))


PROVIDER = Provider(
    name="todoist",
    title="Todoist",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(
        SCHEME, {"User-Agent": "Todoist-Webhooks"}, delivery_header="X-Todoist-Delivery-ID"
    ),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=("x-todoist-delivery-id",),
    credential="the app's client secret",
    check_secret=any_secret,
    answer=answered_200,
    correlation=keys_at(
        "todoist", "event_data.item_id", "event_data.id", naming=("event_data.content",)
    ),
    hosts=("app.todoist.com",),
    notes=Notes(
        setup="App management, Webhooks; the app's client secret",
        verified_by="`X-Todoist-Hmac-SHA256`: base64 HMAC-SHA256 of the body",
        type_from="`event_name`, with dots: `item.completed`",
        delivery_from="not read: `X-Todoist-Delivery-ID` is not signed",
        why="the delivery id is not signed; the body has the thing and when it changed",
        retries="three times, after 15 minutes each",
        source="https://developer.todoist.com/api/v1/#tag/Webhooks",
        answers=(("all", "200, the same JSON", "any other status is a failure to Todoist"),),
    ),
)
