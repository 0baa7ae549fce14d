"""Claude: webhooks of Managed Agents and of the Anthropic API's organizations."""

from hookstream.app.providers.parts import keys_at, type_at
from hookstream.app.providers.provider import HOUR, Notes, Provider
from hookstream.app.providers.signatures.options import DEFAULT_TOLERANCE_SECONDS
from hookstream.app.providers.standard_parts import (
    KEPT,
    VERIFIED_BY,
    WHY,
    check_standard_secret,
    standard_delivery,
    standard_sign,
    verify_standard_webhook,
)

__all__ = ["PROVIDER"]

PROVIDER = Provider(
    name="claude",
    title="Claude Managed Agents",
    verify=verify_standard_webhook,
    # the payload's own type is "event" for all
    event_type=type_at("data.type"),
    delivery_id=standard_delivery,
    sign=standard_sign,
    dedup_strategy="delivery",
    dedup_window_seconds=72 * HOUR,
    tolerance_seconds=DEFAULT_TOLERANCE_SECONDS,
    keep_headers=KEPT,
    credential="the endpoint's signing secret, whsec_…, shown once",
    check_secret=check_standard_secret,
    correlation=keys_at(
        "claude", "data.session_thread_id", "data.id", "data.vault_id", "data.enforcement_action_id"
    ),
    options=frozenset({"tolerance_seconds"}),
    notes=Notes(
        setup="Claude Console, Manage, Webhooks; its signing secret, `whsec_…`",
        # some pages tell of X-Webhook-Signature; Anthropic's library reads these three
        verified_by=VERIFIED_BY,
        type_from="`data.type`: `session.status_idled`",
        delivery_from="`webhook-id`",
        why=WHY,
        source="https://platform.claude.com/docs/en/managed-agents/webhooks",
    ),
)
