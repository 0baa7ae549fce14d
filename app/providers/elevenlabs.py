"""ElevenLabs: webhooks of a workspace."""

from hookstream.app.providers.parts import (
    answered_200,
    keys_at,
    no_delivery,
    signed_by,
    type_at,
    verified_by,
)
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(
    header="ElevenLabs-Signature",
    signed="{timestamp}.{body}",
    signature_name="v0",
    timestamp_name="t",
)
#: What ElevenLabs' own libraries allow.
TOLERANCE_SECONDS = 30 * 60

PROVIDER = Provider(
    name="elevenlabs",
    title="ElevenLabs",
    verify=verified_by(SCHEME, TOLERANCE_SECONDS),
    event_type=type_at("type"),
    delivery_id=no_delivery,
    sign=signed_by(SCHEME),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    tolerance_seconds=TOLERANCE_SECONDS,
    credential="the webhook's shared secret, shown once",
    check_secret=any_secret,
    answer=answered_200,
    correlation=keys_at(
        "elevenlabs",
        "data.conversation_id",
        "data.voice_id",
        "data.request_id",
        "data.transcription_id",
    ),
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="Developers, Webhooks; HMAC, its shared secret",
        verified_by="`ElevenLabs-Signature`: `t=` and `v0=`, hex HMAC-SHA256 of `t.body`",
        type_from="`type`: `post_call_transcription`",
        delivery_from="none is sent",
        why="no id is sent; the body names the conversation, and when (`event_timestamp`)",
        source="https://elevenlabs.io/docs/overview/administration/webhooks",
        answers=(("all", "200, the same JSON", "its page asks for 200, and counts failures"),),
    ),
)
