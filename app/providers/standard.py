"""Standard Webhooks."""

from collections.abc import Sequence

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.lookup import text_at
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Provider,
    any_secret,
    body_type,
    event_name,
    short_id,
    signed,
)
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.standard import (
    sign_standard,
    standard_key,
    verify_standard,
)

__all__ = ["PROVIDER"]


def _family(request: WebhookRequest) -> str:
    return "svix" if "svix-signature" in request.headers else "webhook"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_standard(
        request,
        secrets,
        now=now,
        tolerance_seconds=options.tolerance(),
        family=_family(request),
    )


def _type(request: WebhookRequest, options: SignatureOptions) -> str:
    return event_name(text_at(request.json(), options.type_field or "type"))


def _sign(hook: Delivery) -> dict[str, str]:
    return {
        "Content-Type": body_type(hook.body),
        "webhook-id": hook.delivery_id,
        "webhook-timestamp": str(int(hook.now)),
        "webhook-signature": sign_standard(hook.body, hook.secret, hook.delivery_id, hook.now),
    }


def _secret(secret: str) -> None:
    any_secret(secret)
    if standard_key(secret) is None:
        raise BadRequestError("what follows whsec_ is not base64")


PROVIDER = Provider(
    name="standard",
    title="Standard Webhooks",
    verify=_verify,
    event_type=_type,
    delivery_id=lambda request, options: short_id(request.header(f"{_family(request)}-id")),
    sign=signed(_sign),
    # the id is signed, and the same when a webhook is sent again
    dedup_strategy="delivery",
    dedup_window_seconds=72 * HOUR,
    keep_headers=("webhook-id", "webhook-timestamp", "svix-id", "svix-timestamp"),
    credential="whsec_ and base64, as the sender shows it",
    check_secret=_secret,
)
