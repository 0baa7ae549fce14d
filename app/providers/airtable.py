"""Airtable: a webhook says that a base has changed, and not what."""

from collections.abc import Iterator
from typing import Any

from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import (
    answered_empty,
    hmac_secret,
    no_delivery,
    signed_by,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, UNKNOWN, Notes, Provider
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Airtable-Content-MAC", prefix="hmac-sha256=", key_encoding="base64")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # there is one kind, and no field that names it
    return "base.changed" if text_at(request.json(), "base.id") else UNKNOWN


def _correlation(payload: Any) -> Iterator[str]:
    for path in ("base.id", "webhook.id"):
        if found := text_at(payload, path):
            yield f"airtable:{found}"


PROVIDER = Provider(
    name="airtable",
    title="Airtable",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(SCHEME, {"User-Agent": "Airtable Webhooks"}),
    # the body has the notification's time in milliseconds
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the webhook's macSecretBase64, shown once when it is made",
    check_secret=hmac_secret(SCHEME),
    answer=answered_empty,
    correlation=_correlation,
    hosts=("airtable.com",),
    notes=Notes(
        setup="`macSecretBase64`, which Airtable shows once when the webhook is made; a webhook "
        "expires in seven days unless it is refreshed",
        verified_by="`X-Airtable-Content-MAC`: `hmac-sha256=` and hex HMAC-SHA256, by the key "
        "decoded from base64",
        type_from="`base.changed`; what changed is in the webhook's list of payloads",
        delivery_from="none is sent",
        why="`timestamp` in the body is to the millisecond",
        source="https://airtable.com/developers/web/api/webhooks-overview",
        answers=(
            (
                "all",
                "200, empty",
                "[Airtable wants a 200 or 204 and an empty body](https://airtable.com/developers/"
                "web/api/webhooks-overview)",
            ),
        ),
    ),
)
