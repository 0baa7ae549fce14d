"""GitHub."""

from collections.abc import Sequence

from hookstream.app.providers.json_body import parse_json
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Provider,
    any_secret,
    body_type,
    event_name,
    short_id,
    signed,
    text_at,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.envelope import FORM

__all__ = ["PROVIDER"]


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(request, secrets, "X-Hub-Signature-256", prefix="sha256=")


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    # a hook's content type is a setting at GitHub: JSON, or a form with the JSON in one field
    if request.content_type == FORM:
        payload = parse_json(request.form().get("payload", ""))
    else:
        payload = request.json()
    return event_name(request.header("x-github-event"), text_at(payload, "action"))


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "User-Agent": "GitHub-Hookshot/hookstream",
        "X-GitHub-Event": hook.event_type.partition(".")[0] or "pull_request",
        "X-GitHub-Delivery": hook.delivery_id,
        "X-Hub-Signature-256": "sha256=" + sign_hmac(hook.body, hook.secret),
    }


PROVIDER = Provider(
    name="github",
    title="GitHub",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header("x-github-delivery")),
    sign=signed(_sign),
    # X-GitHub-Delivery is not covered by the signature: who has one webhook could send it again
    # and again under new ids
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    keep_headers=(
        "x-github-event",
        "x-github-delivery",
        "x-github-hook-id",
        "x-github-hook-installation-target-type",
        "x-github-hook-installation-target-id",
    ),
    credential="the webhook's Secret, as typed into GitHub's settings",
    check_secret=any_secret,
)
