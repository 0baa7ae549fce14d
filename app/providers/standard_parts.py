"""What rows of senders are made of that keep to Standard Webhooks."""

from collections.abc import Sequence

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.provider import Delivery, any_secret, body_type, short_id, signed
from hookstream.app.providers.signatures.digests import check_key
from hookstream.app.providers.signatures.options import (
    DEFAULT_TOLERANCE_SECONDS,
    SignatureOptions,
)
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.standard import (
    sign_standard,
    standard_key,
    verify_standard,
)

__all__ = [
    "KEPT",
    "VERIFIED_BY",
    "WHY",
    "check_standard_secret",
    "standard_delivery",
    "standard_headers",
    "standard_sign",
    "verify_standard_webhook",
]

KEPT = ("webhook-id", "webhook-timestamp")
VERIFIED_BY = (
    "Standard Webhooks: `webhook-signature`, `v1,` and base64 HMAC-SHA256 of `id.time.body`, with "
    "`webhook-id` and `webhook-timestamp`"
)
WHY = "the id is signed, and the same in every retry"


def verify_standard_webhook(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    tolerance = options.tolerance(DEFAULT_TOLERANCE_SECONDS)
    verify_standard(request, secrets, now=now, tolerance_seconds=tolerance)


def standard_delivery(request: WebhookRequest, options: SignatureOptions) -> str:
    return short_id(request.header("webhook-id"))


def check_standard_secret(secret: str, options: SignatureOptions) -> None:
    any_secret(secret, options)
    key = standard_key(secret)
    if key is None:
        raise BadRequestError("what follows whsec_ is not base64")
    check_key(key)


def standard_headers(hook: Delivery, secret_format: str = "") -> dict[str, str]:
    """The headers of a delivery; the secret as :func:`standard_key` has it."""
    return {
        "Content-Type": body_type(hook.body),
        "webhook-id": hook.delivery_id,
        "webhook-timestamp": str(int(hook.now)),
        "webhook-signature": sign_standard(
            hook.body, hook.secret, hook.delivery_id, hook.now, secret_format
        ),
    }


standard_sign = signed(standard_headers)
