"""Resend."""

from dataclasses import replace

from hookstream.app.providers.parts import keys_at, type_at
from hookstream.app.providers.provider import Notes
from hookstream.app.providers.standard import PROVIDER as STANDARD

__all__ = ["PROVIDER"]


PROVIDER = replace(
    STANDARD,
    name="resend",
    title="Resend",
    event_type=type_at("type"),
    credential="the webhook's Signing Secret (whsec_…)",
    options=frozenset({"tolerance_seconds"}),
    correlation=keys_at("resend", "data.email_id", "data.id", "data.broadcast_id"),
    hosts=("resend.com",),
    notes=Notes(
        setup="the webhook's Signing Secret, `whsec_…`",
        verified_by="as `standard`, in `svix-` headers",
        type_from="`type`: `email.bounced`",
        delivery_from="`svix-id`",
        why="the id is signed, and the same in every retry",
        retries="after 5 seconds, 5 and 30 minutes, 2, 5, 10 and 10 hours",
        source="https://resend.com/docs/dashboard/webhooks/verify-webhooks-requests",
    ),
)
