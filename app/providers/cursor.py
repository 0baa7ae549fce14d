"""Cursor: webhooks of cloud agents."""

from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import keys_at, no_delivery, signed_by, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret, event_name
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-Webhook-Signature", prefix="sha256=")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    return event_name(text_at(payload, "event"), text_at(payload, "status").lower())


PROVIDER = Provider(
    name="cursor",
    title="Cursor",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(
        SCHEME,
        {"User-Agent": "Cursor-Agent-Webhook/1.0", "X-Webhook-Event": "statusChange"},
        delivery_header="X-Webhook-ID",
    ),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=("x-webhook-id",),
    credential="the webhook.secret given when the agent was launched",
    check_secret=any_secret,
    correlation=keys_at(
        "cursor", "id", "target.prUrl", naming=("target.branchName", "source.ref", "name")
    ),
    hosts=("cursor.com",),
    notes=Notes(
        setup="`webhook: {url, secret}` when an agent is launched by the API",
        verified_by="`X-Webhook-Signature`: `sha256=` and hex HMAC-SHA256 of the body",
        type_from="`event` and `status`: `statusChange.finished`",
        delivery_from="not read: `X-Webhook-ID` is not signed",
        why="the delivery id is not signed; the body has the agent, its status and a time",
        source="https://cursor.com/docs/cloud-agent/api/webhooks",
    ),
)
