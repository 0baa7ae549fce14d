"""Clerk."""

from dataclasses import replace

from hookstream.app.providers.parts import keys_at, type_at
from hookstream.app.providers.provider import Notes
from hookstream.app.providers.standard import PROVIDER as STANDARD

__all__ = ["PROVIDER"]


PROVIDER = replace(
    STANDARD,
    name="clerk",
    title="Clerk",
    event_type=type_at("type"),
    credential="the endpoint's Signing Secret (whsec_…)",
    options=frozenset({"tolerance_seconds"}),
    correlation=keys_at(
        "clerk",
        "data.id",
        "data.user_id",
        "data.public_user_data.user_id",
        "data.organization.id",
        "data.organization_id",
    ),
    notes=Notes(
        setup="the endpoint's Signing Secret, `whsec_…`",
        verified_by="as `standard`, in `svix-` headers",
        type_from="`type`: `user.created`",
        delivery_from="`svix-id`",
        why="the id is signed, and the same in every retry",
        retries="each later than the last, as Svix does",
        source="https://clerk.com/docs/webhooks/sync-data",
    ),
)
