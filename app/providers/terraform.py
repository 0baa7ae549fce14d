"""HCP Terraform (Terraform Cloud) and Terraform Enterprise: generic notifications."""

from typing import Any

from hookstream.app.providers.batches import Batch
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.parts import keys_at, no_delivery, ping_at, signed_by, verified_by
from hookstream.app.providers.provider import HOUR, Notes, Provider, any_secret, event_name
from hookstream.app.providers.signatures.hmac_scheme import HmacScheme
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

SCHEME = HmacScheme(header="X-TFE-Notification-Signature", algorithm="sha512")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    # version 1 is of runs, 2 of workspaces: "run:completed", "assessment:drifted"
    trigger = text_at(payload, "notifications.0.trigger") or text_at(payload, "trigger")
    if not trigger and text_at(payload, "change_request_url"):
        trigger = "team:change_request"
    return event_name(trigger.replace(":", "."))


def _kind(item: Any) -> str:
    return event_name(text_at(item, "trigger").replace(":", "."))


PROVIDER = Provider(
    name="terraform",
    title="HCP Terraform",
    verify=verified_by(SCHEME),
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed_by(SCHEME),
    batch=Batch({"notifications": []}, kind=_kind),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the notification configuration's Token",
    check_secret=any_secret,
    handshake=ping_at("notifications.0.trigger", "verification"),
    correlation=keys_at(
        "terraform",
        "run_id",
        "details.run_external_id",
        "change_request_url",
        "details.workspace_id",
        "workspace_id",
        naming=("run_message", "change_request_subject"),
    ),
    hosts=("app.terraform.io",),
    notes=Notes(
        setup="Settings, Notifications, Webhook; a Token",
        verified_by="`X-TFE-Notification-Signature`: hex HMAC-SHA512 of the body",
        type_from="the trigger, with dots: `run.completed`, `assessment.drifted`",
        delivery_from="none is sent",
        why="no id is sent; the body has the run, its status and when it changed",
        source=(
            "https://developer.hashicorp.com/terraform/cloud-docs/api-docs/"
            "notification-configurations"
        ),
        answers=(
            ("`verification`", "200", "sent when the notification is saved; it becomes no event"),
        ),
    ),
)
