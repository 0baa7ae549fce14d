"""Netlify: deploy and form notifications."""

from collections.abc import Sequence

from hookstream.app.providers.lookup import text_at, value_at
from hookstream.app.providers.parts import keys_at, no_delivery
from hookstream.app.providers.provider import (
    HOUR,
    JSON,
    UNKNOWN,
    Delivery,
    Notes,
    Provider,
    any_secret,
    event_name,
    signed,
)
from hookstream.app.providers.signatures.jws_body import sign_jws_body, verify_jws_body
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "X-Webhook-Signature"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_jws_body(request, secrets, HEADER, issuer="netlify")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    payload = request.json()
    if text_at(payload, "form_name"):
        return "submission.created"
    locked = value_at(payload, "locked")
    if isinstance(locked, bool):
        return "deploy.locked" if locked else "deploy.unlocked"
    state = text_at(payload, "state")
    return event_name("deploy", state) if state else UNKNOWN


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": JSON,
        HEADER: sign_jws_body(hook.body, hook.secret, issuer="netlify"),
    }


PROVIDER = Provider(
    name="netlify",
    title="Netlify",
    verify=_verify,
    event_type=_type,
    delivery_id=no_delivery,
    sign=signed(_sign),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the notification's JWS secret token",
    check_secret=any_secret,
    correlation=keys_at("netlify", "id", "review_url", naming=("branch", "title")),
    hosts=("app.netlify.com",),
    notes=Notes(
        setup="Project configuration, Notifications, HTTP POST request; a JWS secret token",
        verified_by="`X-Webhook-Signature`: a JWS by HS256 with the body's SHA-256",
        type_from=(
            "`state`, and whether it is `locked`: `deploy.building`, `deploy.ready`, "
            "`deploy.error`, `deploy.locked`; `submission.created` for forms"
        ),
        delivery_from="none is sent",
        why="no id is sent; the body has the deploy, its state and when it changed",
        source="https://docs.netlify.com/deploy/deploy-notifications/",
    ),
)
