"""Any HMAC over the body."""

from collections.abc import Sequence

from hookstream.app.providers.plain import named_delivery, named_headers, named_type
from hookstream.app.providers.provider import (
    HOUR,
    Delivery,
    Provider,
    any_secret,
    signed,
)
from hookstream.app.providers.signatures.body_hmac import sign_hmac, verify_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest

__all__ = ["PROVIDER"]

HEADER = "X-Signature"


def _verify(
    request: WebhookRequest, secrets: Sequence[str], options: SignatureOptions, now: float
) -> None:
    verify_hmac(
        request,
        secrets,
        options.header or HEADER,
        prefix=options.prefix,
        algorithm=options.algorithm,
        encoding=options.encoding,
    )


def _sign(hook: Delivery) -> dict[str, str]:
    signature = sign_hmac(hook.body, hook.secret, hook.options.algorithm, hook.options.encoding)
    return named_headers(hook) | {hook.options.header or HEADER: hook.options.prefix + signature}


PROVIDER = Provider(
    name="generic",
    title="Any HMAC over the body",
    verify=_verify,
    event_type=named_type,
    delivery_id=named_delivery,
    sign=signed(_sign),
    dedup_strategy="payload",
    dedup_window_seconds=24 * HOUR,
    credential="the key of the HMAC, as text",
    check_secret=any_secret,
)
