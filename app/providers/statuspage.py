"""Atlassian Statuspage: webhook subscriptions of a page."""

from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import keys_at
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Notes,
    Provider,
    any_secret,
    event_name,
    id_at,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    if status := text_at(payload, "component_update.new_status"):
        return event_name("component", status)
    status = text_at(payload, "incident.status")
    return event_name("incident", status) if status else UNKNOWN


def _delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    paths = ("component_update.id", "incident.incident_updates.0.id")
    return next((found for path in paths if (found := id_at(payload, path))), "")


PROVIDER = Provider(
    name="statuspage",
    title="Statuspage",
    # it signs nothing, and takes nothing but an address
    verify=lambda request, secrets, options, now: None,
    event_type=_type,
    delivery_id=_delivery,
    sign=signed(lambda hook: {"Content-Type": JSON}),
    # the body has when it was made, and each subscriber's own way out
    dedup_strategy="delivery",
    dedup_window_seconds=24 * HOUR,
    needs_secret=False,
    browsers_can_send=True,
    credential="none: whoever knows the URL can send, so name the tool as nobody guesses",
    check_secret=any_secret,
    correlation=keys_at(
        "statuspage", "incident.id", "component_update.component_id", naming=("incident.name",)
    ),
    hosts=("stspg.io", "*.statuspage.io"),
    notes=Notes(
        setup="Subscribe to updates, Webhook: the tool's URL",
        verified_by="nothing: Statuspage signs nothing and sends no header that could be set",
        type_from=(
            "what it is of, and its status: `incident.investigating`, `incident.resolved`, "
            "`component.major_outage`"
        ),
        delivery_from="`component_update.id`, else the newest of `incident.incident_updates`",
        why="the update's id stays; the body differs by when it was made",
        source="https://support.atlassian.com/statuspage/docs/enable-webhook-notifications/",
    ),
)
