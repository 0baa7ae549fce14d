"""New Relic: workflows' webhook destinations, with the default template."""

from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import keys_at, no_delivery
from hookstream.app.providers.provider import (
    HOUR,
    UNKNOWN,
    Notes,
    Provider,
    any_secret,
    event_name,
    signed,
)
from hookstream.app.providers.shared_secret import (
    VERIFIED_BY,
    password_of,
    shared_secret_headers,
    verify_shared_secret,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    state = text_at(request.json(), "state")
    return event_name("issue", state.lower()) if state else UNKNOWN


PROVIDER = Provider(
    name="newrelic",
    title="New Relic",
    verify=verify_shared_secret,
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed(shared_secret_headers),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    browsers_can_send=True,
    credential="the destination's user:password or bearer token, or a custom header's value",
    check_secret=any_secret,
    guessed_part=password_of,
    correlation=keys_at("newrelic", "id"),
    options=frozenset({"header"}),
    hosts=("one.newrelic.com", "radar-api.service.newrelic.com"),
    notes=Notes(
        setup="Alerts, Destinations, Webhook: Basic authentication, Bearer token or a header",
        verified_by=VERIFIED_BY,
        type_from="`state`: `issue.activated`, `issue.acknowledged`, `issue.closed`",
        delivery_from="none is sent",
        why="no id of the notification is sent; the body has the issue and when it changed",
        source="https://docs.newrelic.com/docs/alerts/get-notified/notification-integrations/",
    ),
)
