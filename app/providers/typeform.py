"""Typeform."""

from hookstream.app.providers.parts import delivery_at, keys_at, signed_by, type_at, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="Typeform-Signature", prefix="sha256=", encoding="base64")


PROVIDER = Provider(
    name="typeform",
    title="Typeform",
    verify=verified_by(SCHEME),
    event_type=type_at("event_type"),
    delivery_id=delivery_at("event_id"),
    sign=signed_by(SCHEME, {"User-Agent": "Typeform Webhooks"}),
    dedup_strategy="delivery",
    dedup_window_seconds=48 * HOUR,
    credential="the webhook's Secret, as it was typed in at Typeform",
    check_secret=any_secret,
    correlation=keys_at("typeform", "form_response.token", "form_response.form_id"),
    hosts=("admin.typeform.com",),
    notes=Notes(
        setup="the webhook's Secret (Connect, Webhooks, Edit)",
        verified_by="`Typeform-Signature`: `sha256=` and base64 HMAC-SHA256",
        type_from="`event_type`: `form_response`",
        delivery_from="`event_id`",
        why="the id is signed with the body",
        source="https://www.typeform.com/developers/webhooks/secure-your-webhooks/",
    ),
)
